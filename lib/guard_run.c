/* SPDX-License-Identifier: MIT */
/* What becomes of the pager. */
#include "guard.h"

#include <sys/epoll.h>

#include "err.h"

#define GRACE UINT64_C(1000000000) /* nanoseconds from the end of the connection to that of the process */
#define BATCH 16
#define BATCHES 64 /* of events in one turn */

/* What one turn has to tell. */
struct news {
	enum gmem_guard_event events[GMEMI_GUARD_NEWS];
	int count;
	struct gmemi_guard_fault *faults; /* that are done */
};

static _Thread_local const struct gmem_guard *inside;

int gmemi_guard_notice(void *user, struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	struct gmem_guard *guard = user;

	(void)channel;
	if (wire->type == GMEMI_WIRE_RELEASE && wire->release.endpoint == guard->endpoint)
		guard->released = true;
	if (wire->type == GMEMI_WIRE_STATISTICS && wire->end.endpoint == guard->endpoint)
		return gmemi_guard_count(guard, wire);
	if (wire->type == GMEMI_WIRE_FAULT_DONE)
		gmemi_guard_fault_done(guard, &wire->fault_done);
	return 0;
}

/* --- fds ---------------------------------------------------------------------------------------------------------------- */

/* The guard's channel, or leaver. */
static void close_channel(struct gmem_guard *guard, struct gmem_channel **channel)
{
	if (!*channel)
		return;
	(void)gmemi_sys_epoll_remove(guard->epoll, (*channel)->fd); /* the program may have the channel, and its fd, on */
	(*channel)->notify = NULL;
	gmemi_channel_release(*channel);
	*channel = NULL;
}

static void close_pidfd(struct gmem_guard *guard)
{
	if (guard->pidfd < 0)
		return;
	(void)gmemi_sys_epoll_remove(guard->epoll, guard->pidfd);
	gmemi_sys_close(guard->pidfd);
	guard->pidfd = -1;
}

void gmemi_guard_forget_pager(struct gmem_guard *guard)
{
	close_channel(guard, &guard->channel);
	close_channel(guard, &guard->leaver);
	close_pidfd(guard);
}

/* --- in the place of a pager -------------------------------------------------------------------------------------------- */

void gmemi_guard_drain(struct gmem_guard *guard, bool on)
{
	int r = 0;

	if (on && !guard->drains)
		r = gmemi_sys_epoll_add(guard->epoll, guard->uffd->fd, EPOLLIN, 0);
	else if (!on && guard->drains)
		(void)gmemi_sys_epoll_remove(guard->epoll, guard->uffd->fd);
	guard->drains = on && r == 0; /* where it cannot, madvise() waits for a pager, as it may */
}

/* Page faults are dropped: who waits asks again when a pager comes. */
static void read_events(struct gmem_guard *guard)
{
	struct gmem_fault faults[BATCH];
	int r = 1;

	for (int i = 0; guard->drains && r > 0 && i < BATCHES; i++)
		r = gmemi_uffd_read(guard->uffd, faults, BATCH);
	if (r < 0) {
		gmemi_tolerated();
		gmemi_guard_drain(guard, false);
	}
}

/* --- the end of a pager ------------------------------------------------------------------------------------------------- */

static void add_news(struct news *news, enum gmem_guard_event event)
{
	if (news->count < GMEMI_GUARD_NEWS)
		news->events[news->count++] = event;
}

static void become(struct gmem_guard *guard, enum gmem_guard_event event, struct news *news)
{
	atomic_store(&guard->state, event);
	add_news(news, event);
	if (event == GMEM_GUARD_SILENT)
		return;
	gmemi_guard_fail_faults(guard);
	gmemi_guard_forget_pager(guard);
	guard->lost = false;
	gmemi_guard_drain(guard, true);
}

/* The timer makes the fd readable, at once where all is known, or there are faults to be told. */
static void begin_grace(struct gmem_guard *guard)
{
	uint64_t now = gmemi_sys_now();

	gmemi_guard_fail_faults(guard);
	guard->lost = true;
	guard->grace_end = now + (guard->pidfd < 0 ? 0 : GRACE);
	(void)gmemi_sys_timer_set(guard->timer, guard->done_faults ? now : guard->grace_end);
}

void gmemi_guard_lose(struct gmem_guard *guard)
{
	close_channel(guard, &guard->channel);
	atomic_fetch_add(&guard->deaths, 1);
	begin_grace(guard);
}

void gmemi_guard_part(struct gmem_guard *guard)
{
	guard->leaver = guard->channel;
	guard->channel = NULL;
	gmemi_guard_want_room(guard, guard->leaver); /* DETACH may wait for it */
	begin_grace(guard);
}

