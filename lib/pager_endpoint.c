/* SPDX-License-Identifier: MIT */
/* What a pager serves: endpoints come and go while threads are in them. */
#include "pager.h"

#include <stddef.h>
#include <string.h>

#include "alloc.h"
#include "err.h"
#include "gate.h"
#include "opts.h"
#include "range.h"
#include "sys.h"

#define FIRST_ROOM 16
#define LOOK_EVERY UINT64_C(20000000) /* nanoseconds */
#define HEAR_AGAIN UINT64_C(5000000)
#define INDEX(tag) ((uint32_t)((tag)&UINT32_MAX))

/* --- the table ---------------------------------------------------------------------------------------------------------- */

static void claim(struct gmemi_endpoint *endpoint)
{
	atomic_fetch_add(&endpoint->claims, 1);
}

struct gmemi_endpoint *gmemi_endpoint_enter(struct gmem_pager *pager, uint64_t tag)
{
	struct gmemi_endpoint *endpoint = NULL;

	pthread_mutex_lock(&pager->lock);
	if (INDEX(tag) < pager->table_room)
		endpoint = pager->table[INDEX(tag)];
	if (endpoint && endpoint->tag == tag)
		claim(endpoint);
	else
		endpoint = NULL;
	pthread_mutex_unlock(&pager->lock);
	return endpoint;
}

struct gmemi_endpoint *gmemi_endpoint_next(struct gmem_pager *pager, uint32_t *index)
{
	struct gmemi_endpoint *endpoint = NULL;

	pthread_mutex_lock(&pager->lock);
	while (!endpoint && *index < pager->table_room)
		endpoint = pager->table[(*index)++];
	if (endpoint)
		claim(endpoint);
	pthread_mutex_unlock(&pager->lock);
	return endpoint;
}

static struct gmemi_endpoint *find(struct gmem_pager *pager, const struct gmem_uffd *uffd)
{
	struct gmemi_endpoint *endpoint;
	uint32_t index = 0;

	while ((endpoint = gmemi_endpoint_next(pager, &index)) && endpoint->uffd != uffd)
		gmemi_endpoint_leave(endpoint);
	return endpoint;
}

static int make_room(struct gmem_pager *pager)
{
	uint32_t room = pager->table_room ? pager->table_room * 2 : FIRST_ROOM;
	struct gmemi_endpoint **table;

	if (pager->table_count < pager->table_room)
		return 0;
	table = gmemi_alloc(room, sizeof(*table));
	if (!table)
		return -ENOMEM;
	if (pager->table_count)
		memcpy(table, pager->table, pager->table_room * sizeof(*table));
	gmemi_free(pager->table);
	pager->table = table;
	pager->table_room = room;
	return 0;
}

static int enter_table(struct gmem_pager *pager, struct gmemi_endpoint *endpoint)
{
	uint32_t index = 0;
	int r;

	pthread_mutex_lock(&pager->lock);
	r = make_room(pager);
	if (r == 0) {
		while (pager->table[index])
			index++;
		endpoint->tag = (uint64_t)++pager->generation << 32 | index;
		r = gmemi_wait_add(endpoint);
		r = r < 0 ? gmemi_failed(r, "EPOLL_CTL_ADD", "fs.epoll.max_user_watches?") : 0;
	}
	if (r == 0) {
		pager->table[index] = endpoint;
		pager->table_count++;
	} else {
		endpoint->tag = 0;
	}
	pthread_mutex_unlock(&pager->lock);
	return r;
}

/* --- the end ------------------------------------------------------------------------------------------------------------ */

/* An endpoint may come again, or from another pager. */
struct gmemi_past gmemi_endpoint_past(const struct gmemi_endpoint *endpoint)
{
	const struct gmemi_fault_counters *c = &endpoint->uffd->counters;

	return (struct gmemi_past){
		.faults = atomic_load(&c->missing) + atomic_load(&c->minor) - endpoint->before.faults,
		.bytes = atomic_load(&c->bytes) - endpoint->before.bytes,
		.poisoned = atomic_load(&c->poisoned) - endpoint->before.poisoned,
	};
}

static void retire(struct gmemi_endpoint *endpoint)
{
	struct gmemi_past past = gmemi_endpoint_past(endpoint);
	struct gmem_pager *pager = endpoint->pager;

	pthread_mutex_lock(&pager->lock);
	pager->past.faults += past.faults;
	pager->past.bytes += past.bytes;
	pager->past.poisoned += past.poisoned;
	pthread_mutex_unlock(&pager->lock);
}

