/* SPDX-License-Identifier: MIT */
/* Turns: waiting for events, of which time is one, and handing them out. */
#include "pager.h"

#include <sys/epoll.h>

#include "err.h"
#include "range.h"
#include "sys.h"

#define INDEX_OF(endpoint) ((uint32_t)((endpoint)->tag & UINT32_MAX))
#define TRY_EVERY 64 /* faults */
#define EAGER 4
#define AT_ONCE 16 /* faults of one endpoint, before the others are looked at; or, where there are none, time */
#define AT_ONCE_ALONE 64
#define EVENTS 8   /* that a thread takes at a time, when it is the only one */

/* The pager whose work the thread is in: from there nobody may wait for the pager. */
static _Thread_local const struct gmem_pager *inside;

bool gmemi_pager_is_inside(const struct gmem_pager *pager)
{
	return inside == pager;
}

const struct gmem_pager *gmemi_pager_go_inside(const struct gmem_pager *pager)
{
	const struct gmem_pager *before = inside;

	inside = pager;
	return before;
}

void gmemi_pager_go_outside(const struct gmem_pager *before)
{
	inside = before;
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

static void arm(struct gmem_pager *pager, uint64_t when)
{
	if (when >= atomic_load(&pager->armed))
		return;
	pthread_mutex_lock(&pager->timer_lock);
	if (when < atomic_load(&pager->armed)) {
		atomic_store(&pager->armed, when);
		/* No kernel has a reason to fail there twice. */
		if (gmemi_sys_timer_set(pager->timer, when) < 0 && gmemi_sys_timer_set(pager->timer, when) < 0)
			atomic_store(&pager->armed, UINT64_MAX); /* the next who wants it tries again */
	}
	pthread_mutex_unlock(&pager->timer_lock);
}

void gmemi_pager_want(struct gmemi_endpoint *endpoint, uint64_t when)
{
	uint64_t due = atomic_load(&endpoint->due);

	while (when < due && !atomic_compare_exchange_weak(&endpoint->due, &due, when))
		;
	if (when < due)
		arm(endpoint->pager, when);
}

/* What it will want next. */
static void want_next(struct gmemi_endpoint *endpoint)
{
	uint64_t when;

	gmemi_lock(&endpoint->lock);
	when = gmemi_background_due(endpoint);
	if (!endpoint->looking) /* else whoever looks comes by here when he has done it */
		when = gmemi_min(when, endpoint->look_due);
	for (const struct gmemi_request *r = endpoint->pending; r; r = r->next) {
		if (r->state == GMEMI_REQUEST_RETRY || r->state == GMEMI_REQUEST_RESOLVE)
			when = gmemi_min(when, r->due);
		else if (r->state != GMEMI_REQUEST_PARKED)
			when = gmemi_min(when, r->deadline);
	}
	gmemi_unlock(&endpoint->lock);
	gmemi_pager_want(endpoint, when);
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

/* Whoever is woken on the same CPU runs at once, and may have faulted anew before this thread is back: then looking is cheaper
 * than waiting. Where that was seen it is done; where it was not, it is tried once in a while. */
static bool is_worth_a_look(struct gmemi_seat *seat)
{
	if (!seat->eager && seat->faults % TRY_EVERY == 0)
		seat->eager = 1;
	return seat->eager;
}

/* Everything that has been read is served before the source may hold this thread up: nobody would be woken for it. */
static int serve_eagerly(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint)
{
	int done = 0, more = 0, most = atomic_load(&seat->pager->table_count) > 1 ? AT_ONCE : AT_ONCE_ALONE;
	struct gmemi_spares spares = { .count = 0 };
	bool drained = false;

	for (int i = 0; i < most || gmemi_uffd_has_untold(endpoint->uffd); i++) {
		bool looks = drained;

		more = gmemi_endpoint_serve(seat, endpoint, &spares, &drained);
		done += more;
		if (looks)
			seat->eager = more ? EAGER : seat->eager - 1;
		if (drained && (!more || gmemi_request_is_queued(endpoint) || !is_worth_a_look(seat)))
			break;
	}
	gmemi_endpoint_put_spares(endpoint, &spares);
	if (!drained || (!done && seat->epoll < 0)) /* woken for what was not there, and no other thread was: asked again */
		gmemi_endpoint_rearm(endpoint);
	gmemi_request_run_queue(seat, endpoint);
	return done;
}

static void serve_time(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, uint64_t now)
{
	atomic_store(&endpoint->due, UINT64_MAX);
	gmemi_lock(&endpoint->lock);
	gmemi_request_drop_gone(endpoint);
	gmemi_endpoint_hear_again(endpoint);
	gmemi_unlock(&endpoint->lock);
	if (gmemi_uffd_has_untold(endpoint->uffd))
		(void)serve_eagerly(seat, endpoint);
	gmemi_forwards_step(seat, endpoint, now);
	gmemi_endpoint_look(endpoint, now);
	gmemi_request_run_due(endpoint, now);
	want_next(endpoint); /* a source may block this thread */
	gmemi_request_run_queue(seat, endpoint);
	gmemi_background_step(seat, endpoint, now);
	want_next(endpoint);
}

/* One endpoint that is due, so that whoever has faulted meanwhile need not wait for all of them; they take turns. */
static int take_timer(struct gmemi_seat *seat)
{
	struct gmem_pager *pager = seat->pager;
	uint64_t now = gmemi_sys_now(), next = UINT64_MAX;
	struct gmemi_endpoint *endpoint, *first = NULL;
	uint32_t index = 0, last = atomic_load(&pager->last_timed);

	if (!gmemi_sys_timer_take(pager->timer))
		return 0; /* another thread has it */
	atomic_store(&pager->armed, UINT64_MAX);
	while ((endpoint = gmemi_endpoint_next(pager, &index))) {
		bool due = atomic_load(&endpoint->due) <= now;

		if (due && (!first || (INDEX_OF(first) <= last && INDEX_OF(endpoint) > last))) {
			struct gmemi_endpoint *other = first;

			first = endpoint;
			endpoint = other;
		}
		if (!endpoint)
			continue;
		next = gmemi_min(next, atomic_load(&endpoint->due));
		gmemi_endpoint_leave(endpoint);
	}
	if (first) {
		atomic_store(&pager->last_timed, INDEX_OF(first));
		serve_time(seat, first, now);
		gmemi_endpoint_leave(first);
	}
	arm(pager, next);
	return first != NULL;
}

static int serve_event(struct gmemi_seat *seat, uint64_t tag)
{
	struct gmemi_endpoint *endpoint;
	int done;

	if (tag == GMEMI_TAG_WAKEUP)
		return 0;
	if (tag == GMEMI_TAG_TIMER)
		return take_timer(seat);
	endpoint = gmemi_endpoint_enter(seat->pager, tag);
	if (!endpoint)
		return 0;
	done = serve_eagerly(seat, endpoint);
	gmemi_endpoint_leave(endpoint);
	return done;
}

/* Faults before time: somebody waits for them. */
static int serve_all(struct gmemi_seat *seat, const struct epoll_event *events, int count)
{
	int done = 0;

	for (int i = 0; i < count; i++)
		if (events[i].data.u64 != GMEMI_TAG_TIMER)
			done += serve_event(seat, events[i].data.u64);
	for (int i = 0; i < count; i++)
		if (events[i].data.u64 == GMEMI_TAG_TIMER)
			done += serve_event(seat, events[i].data.u64);
	return done;
}

int gmemi_pager_turn(struct gmemi_seat *seat, uint64_t timeout_ns)
{
	struct gmem_pager *pager = seat->pager;
	struct epoll_event events[EVENTS];
	const struct gmem_pager *before;
	uint64_t begun;
	int count, done;

	if (atomic_load(&pager->stopping))
		return -ESHUTDOWN;
	count = gmemi_sys_epoll_wait(gmemi_wait_on(seat), events, pager->threads > 1 ? 1 : EVENTS, timeout_ns);
	if (count <= 0)
		return count;
	before = gmemi_pager_go_inside(pager);
	begun = gmemi_sys_now();
	done = serve_all(seat, events, count);
	atomic_fetch_add_explicit(&pager->busy_ns, gmemi_sys_now() - begun, memory_order_relaxed);
	gmemi_pager_go_outside(before);
	return atomic_load(&pager->stopping) ? -ESHUTDOWN : done;
}
