/* SPDX-License-Identifier: MIT */
/* Bytes and fds over the socket, in both directions. */
#include "channel.h"

#include <string.h>
#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"

void gmemi_close_fds(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		gmemi_sys_close(fds[i]);
}

/* --- in ----------------------------------------------------------------------------------------------------------------- */

static int make_room(struct gmem_channel *channel)
{
	size_t room = channel->in_have + GMEMI_CHANNEL_ROOM;
	unsigned char *more;

	if (room <= channel->in_room)
		return 0;
	room += channel->in_have; /* so that a long message is not copied for each of its parts */
	more = gmemi_alloc(room, 1);
	if (!more)
		return -ENOMEM;
	if (channel->in_have)
		memcpy(more, channel->in, channel->in_have);
	gmemi_free(channel->in);
	channel->in = more;
	channel->in_room = room;
	return 0;
}

void gmemi_channel_rest(struct gmem_channel *channel)
{
	if (channel->in_have)
		return;
	gmemi_free(channel->in);
	channel->in = NULL;
	channel->in_room = 0;
}

static int take_received(struct gmem_channel *channel, const struct gmemi_received *received)
{
	if (received->cut || received->count > GMEMI_CHANNEL_FDS - channel->fd_count) {
		gmemi_close_fds(received->fds, received->count);
		return gmemi_refuse(-EPROTO, "more fds or data came at once than are allowed, or than this process may open");
	}
	for (uint32_t i = 0; i < received->count; i++) {
		channel->fds[channel->fd_count] = received->fds[i];
		channel->fd_at[channel->fd_count++] = channel->in_at + channel->in_have;
	}
	return 0;
}

int gmemi_channel_fill(struct gmem_channel *channel)
{
	struct gmemi_received received;
	int r = make_room(channel);
	int64_t got;

	if (r < 0)
		return r;
	got = gmemi_sys_receive(channel->fd, channel->in + channel->in_have, channel->in_room - channel->in_have, &received);
	if (got == -ECONNRESET) /* once, of a peer that had not read everything: what it said before comes after that */
		got = gmemi_sys_receive(channel->fd, channel->in + channel->in_have, channel->in_room - channel->in_have,
					&received);
	if (got == -EAGAIN)
		return -EAGAIN;
	if (got == -ECONNRESET)
		return 0;
	if (got < 0) {
		gmemi_close_fds(received.fds, received.count);
		return gmemi_failed((int)got, "receiving", NULL);
	}
	channel->in_have += (size_t)got;
	if (received.sender)
		channel->speaker = received.sender;
	r = take_received(channel, &received);
	return r < 0 ? r : got > 0;
}

void gmemi_channel_consume(struct gmem_channel *channel, size_t length)
{
	channel->in_have -= length;
	channel->in_at += length;
	memmove(channel->in, channel->in + length, channel->in_have);
	channel->scanned = 0;
	channel->json = (struct gmemi_json){ 0 };
}

void gmemi_channel_take_fds(struct gmem_channel *channel, int *fds, uint32_t count)
{
	if (!count)
		return;
	memcpy(fds, channel->fds, count * sizeof(*fds));
	channel->fd_count -= count;
	memmove(channel->fds, channel->fds + count, channel->fd_count * sizeof(*fds));
	memmove(channel->fd_at, channel->fd_at + count, channel->fd_count * sizeof(*channel->fd_at));
}

/* --- out ---------------------------------------------------------------------------------------------------------------- */

/* A packet is one message. */
static size_t next_out(const struct gmem_channel *channel)
{
	size_t length = channel->out_have;

	if (channel->packets)
		(void)gmemi_wire_length(channel->out, channel->out_have, &length); /* it is one of ours */
	return length;
}

static int watch_out(struct gmem_channel *channel)
{
	int r = gmemi_sys_epoll_change(channel->epoll, channel->fd, EPOLLIN | (channel->out_have ? EPOLLOUT : 0), 0);

	return r < 0 ? gmemi_failed(r, "EPOLL_CTL_MOD", NULL) : 0;
}

int gmemi_channel_flush(struct gmem_channel *channel)
{
	bool waited = channel->out_have;

	while (channel->out_have) {
		int64_t sent = gmemi_sys_send(channel->fd, channel->out, next_out(channel), NULL, 0);

		if (sent == -EAGAIN)
			break;
		if (sent < 0)
			return gmemi_failed((int)sent, "answering", sent == -EPIPE ? "the peer has gone" : NULL);
		channel->out_have -= (size_t)sent;
		memmove(channel->out, channel->out + sent, channel->out_have);
	}
	return waited ? watch_out(channel) : 0;
}

static bool has_room(struct gmem_channel *channel, const struct gmemi_wire *wire, int *r)
{
	size_t size = gmemi_wire_size(wire);

	*r = size > sizeof(channel->out) - channel->out_have ? gmemi_channel_flush(channel) : 0;
	return *r == 0 && size <= sizeof(channel->out) - channel->out_have;
}

int gmemi_channel_answer(struct gmem_channel *channel, struct gmemi_wire *wire)
{
	int r;

	if (!has_room(channel, wire, &r))
		return r < 0 ? r : gmemi_refuse(-EPROTO, "the peer does not read its answers");
	wire->number = ++channel->number;
	channel->out_have +=
		gmemi_wire_encode(wire, channel->out + channel->out_have, sizeof(channel->out) - channel->out_have);
	return 0;
}

int gmemi_channel_post(struct gmem_channel *channel, struct gmemi_wire *wire)
{
	int r;

	if (!has_room(channel, wire, &r))
		return r < 0 ? r : gmemi_refuse(-EAGAIN, "the peer does not read what it is sent");
	r = gmemi_channel_answer(channel, wire);
	return r < 0 ? r : gmemi_channel_flush(channel);
}

static uint64_t time_left(uint64_t deadline)
{
	uint64_t now = gmemi_sys_now();

	return deadline == UINT64_MAX ? UINT64_MAX : deadline > now ? deadline - now : 0;
}

static int wait_for_room(struct gmem_channel *channel, uint64_t deadline)
{
	int r = gmemi_sys_wait_socket(channel->fd, true, time_left(deadline));

	if (r == -ETIMEDOUT)
		return gmemi_refuse(r, "the peer does not take what is sent");
	return r < 0 ? gmemi_failed(r, "waiting for room in the socket", NULL) : 0;
}

int gmemi_channel_drain(struct gmem_channel *channel, uint64_t deadline)
{
	int r = gmemi_channel_flush(channel);

	while (r == 0 && channel->out_have) {
		r = wait_for_room(channel, deadline);
		if (r == 0)
			r = gmemi_channel_flush(channel);
	}
	return r;
}

int gmemi_channel_send_all(struct gmem_channel *channel, const void *data, size_t length, const int *fds, uint32_t count,
			   uint64_t deadline)
{
	const unsigned char *at = data;

	while (length) {
		int64_t sent = gmemi_sys_send(channel->fd, at, length, fds, count);
		int r;

		if (sent >= 0) {
			at += sent;
			length -= (size_t)sent;
			count = 0; /* they went with the first byte */
			channel->torn = length > 0;
			continue;
		}
		if (sent != -EAGAIN)
			return gmemi_failed((int)sent, "sending", sent == -EPIPE ? "the peer has gone" : NULL);
		r = wait_for_room(channel, deadline);
		if (r < 0)
			return r;
	}
	return 0;
}
