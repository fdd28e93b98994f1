/* SPDX-License-Identifier: MIT */
/* Making, starting and stopping a pager. */
#include "pager.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"

#define DEADLINE UINT64_C(10000000000)
#define MOST_THREADS 64
#define MOST_WORDS 1024
#define LARGEST_AROUND (UINT64_C(2) << 20)

int gmemi_pager_check(const struct gmem_pager *pager)
{
	if (!pager)
		return gmemi_refuse(-EINVAL, "the pager is NULL");
	return pager->process == gmemi_sys_process()
		       ? 0
		       : gmemi_refuse(-ESTALE, "the handle was made before fork: make a new one in the child");
}

/* For calls that wait for its threads. */
static int check_waiting(const struct gmem_pager *pager)
{
	int r = gmemi_pager_check(pager);

	return r == 0 && gmemi_pager_is_inside(pager)
		       ? gmemi_refuse(-EDEADLK, "called from a callback of this pager: it would wait for itself")
		       : r;
}

/* --- create and destroy ------------------------------------------------------------------------------------------------- */

static bool is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

static int check_opts(const struct gmem_pager_create_opts *o)
{
	int r = gmemi_opts_flags(o->flags, 0, "opts->flags");

	if (r == 0)
		r = gmemi_opts_reserved(o->reserved);
	if (r < 0)
		return r;
	if (o->threads > MOST_THREADS)
		return gmemi_refuse(-EINVAL, "opts->threads %u is above %d", o->threads, MOST_THREADS);
	if (o->around_mode > GMEM_AROUND_FIXED)
		return gmemi_refuse(-EINVAL, "opts->around_mode %u is unknown", o->around_mode);
	if (o->around_mode == GMEM_AROUND_FIXED ? !is_power_of_two(o->around) || o->around > LARGEST_AROUND : o->around != 0)
		return gmemi_refuse(-EINVAL, "opts->around %llu: a power of two, 2 MiB at most, with GMEM_AROUND_FIXED; else 0",
				    (unsigned long long)o->around);
	if ((o->cpus == NULL) != (o->cpu_words == 0) || o->cpu_words > MOST_WORDS)
		return gmemi_refuse(-EINVAL, "opts->cpus and opts->cpu_words (1 to %d) come together", MOST_WORDS);
	return 0;
}

static int copy_cpus(struct gmem_pager *pager, const struct gmem_pager_create_opts *o)
{
	if (!o->cpus)
		return 0;
	pager->cpus = gmemi_alloc(o->cpu_words, sizeof(*pager->cpus));
	if (!pager->cpus)
		return -ENOMEM;
	memcpy(pager->cpus, o->cpus, o->cpu_words * sizeof(*pager->cpus));
	pager->cpu_words = o->cpu_words;
	return 0;
}

static int open_fds(struct gmem_pager *pager)
{
	int r;

	pager->timer = gmemi_sys_timer();
	pager->wakeup = gmemi_sys_eventfd();
	r = pager->timer < 0 ? pager->timer : pager->wakeup;
	if (r >= 0)
		r = gmemi_wait_begin(pager, &pager->epoll);
	return r < 0 ? gmemi_failed(r, "making what the pager waits on", NULL) : 0;
}

static void free_pager(struct gmem_pager *pager)
{
	gmemi_sys_close(pager->epoll);
	gmemi_sys_close(pager->timer);
	gmemi_sys_close(pager->wakeup);
	gmemi_free(pager->cpus);
	gmemi_free(pager->table);
	gmemi_free(pager);
}

static void fill_in(struct gmem_pager *pager, const struct gmem_pager_create_opts *o)
{
	pager->deadline_ns = o->deadline_ns ? o->deadline_ns : DEADLINE;
	pager->around = o->around;
	pager->around_mode = (enum gmem_around)o->around_mode;
	pager->threads = o->threads ? o->threads : 1;
	pager->event = o->event;
	pager->user = o->user;
	pager->process = gmemi_sys_process();
	pager->epoll = pager->timer = pager->wakeup = -1;
	atomic_init(&pager->armed, UINT64_MAX);
	pthread_mutex_init(&pager->timer_lock, NULL);
	pthread_mutex_init(&pager->stop_lock, NULL);
	pthread_mutex_init(&pager->lock, NULL);
}