/* What was read and not resolved stays blocked in the kernel. */
static uint64_t drop_requests(struct gmemi_endpoint *endpoint)
{
	uint64_t pending = 0;

	for (struct gmemi_request *r = endpoint->pending; r; r = r->next) {
		pending += r->faults;
		gmemi_region_release(r->region);
	}
	atomic_fetch_sub(&endpoint->uffd->counters.pending, pending);
	while (endpoint->prefetch_count--) {
		gmemi_region_release(endpoint->prefetches[endpoint->prefetch_first].region);
		endpoint->prefetch_first = (endpoint->prefetch_first + 1) % GMEMI_PREFETCHES;
	}
	return pending;
}

static void free_endpoint(struct gmemi_endpoint *endpoint)
{
	struct gmemi_endpoint_watch *watch = endpoint->watch;
	uint64_t pending;

	gmemi_source_detach(endpoint->source, &endpoint->user);
	retire(endpoint);
	gmemi_forwards_end(endpoint);
	pending = drop_requests(endpoint);
	(void)gmemi_uffd_serve(endpoint->uffd, NULL, endpoint->pager);
	gmemi_uffd_let_go(endpoint->uffd);
	gmemi_source_release(endpoint->source);
	gmemi_free(endpoint);
	if (watch)
		watch->ended(watch, pending);
}

void gmemi_endpoint_leave(struct gmemi_endpoint *endpoint)
{
	uint32_t before = atomic_fetch_sub(&endpoint->claims, 1);

	if (before == (GMEMI_ENDED | 1))
		free_endpoint(endpoint);
	else if (before & GMEMI_ENDED)
		gmemi_sys_wake(&endpoint->claims); /* the address alone: it may be freed by now */
}

bool gmemi_endpoint_end(struct gmemi_endpoint *endpoint)
{
	struct gmem_pager *pager = endpoint->pager;
	bool mine;

	pthread_mutex_lock(&pager->lock);
	mine = pager->table[INDEX(endpoint->tag)] == endpoint;
	if (mine) {
		pager->table[INDEX(endpoint->tag)] = NULL;
		pager->table_count--;
		atomic_fetch_or(&endpoint->claims, GMEMI_ENDED);
		gmemi_wait_remove(endpoint);
	}
	pthread_mutex_unlock(&pager->lock);
	if (!mine)
		return false;
	gmemi_endpoint_changed(endpoint);
	gmemi_endpoint_leave(endpoint); /* the table's claim: the caller has one of its own */
	return true;
}

void gmemi_endpoint_wait_alone(struct gmemi_endpoint *endpoint)
{
	uint32_t claims;

	while ((claims = atomic_load(&endpoint->claims)) != (GMEMI_ENDED | 1))
		(void)gmemi_sys_wait(&endpoint->claims, claims, UINT64_MAX);
}

/* --- news --------------------------------------------------------------------------------------------------------------- */

void gmemi_endpoint_changed(struct gmemi_endpoint *endpoint)
{
	atomic_fetch_add(&endpoint->changes, 1);
	if (endpoint->finishing)
		gmemi_sys_wake(&endpoint->changes);
}

int gmemi_endpoint_tell(struct gmemi_endpoint *endpoint, enum gmem_pager_event_kind kind, const struct gmemi_request *about,
			int error)
{
	struct gmem_pager_event event = { .size = sizeof(event), .uffd = endpoint->uffd, .kind = kind, .error = error };
	struct gmem_pager *pager = endpoint->pager;
	const struct gmem_pager *before;
	int verdict;

	if (!pager->event)
		return GMEM_FAILURE_POISON;
	if (about) {
		event.mem = about->mem;
		event.offset = about->needed;
		event.length = about->needed_length;
	}
	before = gmemi_pager_go_inside(pager);
	verdict = pager->event(pager->user, &event);
	gmemi_pager_go_outside(before);
	return verdict == GMEM_FAILURE_WAIT ? GMEM_FAILURE_WAIT : GMEM_FAILURE_POISON;
}

void gmemi_endpoint_orphaned(struct gmemi_endpoint *endpoint)
{
	if (gmemi_endpoint_end(endpoint))
		gmemi_endpoint_tell(endpoint, GMEM_PAGER_OWNER_GONE, NULL, -ESRCH);
}

uint64_t gmemi_endpoint_empty(struct gmem_uffd *uffd)
{
	return gmemi_uffd_remaining(uffd) / gmemi_sys_page_size();
}

