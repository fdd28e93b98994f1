/* SPDX-License-Identifier: MIT */
/* Making and ending a guard. */
#include "guard.h"

#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"

int gmemi_guard_check(const struct gmem_guard *guard)
{
	if (!guard)
		return gmemi_refuse(-EINVAL, "the guard is NULL");
	return guard->process == gmemi_sys_process()
		       ? 0
		       : gmemi_refuse(-ESTALE, "the handle was made before fork: the parent goes on holding the endpoint");
}

/* --- ranges that come and go while a pager is there --------------------------------------------------------------------- */

static struct gmem_guard *guard_of(struct gmemi_uffd_listener *listener)
{
	return (struct gmem_guard *)listener;
}

/* That protocol has no word for it: whoever touched the range would wait for ever. */
static int may_add(struct gmemi_uffd_listener *listener)
{
	return atomic_load(&guard_of(listener)->firecracker)
		       ? gmemi_refuse(-EOPNOTSUPP, "the endpoint is served by a pager that cannot be told of new ranges")
		       : 0;
}

/* What cannot be told ends the connection: another pager is told of everything. */
static void take_outcome(struct gmem_guard *guard, int r)
{
	if (r == 0)
		return;
	gmemi_tolerated();
	gmemi_guard_lose(guard);
}

static void added(struct gmemi_uffd_listener *listener)
{
	struct gmem_guard *guard = guard_of(listener);

	pthread_mutex_lock(&guard->lock);
	if (guard->channel)
		take_outcome(guard, gmemi_channel_say_added(guard->channel, guard->uffd, guard->endpoint));
	pthread_mutex_unlock(&guard->lock);
}

static void removed(struct gmemi_uffd_listener *listener, const struct gmem *mem, uint64_t offset, uint64_t length, bool last)
{
	struct gmem_guard *guard = guard_of(listener);

	pthread_mutex_lock(&guard->lock);
	if (guard->channel && !atomic_load(&guard->firecracker))
		take_outcome(guard, gmemi_channel_say_removed(guard->channel, guard->endpoint, mem, offset, length, last));
	pthread_mutex_unlock(&guard->lock);
}

/* --- create and destroy ------------------------------------------------------------------------------------------------- */

static int check_opts(const struct gmem_guard_create_opts *o)
{
	int r = gmemi_opts_flags(o->flags, 0, "opts->flags");

	if (r == 0)
		r = gmemi_opts_reserved(o->reserved);
	if (r < 0)
		return r;
	if (o->policy > GMEM_GUARD_ASK)
		return gmemi_refuse(-EINVAL, "opts->policy %u is unknown", o->policy);
	if (o->policy != GMEM_GUARD_BLOCK)
		return gmemi_refuse(-EOPNOTSUPP, "this library blocks pages whose pager is gone: GMEM_GUARD_BLOCK");
	if (o->silence_ns)
		return gmemi_refuse(-EOPNOTSUPP, "this library has no deadline for silent pagers: opts->silence_ns is not 0");
	return 0;
}

static int check_uffd(const struct gmem_uffd *uffd)
{
	int r = gmemi_uffd_check(uffd);

	if (r < 0)
		return r;
	return uffd->imported ? gmemi_refuse(-EBADFD, "the endpoint is another process's, and guarded there") : 0;
}

/* In a forked child the epoll is the parent's too, so nothing is taken out of it. */
static void end(struct gmem_guard *guard)
{
	if (guard->process == gmemi_sys_process()) {
		gmemi_guard_forget_pager(guard);
	} else {
		gmemi_sys_close(guard->pidfd);
		if (guard->channel)
			gmemi_channel_release(guard->channel);
		if (guard->leaver)
			gmemi_channel_release(guard->leaver);
	}
	gmemi_guard_free_faults(guard->faults);
	gmemi_guard_free_faults(guard->done_faults);
	gmemi_sys_close(guard->timer);
	gmemi_sys_close(guard->epoll);
	pthread_mutex_destroy(&guard->lock);
	gmemi_free(guard);
}

static int open_fds(struct gmem_guard *guard)
{
	int r;

	guard->epoll = gmemi_sys_epoll();
	guard->timer = gmemi_sys_timer();
	r = guard->epoll < 0 ? guard->epoll : guard->timer;
	if (r >= 0)
		r = gmemi_sys_epoll_add(guard->epoll, guard->timer, EPOLLIN, 0);
	return r < 0 ? gmemi_failed(r, "making what the guard waits on", NULL) : 0;
}

