/* SPDX-License-Identifier: MIT */
/* Receiving: what is next, until when, and what an end of the stream means. */
#include "channel.h"

#include <string.h>

#include "err.h"

/* A peer that never stops sending does not keep the caller here: the fd stays readable. */
#define READS_PER_CALL 64

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int recognise(struct gmem_channel *channel)
{
	unsigned char first = channel->in[0];

	if (channel->protocol != GMEM_PROTOCOL_AUTO)
		return 0;
	if (first == (GMEMI_WIRE_MAGIC & 0xff))
		channel->protocol = GMEM_PROTOCOL_NATIVE;
	else if (first == '[' || is_space(first))
		channel->protocol = GMEM_PROTOCOL_FIRECRACKER;
	else
		return gmemi_refuse(-EPROTO, "the first byte, 0x%02x, begins a message of no protocol that is known", first);
	return 0;
}

/* Between messages, spaces are nothing. */
static void skip_spaces(struct gmem_channel *channel)
{
	size_t count = 0;

	if (channel->protocol != GMEM_PROTOCOL_FIRECRACKER || channel->scanned)
		return;
	while (count < channel->in_have && is_space(channel->in[count]))
		count++;
	if (count)
		gmemi_channel_consume(channel, count);
}

int gmemi_channel_step(struct gmem_channel *channel, struct gmem_vm *vm)
{
	int r = 2;

	while (r == 2 && channel->in_have) {
		r = recognise(channel);
		if (r < 0)
			return r;
		skip_spaces(channel);
		if (channel->protocol == GMEM_PROTOCOL_NATIVE)
			r = gmemi_channel_native(channel, vm);
		else
			r = channel->in_have ? gmemi_channel_firecracker(channel, vm) : 0;
	}
	if (r == 2)
		r = 0;
	if (r == 0 && !channel->in_have && channel->fd_count)
		return gmemi_refuse(-EPROTO, "%u fds came that no message names", channel->fd_count);
	return r;
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

/* Is a handshake, or a message, under way? The first one is from the opening on. */
static bool under_way(const struct gmem_channel *channel)
{
	return channel->in_have || channel->fd_count || (channel->build.uffd && !channel->build.ready) || !channel->endpoints;
}

static int set_deadline(struct gmem_channel *channel, uint64_t deadline)
{
	int r;

	channel->deadline = deadline;
	if (channel->timer_at == deadline)
		return 0;
	channel->timer_at = deadline;
	r = gmemi_sys_timer_set(channel->timer, deadline);
	return r < 0 ? gmemi_failed(r, "timerfd_settime()", NULL) : 0;
}

static int look_at_time(struct gmem_channel *channel)
{
	uint64_t now = gmemi_sys_now();

	if (!under_way(channel))
		return set_deadline(channel, UINT64_MAX);
	if (channel->deadline == UINT64_MAX && channel->timeout_ns < UINT64_MAX - now)
		return set_deadline(channel, now + channel->timeout_ns);
	if (now < channel->deadline)
		return 0;
	return gmemi_refuse(-ETIMEDOUT, "the handshake is not complete after %llu ms",
			    (unsigned long long)(channel->timeout_ns / 1000000));
}

static int at_end(struct gmem_channel *channel)
{
	channel->ended = true;
	if (channel->in_have || channel->fd_count || (channel->build.uffd && !channel->build.ready))
		return gmemi_refuse(-EPROTO, "the peer has closed its end in the middle of a handshake");
	return gmemi_refuse(-ENOTCONN, "the peer has closed its end");
}

/* --- the call ----------------------------------------------------------------------------------------------------------- */

/* -EAGAIN without a sentence: nothing more is there now. */
static int receive(struct gmem_channel *channel, struct gmem_vm *vm)
{
	for (int reads = 0; reads < READS_PER_CALL; reads++) {
		int r = gmemi_channel_step(channel, vm);

		if (r != 0)
			return r;
		r = gmemi_channel_fill(channel);
		if (r == 0)
			return at_end(channel);
		if (r < 0)
			return r;
	}
	return -EAGAIN;
}

static int receive_in_time(struct gmem_channel *channel, struct gmem_vm *vm)
{
	int r = receive(channel, vm), flushed;

	if (r == -EAGAIN) {
		int late = look_at_time(channel);

		r = late < 0 ? late : r;
	}
	if (r < 0 && r != -EAGAIN)
		return r;
	flushed = gmemi_channel_flush(channel);
	return flushed < 0 ? flushed : r;
}

/* The endpoint stays the channel's, too, where changes of it may follow. */
static struct gmem_uffd *hand_over(struct gmem_channel *channel)
{
	struct gmem_uffd *uffd = channel->build.uffd;

	channel->build.ready = true;
	channel->endpoints++;
	channel->deadline = UINT64_MAX; /* the next handshake has its own; a timer that stays set wakes once for nothing */
	gmemi_uffd_hold(uffd);
	if (channel->protocol == GMEM_PROTOCOL_FIRECRACKER)
		gmemi_build_end(&channel->build);
	return uffd;
}

static int check_call(struct gmem_channel *channel, struct gmem_vm *vm, struct gmem_uffd **uffd)
{
	int r = gmemi_channel_check(channel);

	if (r == 0)
		r = gmemi_vm_check(vm);
	if (r < 0)
		return r;
	if (!uffd)
		return gmemi_refuse(-EINVAL, "uffd is NULL");
	if (channel->sends)
		return gmemi_refuse(-EBADFD, "the channel hands memory out");
	return channel->broken ? gmemi_refuse(channel->broken, "the channel has failed before, and is of no more use") : 0;
}

int gmem_channel_recv(struct gmem_channel *channel, struct gmem_vm *vm, struct gmem_uffd **uffd)
{
	int r;

	GMEMI_CALL();
	r = check_call(channel, vm, uffd);
	if (r < 0)
		return r;
	r = receive_in_time(channel, vm);
	if (r < 0 && r != -EAGAIN)
		return gmemi_channel_break(channel, r);
	if (r >= 0)
		*uffd = hand_over(channel);
	gmemi_channel_rest(channel);
	return r >= 0 ? 0 : gmemi_refuse(r, "not all has come yet");
}