static int create(struct gmem_pager **result, const struct gmem_pager_create_opts *o)
{
	struct gmem_pager *pager = gmemi_alloc(1, sizeof(*pager));
	int r;

	if (!pager)
		return -ENOMEM;
	fill_in(pager, o);
	r = copy_cpus(pager, o);
	if (r == 0)
		r = open_fds(pager);
	if (r < 0)
		free_pager(pager);
	else
		*result = pager;
	return r;
}

int gmem_pager_create(struct gmem_pager **pager, const struct gmem_pager_create_opts *opts)
{
	struct gmem_pager_create_opts o;
	int r;

	GMEMI_CALL();
	if (!pager)
		return gmemi_refuse(-EINVAL, "pager is NULL");
	r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_opts(&o);
	return r < 0 ? r : create(pager, &o);
}

/* --- start and stop ----------------------------------------------------------------------------------------------------- */

static void want_all(struct gmem_pager *pager)
{
	struct gmemi_endpoint *endpoint;
	uint32_t index = 0;

	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		gmemi_pager_want(endpoint, 0);
		gmemi_endpoint_leave(endpoint);
	}
}

/* As many threads as can be had, one at least. */
static int start(struct gmem_pager *pager)
{
	int r = 0;

	if (gmemi_sys_affinity(0, pager->home, GMEMI_CPU_WORDS) < 0)
		memset(pager->home, 0xff, sizeof(pager->home)); /* the kernel takes off what there is not */
	pthread_mutex_lock(&pager->lock);
	while (r == 0 && pager->own_threads < pager->threads)
		r = gmemi_seat_start(pager);
	pager->started = pager->own_threads != 0;
	if (pager->started && r < 0)
		gmemi_tolerated();
	pthread_mutex_unlock(&pager->lock);
	if (!pager->started)
		return r;
	if (r < 0)
		gmemi_note(GMEM_LOG_WARNING, "gmem_pager_start: fewer threads than asked for: %u of %u", pager->own_threads,
			   pager->threads);
	want_all(pager);
	return 0;
}

int gmem_pager_start(struct gmem_pager *pager)
{
	int r;

	GMEMI_CALL();
	r = check_waiting(pager);
	if (r < 0)
		return r;
	pthread_mutex_lock(&pager->stop_lock);
	r = pager->started ? 0 : start(pager);
	pthread_mutex_unlock(&pager->stop_lock);
	return r;
}

static uint64_t count_queued(struct gmem_pager *pager)
{
	struct gmemi_endpoint *endpoint;
	uint64_t queued = 0;
	uint32_t index = 0;

	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		queued += atomic_load_explicit(&endpoint->uffd->counters.pending, memory_order_relaxed);
		gmemi_endpoint_leave(endpoint);
	}
	return queued;
}

/* Those who wait in gmem_pager_finish(). */
static void tell_all(struct gmem_pager *pager)
{
	struct gmemi_endpoint *endpoint;
	uint32_t index = 0;

	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		gmemi_endpoint_changed(endpoint);
		gmemi_endpoint_leave(endpoint);
	}
}

static void join_own(struct gmem_pager *pager)
{
	struct gmemi_seat *seat;

	while ((seat = pager->own_seats)) { /* nobody makes any while it stops */
		pager->own_seats = seat->next;
		gmemi_sys_join(seat->thread);
		gmemi_seat_free(seat);
	}
	pthread_mutex_lock(&pager->lock);
	pager->own_threads = 0;
	pager->started = false;
	pthread_mutex_unlock(&pager->lock);
}

static void stop(struct gmem_pager *pager)
{
	uint32_t left;

	pthread_mutex_lock(&pager->lock); /* after it no thread is made any more */
	atomic_store(&pager->stopping, true);
	pthread_mutex_unlock(&pager->lock);
	gmemi_sys_eventfd_raise(pager->wakeup);
	tell_all(pager);
	while ((left = atomic_load(&pager->inside)))
		(void)gmemi_sys_wait(&pager->inside, left, UINT64_MAX);
	join_own(pager);
	gmemi_sys_eventfd_lower(pager->wakeup);
	atomic_store(&pager->stopping, false);
}

int gmem_pager_stop(struct gmem_pager *pager, uint64_t *pending)
{
	int r;

	GMEMI_CALL();
	r = check_waiting(pager);
	if (r < 0)
		return r;
	pthread_mutex_lock(&pager->stop_lock);
	stop(pager);
	if (pending)
		*pending = count_queued(pager);
	pthread_mutex_unlock(&pager->stop_lock);
	return 0;
}