/* Looking costs time, and pages are also discarded, and populated, without a word to the pager. */
void gmemi_endpoint_came(struct gmemi_endpoint *endpoint)
{
	if (endpoint->look_due == UINT64_MAX && !endpoint->complete) {
		endpoint->look_due = gmemi_sys_now() + LOOK_EVERY;
		gmemi_pager_want(endpoint, endpoint->look_due);
	}
}

/* Is it time, and nobody else at it? */
static bool begin_look(struct gmemi_endpoint *endpoint, uint64_t now)
{
	bool begins;

	gmemi_lock(&endpoint->lock);
	begins = endpoint->look_due <= now && !endpoint->looking;
	if (begins) {
		endpoint->look_due = UINT64_MAX;
		endpoint->looking = true;
		if (!endpoint->search.address && !endpoint->search.page)
			endpoint->search_comers = endpoint->comers;
	}
	gmemi_unlock(&endpoint->lock);
	return begins;
}

/* True: all is there now. Nobody may have come to wait since the search began: his page may have been passed before it was given
 * up. */
static bool end_look(struct gmemi_endpoint *endpoint, enum gmemi_found found, uint64_t now)
{
	bool complete = false;

	gmemi_lock(&endpoint->lock);
	endpoint->looking = false;
	if (found == GMEMI_FOUND_NONE && endpoint->search_comers == endpoint->comers)
		complete = !endpoint->complete;
	else if (found != GMEMI_FOUND_SOME)
		endpoint->look_due = gmemi_min(endpoint->look_due, found == GMEMI_FOUND_NONE ? now + LOOK_EVERY : now);
	endpoint->complete |= complete;
	if (!endpoint->complete)
		gmemi_background_resume(endpoint, now);
	gmemi_unlock(&endpoint->lock);
	return complete;
}

void gmemi_endpoint_look(struct gmemi_endpoint *endpoint, uint64_t now)
{
	if (!begin_look(endpoint, now) || !end_look(endpoint, gmemi_uffd_search_empty(endpoint->uffd, &endpoint->search), now))
		return;
	gmemi_endpoint_tell(endpoint, GMEM_PAGER_COMPLETE, NULL, 0);
	gmemi_endpoint_changed(endpoint);
}

void gmemi_endpoint_hear_again(struct gmemi_endpoint *endpoint)
{
	if (!endpoint->deaf || !endpoint->unused || atomic_load(&endpoint->claims) & GMEMI_ENDED)
		return;
	if (endpoint->budget.until && gmemi_budget_is_spent(&endpoint->budget, gmemi_sys_now())) {
		gmemi_pager_want(endpoint, endpoint->budget.until);
		return;
	}
	if (gmemi_uffd_has_untold(endpoint->uffd)) /* the kernel says nothing of what has been read */
		gmemi_pager_want(endpoint, 0);
	if (gmemi_wait_rearm(endpoint) == 0)
		endpoint->deaf = false;
	else
		gmemi_pager_want(endpoint, gmemi_sys_now() + HEAR_AGAIN);
}

void gmemi_endpoint_rearm(struct gmemi_endpoint *endpoint)
{
	gmemi_lock(&endpoint->lock);
	endpoint->deaf = true;
	gmemi_endpoint_hear_again(endpoint);
	gmemi_unlock(&endpoint->lock);
}

/* --- public calls ------------------------------------------------------------------------------------------------------- */

int gmemi_endpoint_check(const struct gmem_pager *pager, const struct gmem_uffd *uffd)
{
	int r = gmemi_pager_check(pager);

	return r < 0 ? r : gmemi_uffd_check(uffd);
}

int gmemi_endpoint_check_waiting(const struct gmem_pager *pager, const struct gmem_uffd *uffd)
{
	int r = gmemi_endpoint_check(pager, uffd);

	return r == 0 && gmemi_pager_is_inside(pager)
		       ? gmemi_refuse(-EDEADLK, "called from a callback of this pager: it would wait for itself")
		       : r;
}

static void fill_in(struct gmemi_endpoint *endpoint, struct gmem_pager *pager, struct gmem_uffd *uffd,
		    struct gmem_source *source, const struct gmem_pager_add_opts *opts)
{
	endpoint->pager = pager;
	endpoint->uffd = uffd;
	endpoint->source = source;
	endpoint->user.deliver = gmemi_endpoint_deliver;
	endpoint->rate = opts->background;
	endpoint->ahead = opts->ahead;
	gmemi_budget_begin(&endpoint->budget, opts->max_faults);
	endpoint->look_due = UINT64_MAX;
	endpoint->before = gmemi_endpoint_past(endpoint);
	atomic_init(&endpoint->due, UINT64_MAX);
	atomic_init(&endpoint->claims, 2); /* the table's, and of whoever adds it */
	gmemi_lock_begin(&endpoint->lock);
	for (int i = 0; i < GMEMI_REQUESTS; i++)
		gmemi_request_put(endpoint, &endpoint->requests[i]);
}

