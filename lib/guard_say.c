/* SPDX-License-Identifier: MIT */
/* What the pager is asked, and its answers. */
#include "guard.h"

#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"

/* --- saying ------------------------------------------------------------------------------------------------------------- */

void gmemi_guard_want_room(struct gmem_guard *guard, const struct gmem_channel *channel)
{
	bool wanted = channel->out_have;
	int r;

	if (wanted == guard->wants_room)
		return;
	r = gmemi_sys_epoll_change(guard->epoll, channel->fd, EPOLLIN | (wanted ? EPOLLOUT : 0), 0);
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
	if (r == 0) {
		gmemi_guard_want_room(guard, guard->channel);
	} else if (r != -EAGAIN) {
		(void)gmemi_channel_break(guard->channel, r);
		gmemi_guard_lose(guard);
	}
	return r;
}

/* --- faults ------------------------------------------------------------------------------------------------------------- */

void gmemi_guard_free_faults(struct gmemi_guard_fault *faults)
{
	struct gmemi_guard_fault *next;

	for (; faults; faults = next) {
		next = faults->next;
		gmemi_free(faults);
	}
}

static void finish(struct gmem_guard *guard, struct gmemi_guard_fault **place, int result)
{
	struct gmemi_guard_fault *fault = *place;

	*place = fault->next;
	fault->result = result;
	fault->next = guard->done_faults;
	guard->done_faults = fault;
	guard->fault_count--;
}

void gmemi_guard_fault_done(struct gmem_guard *guard, const struct gmemi_wire_fault_done *done)
{
	struct gmemi_guard_fault **place = &guard->faults;

	while (*place && (*place)->number != done->cookie)
		place = &(*place)->next;
	if (*place)
		finish(guard, place, gmemi_channel_error(done->code));
}

void gmemi_guard_fail_faults(struct gmem_guard *guard)
{
	while (guard->faults)
		finish(guard, &guard->faults, -ENOTCONN);
}

static int check_fault(const struct gmem_guard *guard, const struct gmem *mem, uint64_t offset, uint64_t length)
{
	int r = check_attached(guard);

	if (r < 0)
		return r;
	if (!guard->done)
		return gmemi_refuse(-EINVAL, "the guard has no callback for it: opts->done of gmem_guard_create()");
	if (length > GMEMI_WIRE_LENGTH)
		return gmemi_refuse(-EINVAL, "the length is beyond what the protocol can say");
	if (mem)
		r = gmemi_memory_check(mem);
	return r < 0 ? r : gmemi_range_check(offset, length, 1, mem ? mem->length : UINT64_MAX);
}

/* The lock is held. */
static int forward(struct gmem_guard *guard, struct gmemi_wire *wire, struct gmemi_guard_fault *fault)
{
	int r;

	if (guard->fault_count >= GMEMI_GUARD_FAULTS)
		return gmemi_refuse(-EAGAIN, "%d faults are under way already", GMEMI_GUARD_FAULTS);
	fault->number = ++guard->fault_number;
	wire->fault.cookie = fault->number;
	wire->fault.endpoint = guard->endpoint;
	r = post(guard, wire);
	if (r < 0)
		return r;
	fault->next = guard->faults;
	guard->faults = fault;
	guard->fault_count++;
	return 0;
}

static int forward_of(struct gmem_guard *guard, const struct gmem *mem, struct gmemi_wire *wire, uint64_t cookie)
{
	struct gmemi_guard_fault *fault = gmemi_alloc(1, sizeof(*fault));
	int r = 0;

	if (!fault)
		return -ENOMEM;
	fault->cookie = cookie;
	pthread_mutex_lock(&guard->lock);
	wire->fault.memory = GMEMI_WIRE_NONE;
	if (mem && guard->channel && !gmemi_channel_was_told(guard->channel, mem, &wire->fault.memory))
		r = gmemi_refuse(-ENOENT, "the endpoint watches nothing of this memory");
	if (r == 0)
		r = forward(guard, wire, fault);
	pthread_mutex_unlock(&guard->lock);
	if (r < 0)
		gmemi_free(fault);
	return r;
}

int gmem_guard_forward(struct gmem_guard *guard, struct gmem *mem, uint64_t offset, uint64_t length, uint64_t cookie,
		       const struct gmem_guard_forward_opts *opts)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_FAULT,
				   .fault = { .offset = offset, .length = length, .gpa = UINT64_MAX } };
	struct gmem_guard_forward_opts o;
	int r;

	GMEMI_CALL();
	r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = gmemi_opts_flags(o.flags, GMEM_FORWARD_WRITE, "opts->flags");
	if (r == 0)
		r = gmemi_opts_reserved(o.reserved);
	if (r == 0)
		r = check_fault(guard, mem, offset, length);
	if (r < 0)
		return r;
	wire.fault.flags = o.flags & GMEM_FORWARD_WRITE ? GMEMI_WIRE_WRITE : 0;
	wire.fault.vcpu = o.vcpu;
	return forward_of(guard, mem, &wire, cookie);
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