static struct gmem_guard *new_guard(struct gmem_uffd *uffd, const struct gmem_guard_create_opts *o)
{
	struct gmem_guard *guard = gmemi_alloc(1, sizeof(*guard));

	if (!guard)
		return NULL;
	guard->listener = (struct gmemi_uffd_listener){ .may_add = may_add, .added = added, .removed = removed };
	guard->uffd = uffd;
	guard->event = o->event;
	guard->done = o->done;
	guard->user = o->user;
	guard->process = gmemi_sys_process();
	guard->epoll = guard->timer = guard->pidfd = -1;
	pthread_mutex_init(&guard->lock, NULL);
	return guard;
}

static int create(struct gmem_uffd *uffd, const struct gmem_guard_create_opts *o, struct gmem_guard **result)
{
	struct gmem_guard *guard = new_guard(uffd, o);
	int r;

	if (!guard)
		return -ENOMEM;
	r = open_fds(guard);
	if (r == 0 && !gmemi_uffd_serve(uffd, guard, NULL))
		r = gmemi_refuse(-EBUSY, "a pager of this process serves the endpoint, or another guard holds it");
	if (r < 0) {
		end(guard);
		return r;
	}
	gmemi_uffd_hold(uffd);
	gmemi_uffd_listen(uffd, &guard->listener);
	*result = guard;
	return 0;
}

int gmem_guard_create(struct gmem_uffd *uffd, struct gmem_guard **guard, const struct gmem_guard_create_opts *opts)
{
	struct gmem_guard_create_opts o;
	int r;

	GMEMI_CALL();
	r = check_uffd(uffd);
	if (r == 0 && !guard)
		r = gmemi_refuse(-EINVAL, "guard is NULL");
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_opts(&o);
	return r < 0 ? r : create(uffd, &o, guard);
}

/* A pager that is not told hears of the end of the connection. */
static void say_farewell(struct gmem_guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	if (guard->channel && !atomic_load(&guard->firecracker) &&
	    gmemi_channel_say_detach(guard->channel, guard->endpoint) < 0)
		gmemi_tolerated();
	pthread_mutex_unlock(&guard->lock);
}

void gmem_guard_destroy(struct gmem_guard *guard)
{
	struct gmem_uffd *uffd;

	GMEMI_CALL();
	if (!guard)
		return;
	uffd = guard->uffd;
	if (guard->process == gmemi_sys_process()) {
		gmemi_uffd_listen(uffd, NULL);
		say_farewell(guard);
	}
	(void)gmemi_uffd_serve(uffd, NULL, guard);
	end(guard);
	gmemi_uffd_let_go(uffd);
}

/* --- looking ------------------------------------------------------------------------------------------------------------ */

int gmem_guard_get_fd(const struct gmem_guard *guard)
{
	GMEMI_CALL();
	return guard ? guard->epoll : gmemi_refuse(-EINVAL, "the guard is NULL");
}

static void take_counters(const struct gmem_guard *guard, struct gmem_guard_info *info)
{
	const _Atomic uint64_t *counters = guard->counters;

	info->pager_answers = atomic_load(&guard->answers);
	info->pager_faults = atomic_load(&counters[GMEMI_WIRE_FAULTS]);
	info->pager_bytes = atomic_load(&counters[GMEMI_WIRE_BYTES]);
	info->pager_zeroed = atomic_load(&counters[GMEMI_WIRE_ZEROED]);
	info->pager_poisoned = atomic_load(&counters[GMEMI_WIRE_POISONED]);
	info->pager_remaining = atomic_load(&counters[GMEMI_WIRE_REMAINING]);
	info->pager_errors = atomic_load(&counters[GMEMI_WIRE_SOURCE_ERRORS]);
}

int gmem_guard_query(const struct gmem_guard *guard, struct gmem_guard_info *info)
{
	struct gmem_guard_info now = { 0 };
	int r;

	GMEMI_CALL();
	r = gmemi_guard_check(guard);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	now.deaths = atomic_load(&guard->deaths);
	now.remaining = gmemi_uffd_remaining(guard->uffd);
	now.state = atomic_load(&guard->state);
	now.pager_pid = atomic_load(&guard->pager_pid);
	take_counters(guard, &now);
	gmemi_info_out(info, &now, sizeof(now));
	return 0;
}