static int begin_serving(struct gmem_pager *pager, struct gmemi_endpoint *endpoint)
{
	int r = enter_table(pager, endpoint);

	if (r < 0)
		return r;
	if (endpoint->rate)
		gmemi_pager_want(endpoint, 0);
	return 0;
}

int gmemi_pager_add(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem_source *source,
		    const struct gmem_pager_add_opts *opts, struct gmemi_endpoint_watch *watch)
{
	struct gmemi_endpoint *endpoint;
	int r;

	if (!gmemi_uffd_serve(uffd, pager, NULL))
		return atomic_load(&uffd->server) == (uintptr_t)pager
			       ? gmemi_refuse(-EEXIST, "the pager serves this endpoint already")
			       : gmemi_refuse(-EBUSY, "another pager serves this endpoint");
	endpoint = gmemi_alloc(1, sizeof(*endpoint));
	if (!endpoint) {
		(void)gmemi_uffd_serve(uffd, NULL, pager);
		return -ENOMEM;
	}
	(void)gmemi_source_claim(source); /* it is not NULL */
	gmemi_uffd_hold(uffd);
	fill_in(endpoint, pager, uffd, source, opts);
	gmemi_source_attach(source, &endpoint->user);
	r = begin_serving(pager, endpoint);
	endpoint->watch = r < 0 ? NULL : watch; /* with the claim of this thread nobody ends it yet */
	if (r < 0 && !endpoint->tag)            /* not in the table: nobody else knows of it */
		atomic_store(&endpoint->claims, GMEMI_ENDED | 1);
	else if (r < 0)
		(void)gmemi_endpoint_end(endpoint);
	gmemi_endpoint_leave(endpoint);
	return r;
}

int gmem_pager_add(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem_source *source,
		   const struct gmem_pager_add_opts *opts)
{
	struct gmem_pager_add_opts o;
	int r;

	GMEMI_CALL();
	r = gmemi_endpoint_check(pager, uffd);
	if (r == 0 && !source)
		r = gmemi_refuse(-EINVAL, "the source is NULL");
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = gmemi_opts_flags(o.flags, 0, "opts->flags");
	return r < 0 ? r : gmemi_pager_add(pager, uffd, source, &o, NULL);
}

static uint64_t count_pending(struct gmemi_endpoint *endpoint)
{
	uint64_t count = 0;

	gmemi_lock(&endpoint->lock);
	for (const struct gmemi_request *r = endpoint->pending; r; r = r->next)
		count += r->faults;
	gmemi_unlock(&endpoint->lock);
	return count;
}

struct gmemi_endpoint *gmemi_endpoint_find(struct gmem_pager *pager, const struct gmem_uffd *uffd, int *r)
{
	struct gmemi_endpoint *endpoint = find(pager, uffd);

	if (!endpoint)
		*r = gmemi_refuse(-ENOENT, "the pager does not serve this endpoint");
	return endpoint;
}

int gmem_pager_remove(struct gmem_pager *pager, struct gmem_uffd *uffd, uint64_t *pending)
{
	struct gmemi_endpoint *endpoint;
	int r;

	GMEMI_CALL();
	r = gmemi_endpoint_check_waiting(pager, uffd);
	endpoint = r < 0 ? NULL : gmemi_endpoint_find(pager, uffd, &r);
	if (!endpoint)
		return r;
	if (!gmemi_endpoint_end(endpoint))
		r = gmemi_refuse(-ENOENT, "the endpoint has just been let go");
	else
		gmemi_endpoint_wait_alone(endpoint);
	if (r == 0 && pending)
		*pending = count_pending(endpoint);
	gmemi_endpoint_leave(endpoint);
	return r;
}

void gmemi_pager_drop(struct gmem_pager *pager, const struct gmem_uffd *uffd)
{
	struct gmemi_endpoint *endpoint = find(pager, uffd);

	if (!endpoint)
		return;
	(void)gmemi_endpoint_end(endpoint);
	gmemi_endpoint_leave(endpoint);
}