static void end_all(struct gmem_pager *pager)
{
	struct gmemi_endpoint *endpoint;
	uint32_t index = 0;

	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		(void)gmemi_endpoint_end(endpoint);
		gmemi_endpoint_leave(endpoint);
	}
}

void gmem_pager_destroy(struct gmem_pager *pager)
{
	struct gmemi_seat *seat;

	GMEMI_CALL();
	if (!pager)
		return;
	if (gmemi_pager_is_inside(pager)) {
		gmemi_note(GMEM_LOG_ERROR, "gmem_pager_destroy: called from a callback of the pager: it stays");
		return;
	}
	if (pager->process == gmemi_sys_process()) {
		stop(pager);
		end_all(pager);
		while ((seat = pager->seats)) {
			pager->seats = seat->next;
			gmemi_seat_free(seat);
		}
	}
	free_pager(pager);
}

/* --- lent threads ------------------------------------------------------------------------------------------------------- */

void gmemi_pager_come_in(struct gmem_pager *pager)
{
	atomic_fetch_add(&pager->inside, 1);
}

void gmemi_pager_go(struct gmem_pager *pager)
{
	if (atomic_fetch_sub(&pager->inside, 1) == 1 && atomic_load(&pager->stopping))
		gmemi_sys_wake(&pager->inside);
}

static int serve_until(struct gmemi_seat *seat, uint64_t timeout_ns)
{
	uint64_t begun = timeout_ns && timeout_ns != GMEM_FOREVER ? gmemi_sys_now() : 0, passed = 0;
	int r;

	do {
		r = gmemi_pager_turn(seat, timeout_ns == GMEM_FOREVER ? timeout_ns : timeout_ns - passed);
		if (timeout_ns && timeout_ns != GMEM_FOREVER)
			passed = gmemi_sys_now() - begun;
	} while ((r == 0 && passed < timeout_ns) || (r > 0 && timeout_ns == GMEM_FOREVER));
	if (r == -ESHUTDOWN)
		return gmemi_refuse(r, "the pager was stopped");
	return r < 0 ? gmemi_failed(r, "epoll_wait()", NULL) : r;
}

int gmem_pager_run(struct gmem_pager *pager, uint64_t timeout_ns)
{
	struct gmemi_seat *seat;
	int r;

	GMEMI_CALL();
	r = check_waiting(pager);
	if (r < 0)
		return r;
	seat = gmemi_seat_take(pager);
	if (!seat)
		return -ENOMEM;
	gmemi_pager_come_in(pager);
	r = serve_until(seat, timeout_ns);
	gmemi_seat_give(seat);
	gmemi_pager_go(pager);
	return r;
}

/* --- looking ------------------------------------------------------------------------------------------------------------ */

int gmem_pager_get_fd(const struct gmem_pager *pager)
{
	int r;

	GMEMI_CALL();
	r = gmemi_pager_check(pager);
	return r < 0 ? r : pager->epoll;
}

static void add_up(struct gmem_pager *pager, struct gmem_pager_info *now)
{
	struct gmemi_endpoint *endpoint;
	uint32_t index = 0;

	pthread_mutex_lock(&pager->lock);
	now->endpoints = pager->table_count;
	now->threads = pager->own_threads;
	now->faults = pager->past.faults;
	now->bytes = pager->past.bytes;
	now->poisoned = pager->past.poisoned;
	pthread_mutex_unlock(&pager->lock);
	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		struct gmemi_past past = gmemi_endpoint_past(endpoint);

		now->queued += atomic_load_explicit(&endpoint->uffd->counters.pending, memory_order_relaxed);
		now->faults += past.faults;
		now->bytes += past.bytes;
		now->poisoned += past.poisoned;
		gmemi_endpoint_leave(endpoint);
	}
	now->busy_ns = atomic_load_explicit(&pager->busy_ns, memory_order_relaxed);
}

int gmem_pager_query(const struct gmem_pager *pager, struct gmem_pager_info *info)
{
	struct gmem_pager_info now = { 0 };
	int r;

	GMEMI_CALL();
	r = gmemi_pager_check(pager);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	add_up((struct gmem_pager *)(uintptr_t)pager, &now); /* const to the caller: it stays as it is */
	gmemi_info_out(info, &now, sizeof(now));
	return 0;
}