static bool is_late(struct gmem_guard *guard)
{
	bool late = guard->lost && gmemi_sys_now() >= guard->grace_end;

	if (gmemi_sys_timer_take(guard->timer) && guard->lost && !late)
		(void)gmemi_sys_timer_set(guard->timer, guard->grace_end);
	return late;
}

static void hear(struct gmem_guard *guard)
{
	int r = guard->channel ? gmemi_channel_attend(guard->channel) : 0;

	if (r == 0 && guard->channel)
		gmemi_guard_want_room(guard, guard->channel);
	if (guard->released || r == 0)
		return;
	gmemi_tolerated();
	gmemi_guard_lose(guard);
}

/* Whoever has taken the endpoint before it refuses something may still be at it. */
static void hear_leaver(struct gmem_guard *guard)
{
	int r = guard->leaver ? gmemi_channel_attend(guard->leaver) : 0;

	if (r == 0 && guard->leaver)
		gmemi_guard_want_room(guard, guard->leaver);
	if (r == 0)
		return;
	gmemi_tolerated();
	guard->released = guard->released || gmemi_channel_has_refused(guard->leaver);
	if (guard->released)
		return;
	close_channel(guard, &guard->leaver);
	atomic_fetch_add(&guard->deaths, 1);
}

static void look_at_process(struct gmem_guard *guard)
{
	if (guard->pidfd < 0 || gmemi_sys_wait_socket(guard->pidfd, false, 0) < 0)
		return;
	guard->dead = true;
	close_pidfd(guard);
}

static void settle(struct gmem_guard *guard, struct news *news)
{
	bool late = is_late(guard);

	hear(guard);
	hear_leaver(guard);
	if (guard->counted)
		add_news(news, GMEM_GUARD_STATISTICS);
	guard->counted = false;
	look_at_process(guard);
	if (guard->released && (guard->channel || guard->leaver))
		become(guard, GMEM_GUARD_RELEASED, news);
	else if (guard->lost && guard->dead && !guard->leaver)
		become(guard, GMEM_GUARD_DEAD, news);
	else if (guard->lost && late && atomic_load(&guard->state) != GMEM_GUARD_SILENT)
		become(guard, GMEM_GUARD_SILENT, news);
	news->faults = guard->done_faults;
	guard->done_faults = NULL;
	read_events(guard);
}

/* --- the call ----------------------------------------------------------------------------------------------------------- */

static int tell(const struct gmem_guard *guard, const struct news *news)
{
	const struct gmem_guard *before = inside;
	int count = news->count;

	inside = guard;
	for (int i = 0; guard->event && i < news->count; i++)
		(void)guard->event(guard->user, news->events[i]);
	for (struct gmemi_guard_fault *fault = news->faults; fault; fault = fault->next, count++)
		guard->done(guard->user, fault->cookie, fault->result);
	inside = before;
	gmemi_guard_free_faults(news->faults);
	return count;
}

static int wait_for_news(struct gmem_guard *guard, uint64_t timeout_ns, struct news *news)
{
	struct epoll_event event;
	int r = gmemi_sys_epoll_wait(guard->epoll, &event, 1, timeout_ns);

	if (r <= 0)
		return r < 0 ? gmemi_failed(r, "epoll_wait()", NULL) : 0;
	pthread_mutex_lock(&guard->lock);
	settle(guard, news);
	pthread_mutex_unlock(&guard->lock);
	return 1;
}

/* What woke it may be nothing to tell. */
static int run(struct gmem_guard *guard, uint64_t timeout_ns, struct news *news)
{
	uint64_t begun = gmemi_sys_now(), passed = 0;
	int r = 1;

	while (r == 1 && !news->count && !news->faults && passed <= timeout_ns) {
		r = wait_for_news(guard, timeout_ns == GMEM_FOREVER ? timeout_ns : timeout_ns - passed, news);
		if (timeout_ns != GMEM_FOREVER)
			passed = timeout_ns ? gmemi_sys_now() - begun : 1;
	}
	return r < 0 ? r : 0;
}

int gmem_guard_run(struct gmem_guard *guard, uint64_t timeout_ns)
{
	struct news news = { .count = 0 };
	int r;

	GMEMI_CALL();
	r = gmemi_guard_check(guard);
	if (r == 0 && inside == guard)
		r = gmemi_refuse(-EDEADLK, "called from the guard's own callback");
	if (r == 0)
		r = run(guard, timeout_ns, &news);
	return r < 0 ? r : tell(guard, &news);
}
