/* SPDX-License-Identifier: MIT */
/* Handing the endpoint to a pager. */
#include "guard.h"

#include <sys/epoll.h>

#include "err.h"

static int check_state(const struct gmem_guard *guard)
{
	switch (atomic_load(&guard->state)) {
	case GMEM_GUARD_ATTACHED:
		return gmemi_refuse(-EBUSY, "a pager is attached");
	case GMEM_GUARD_SILENT:
		return gmemi_refuse(-EBUSY, "the pager before may live, and store into the memory: end process %u",
				    atomic_load(&guard->pager_pid));
	default:
		return 0;
	}
}

/* Without a page map a successor would bring old content back. */
static int check_protocol(const struct gmem_guard *guard, const struct gmem_channel *channel)
{
	bool first = atomic_load(&guard->state) == GMEM_GUARD_NONE, firecracker = atomic_load(&guard->firecracker);

	if (firecracker || (!first && channel->protocol == GMEM_PROTOCOL_FIRECRACKER))
		return gmemi_refuse(-EOPNOTSUPP, "with the protocol of Firecracker no second pager can be attached");
	return 0;
}

static int check_call(const struct gmem_guard *guard, const struct gmem_channel *channel)
{
	int r = gmemi_guard_check(guard);

	if (r == 0)
		r = gmemi_channel_check(channel);
	if (r < 0)
		return r;
	if (channel->hello_sent || channel->handed || channel->endpoints || channel->build.uffd)
		return gmemi_refuse(-EBADFD, "the channel has been used for something else");
	r = check_state(guard);
	return r < 0 ? r : check_protocol(guard, channel);
}

/* Before anything is sent: what cannot be watched is not handed out. */
static int watch(struct gmem_guard *guard, struct gmem_channel *channel)
{
	int r = gmemi_sys_epoll_add(guard->epoll, channel->fd, EPOLLIN, 0);

	if (r < 0)
		return gmemi_failed(r, "EPOLL_CTL_ADD", "fs.epoll.max_user_watches?");
	gmemi_channel_claim(channel);
	guard->channel = channel;
	guard->dead = guard->lost = guard->released = guard->wants_room = false;
	r = gmemi_sys_ask_sender(channel->fd);
	return r < 0 ? gmemi_failed(r, "SO_PASSCRED", NULL) : 0;
}

/* Who has answered is who has the endpoint. Who made the socket, which is all that is known of who does not answer, may be
 * somebody who hands sockets to pagers. Where its end cannot be learnt, it is never proven. */
static void watch_process(struct gmem_guard *guard, const struct gmem_channel *channel)
{
	uint32_t process = channel->speaker ? channel->speaker : channel->peer.pid;
	int fd = channel->speaker ? -ENOSYS : gmemi_sys_watch_peer(channel->fd);

	if (fd < 0 && fd != -ESRCH && process)
		fd = gmemi_sys_watch_process(process);
	atomic_store(&guard->pager_pid, process);
	guard->dead = fd == -ESRCH;
	guard->pidfd = fd < 0 ? -1 : fd;
	if (guard->pidfd >= 0 && gmemi_sys_epoll_add(guard->epoll, guard->pidfd, EPOLLIN, 0) < 0) {
		gmemi_sys_close(guard->pidfd);
		guard->pidfd = -1;
	}
}

static void set_up(struct gmem_guard *guard, struct gmem_channel *channel)
{
	gmemi_guard_count_anew(guard);
	channel->notify = gmemi_guard_notice;
	channel->notify_user = guard;
	guard->endpoint++;
	if (channel->protocol == GMEM_PROTOCOL_FIRECRACKER)
		atomic_store(&guard->firecracker, true);
}

/* Whoever waited for the one before asks again. */
static void succeed(struct gmem_guard *guard)
{
	atomic_store(&guard->state, GMEM_GUARD_ATTACHED);
	gmemi_uffd_wake_all(guard->uffd);
}

/* A peer that has the endpoint, and did not answer, may serve it or not. One that refused has let it go. */
static void fail(struct gmem_guard *guard, struct gmem_channel *channel, bool drained)
{
	if (channel->handed && !guard->released && !gmemi_channel_has_refused(channel)) {
		atomic_store(&guard->state, GMEM_GUARD_ATTACHED);
		if (channel->broken)
			gmemi_guard_lose(guard);
		else
			gmemi_guard_part(guard);
		return;
	}
	gmemi_guard_forget_pager(guard);
	atomic_store(&guard->pager_pid, 0);
	if (!channel->handed && atomic_load(&guard->state) == GMEM_GUARD_NONE)
		atomic_store(&guard->firecracker, false);
	gmemi_guard_drain(guard, drained);
}

static int attach(struct gmem_guard *guard, struct gmem_channel *channel)
{
	struct gmemi_sentence why;
	bool drained = guard->drains;
	int r;

	gmemi_guard_drain(guard, false);
	r = watch(guard, channel);
	if (r == 0) {
		set_up(guard, channel);
		r = gmemi_channel_send(channel, guard->uffd, guard->endpoint);
		if (channel->handed)
			watch_process(guard, channel);
	}
	if (r == 0) {
		succeed(guard);
		return 0;
	}
	gmemi_sentence_take(&why);
	fail(guard, channel, drained);
	gmemi_sentence_give(&why);
	return r;
}

int gmem_guard_attach(struct gmem_guard *guard, struct gmem_channel *channel)
{
	int r;

	GMEMI_CALL();
	r = check_call(guard, channel);
	if (r < 0)
		return r;
	pthread_mutex_lock(&guard->lock);
	r = attach(guard, channel);
	pthread_mutex_unlock(&guard->lock);
	return r;
}
