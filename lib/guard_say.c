/* SPDX-License-Identifier: MIT */
/* What the pager is asked, and its answers. */
#include "guard.h"

#include <sys/epoll.h>

#include "err.h"

/* --- saying ------------------------------------------------------------------------------------------------------------- */

void gmemi_guard_want_room(struct gmem_guard *guard)
{
	bool wanted = guard->channel->out_have;
	int r;

	if (wanted == guard->wants_room)
		return;
	r = gmemi_sys_epoll_change(guard->epoll, guard->channel->fd, EPOLLIN | (wanted ? EPOLLOUT : 0), 0);
	if (r == 0)
		guard->wants_room = wanted;
}

/* Before the lock, which whoever attaches a pager holds for as long as that takes. */
static int check_attached(const struct gmem_guard *guard)
{
	int r = gmemi_guard_check(guard);

	if (r < 0)
		return r;
	if (atomic_load(&guard->state) != GMEM_GUARD_ATTACHED)
		return gmemi_refuse(-ENOTCONN, "no pager is attached");
	return atomic_load(&guard->firecracker)
		       ? gmemi_refuse(-EOPNOTSUPP, "with the protocol of Firecracker a pager cannot be asked anything")
		       : 0;
}

/* The lock is held. A connection that fails is heard of by gmem_guard_run() too. */
static int post(struct gmem_guard *guard, struct gmemi_wire *wire)
{
	int r;

	if (!guard->channel || guard->released)
		return gmemi_refuse(-ENOTCONN, "the pager has just gone");
	r = gmemi_channel_post(guard->channel, wire);
	if (r == 0)
		gmemi_guard_want_room(guard);
	else if (r != -EAGAIN)
		gmemi_guard_lose(guard);
	return r;
}

/* --- statistics --------------------------------------------------------------------------------------------------------- */

int gmemi_guard_count(struct gmem_guard *guard, const struct gmemi_wire *wire)
{
	struct gmemi_wire_statistic item;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < wire->item_count; i++) {
		r = gmemi_wire_item(wire, i, &item);
		if (r == 0 && item.what < GMEMI_GUARD_COUNTERS)
			atomic_store(&guard->counters[item.what], item.value);
	}
	if (r < 0)
		return r;
	atomic_fetch_add(&guard->answers, 1);
	guard->counted = true;
	return 0;
}

void gmemi_guard_count_anew(struct gmem_guard *guard)
{
	atomic_store(&guard->answers, 0);
	for (uint32_t i = 0; i < GMEMI_GUARD_COUNTERS; i++)
		atomic_store(&guard->counters[i], 0);
}

int gmem_guard_ask(struct gmem_guard *guard)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ASK_STATISTICS };
	int r;

	GMEMI_CALL();
	r = check_attached(guard);
	if (r < 0)
		return r;
	pthread_mutex_lock(&guard->lock);
	wire.end.endpoint = guard->endpoint;
	r = post(guard, &wire);
	pthread_mutex_unlock(&guard->lock);
	return r;
}
