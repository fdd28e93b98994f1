/* SPDX-License-Identifier: MIT */
/* Opening and closing channels. */
#include "channel.h"

#include <string.h>
#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"

#define DEFAULT_TIMEOUT UINT64_C(5000000000)
#define DEFAULT_LENGTH (UINT64_C(1) << 44)
#define DEFAULT_REGIONS 4096
#define MOST_REGIONS 1000000
#define ERROR_ROOM 512 /* bytes, for one with a sentence of any length */

int gmemi_channel_check(const struct gmem_channel *channel)
{
	return channel ? 0 : gmemi_refuse(-EINVAL, "the channel is NULL");
}

static int check_identity(const char *identity)
{
	size_t length = identity ? strnlen(identity, GMEMI_IDENTITY + 1) : 0;

	if (length > GMEMI_IDENTITY)
		return gmemi_refuse(-EINVAL, "opts->identity is longer than %d bytes", GMEMI_IDENTITY);
	for (size_t i = 0; i < length; i++)
		if (identity[i] < 0x20 || identity[i] > 0x7e)
			return gmemi_refuse(-EINVAL, "opts->identity is not printable ASCII");
	return 0;
}

static void set_defaults(struct gmem_channel_open_opts *opts)
{
	if (!opts->timeout_ns)
		opts->timeout_ns = DEFAULT_TIMEOUT;
	if (!opts->max_length)
		opts->max_length = DEFAULT_LENGTH;
	if (!opts->max_regions)
		opts->max_regions = DEFAULT_REGIONS;
	if (!opts->max_memories)
		opts->max_memories = GMEMI_WIRE_MEMORIES;
}

static int check_opts(struct gmem_channel_open_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, 0, "opts->flags");

	if (r == 0)
		r = check_identity(opts->identity);
	if (r < 0)
		return r;
	if (opts->protocol > GMEM_PROTOCOL_FIRECRACKER)
		return gmemi_refuse(-EINVAL, "opts->protocol %u is unknown", opts->protocol);
	if (opts->max_regions > MOST_REGIONS)
		return gmemi_refuse(-EINVAL, "opts->max_regions is above %d", MOST_REGIONS);
	if (opts->max_memories > GMEMI_WIRE_MEMORIES)
		return gmemi_refuse(-EINVAL, "opts->max_memories is above %d", GMEMI_WIRE_MEMORIES);
	set_defaults(opts);
	return gmemi_opts_reserved(opts->reserved);
}

int gmemi_channel_opts(struct gmem_channel_open_opts *local, const struct gmem_channel_open_opts *opts)
{
	int r = GMEMI_OPTS_IN(*local, opts);

	return r < 0 ? r : check_opts(local);
}

static int check_socket(int fd, struct gmemi_socket *about)
{
	int r = gmemi_sys_socket(fd, about);

	if (r < 0)
		return gmemi_failed(r, "asking about the socket", r == -ENOTSOCK ? "it is none" : NULL);
	if (!about->unix_domain || (!about->stream && !about->packets))
		return gmemi_refuse(-EINVAL, "fd %d is no AF_UNIX socket of type SOCK_STREAM or SOCK_SEQPACKET", fd);
	return about->connected ? 0 : gmemi_refuse(-ENOTCONN, "the socket is not connected");
}

static uint64_t after(uint64_t timeout_ns)
{
	uint64_t now = gmemi_sys_now();

	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

/* The socket, and when time is over: both wake whoever polls the epoll fd. */
static int open_fds(struct gmem_channel *channel, int fd)
{
	int r;

	channel->fd = gmemi_sys_dup(fd);
	if (channel->fd < 0)
		return gmemi_failed(channel->fd, "duplicating the socket", NULL);
	channel->epoll = gmemi_sys_epoll();
	if (channel->epoll < 0)
		return gmemi_failed(channel->epoll, "epoll_create1()", NULL);
	channel->timer = gmemi_sys_timer();
	if (channel->timer < 0)
		return gmemi_failed(channel->timer, "timerfd_create()", NULL);
	channel->deadline = channel->timer_at = after(channel->timeout_ns);
	r = gmemi_sys_epoll_add(channel->epoll, channel->fd, EPOLLIN, 0);
	if (r == 0)
		r = gmemi_sys_epoll_add(channel->epoll, channel->timer, EPOLLIN, 0);
	if (r == 0)
		r = gmemi_sys_timer_set(channel->timer, channel->deadline);
	return r < 0 ? gmemi_failed(r, "setting up epoll and a timer", NULL) : 0;
}

void gmemi_channel_claim(struct gmem_channel *channel)
{
	atomic_fetch_add_explicit(&channel->claims, 1, memory_order_relaxed);
}

static void end(struct gmem_channel *channel)
{
	gmemi_build_end(&channel->build);
	gmemi_close_fds(channel->fds, channel->fd_count);
	gmemi_sys_close(channel->bitmap);
	gmemi_sys_close(channel->timer);
	gmemi_sys_close(channel->epoll);
	gmemi_sys_close(channel->fd);
	gmemi_free(channel->in);
	gmemi_free(channel);
}

void gmemi_channel_release(struct gmem_channel *channel)
{
	if (atomic_fetch_sub_explicit(&channel->claims, 1, memory_order_acq_rel) == 1)
		end(channel);
}

static struct gmem_channel *new_channel(const struct gmemi_socket *about, const struct gmem_channel_open_opts *opts)
{
	struct gmem_channel *channel = gmemi_alloc(1, sizeof(*channel));

	if (!channel)
		return NULL;
	channel->fd = channel->epoll = channel->timer = channel->bitmap = -1;
	atomic_init(&channel->claims, 1);
	channel->peer = *about;
	channel->packets = about->packets;
	channel->timeout_ns = opts->timeout_ns;
	channel->max_length = opts->max_length;
	channel->max_regions = opts->max_regions;
	channel->max_memories = opts->max_memories;
	channel->protocol = opts->protocol;
	if (opts->identity)
		memcpy(channel->identity, opts->identity, strnlen(opts->identity, GMEMI_IDENTITY));
	return channel;
}

int gmem_channel_open(int socket_fd, struct gmem_channel **result, const struct gmem_channel_open_opts *opts)
{
	struct gmem_channel_open_opts o;
	struct gmem_channel *channel;
	struct gmemi_socket about;
	int r;

	GMEMI_CALL();
	if (!result)
		return gmemi_refuse(-EINVAL, "channel is NULL");
	r = gmemi_channel_opts(&o, opts);
	if (r == 0)
		r = check_socket(socket_fd, &about);
	if (r < 0)
		return r;
	channel = new_channel(&about, &o);
	if (!channel)
		return -ENOMEM;
	r = open_fds(channel, socket_fd);
	if (r < 0)
		gmemi_channel_release(channel);
	else
		*result = channel;
	return r;
}

void gmem_channel_close(struct gmem_channel *channel)
{
	GMEMI_CALL();
	if (channel)
		gmemi_channel_release(channel);
}

enum gmemi_wire_code gmemi_channel_code(int code)
{
	switch (code) {
	case 0:
		return GMEMI_WIRE_OK;
	case -EPROTO:
		return GMEMI_WIRE_BROKEN;
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return GMEMI_WIRE_SHORTAGE;
	case -EOPNOTSUPP:
		return GMEMI_WIRE_UNSUPPORTED;
	case -EACCES:
	case -EPERM:
		return GMEMI_WIRE_DENIED;
	case -EBUSY:
		return GMEMI_WIRE_BUSY;
	default:
		return GMEMI_WIRE_FAILED;
	}
}

int gmemi_channel_error(uint32_t code)
{
	static const int errors[] = {
		[GMEMI_WIRE_OK] = 0,           [GMEMI_WIRE_BROKEN] = -EPROTO,
		[GMEMI_WIRE_LIMIT] = -EAGAIN,  [GMEMI_WIRE_UNSUPPORTED] = -EOPNOTSUPP,
		[GMEMI_WIRE_DENIED] = -EACCES, [GMEMI_WIRE_BUSY] = -EBUSY,
		[GMEMI_WIRE_GONE] = -ENOENT,   [GMEMI_WIRE_SHORTAGE] = -ENOMEM,
	};

	return code < sizeof(errors) / sizeof(errors[0]) ? errors[code] : -EIO;
}

/* ERROR, with the last sentence, which has to stay where it is taken to. */
static struct gmemi_wire describe(int code, struct gmemi_sentence *why)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ERROR, .error = { .code = gmemi_channel_code(code) } };

	gmemi_sentence_take(why);
	wire.text = why->text;
	wire.text_length = (uint32_t)strnlen(why->text, sizeof(why->text));
	return wire;
}

int64_t gmemi_channel_turn_away(int fd, int code)
{
	struct gmemi_sentence why;
	struct gmemi_wire wire = describe(code, &why);
	unsigned char bytes[ERROR_ROOM];
	size_t length;

	wire.number = 1;
	length = gmemi_wire_encode(&wire, bytes, sizeof(bytes));
	gmemi_sentence_give(&why);
	return gmemi_sys_send(fd, bytes, length, NULL, 0);
}

/* It may not be there any more, or not read. */
static void tell_peer(struct gmem_channel *channel, int code)
{
	struct gmemi_sentence why;
	struct gmemi_wire wire = describe(code, &why);

	if (channel->refused || gmemi_channel_answer(channel, &wire) == 0) /* an ERROR is not answered */
		(void)gmemi_channel_flush(channel);
	gmemi_sentence_give(&why);
}

/* Whoever has ended in the middle of something may listen yet. */
int gmemi_channel_break(struct gmem_channel *channel, int code)
{
	bool hung_up = channel->ended && code == -ENOTCONN;

	if (channel->protocol == GMEM_PROTOCOL_NATIVE && !hung_up && !channel->torn)
		tell_peer(channel, code);
	(void)gmemi_sys_shutdown(channel->fd); /* what has been sent still reaches it, and then the end */
	gmemi_build_end(&channel->build);
	gmemi_close_fds(channel->fds, channel->fd_count);
	channel->fd_count = 0;
	gmemi_free(channel->in);
	channel->in = NULL;
	channel->in_room = channel->in_have = 0;
	channel->broken = code;
	return code;
}

int gmem_channel_get_fd(const struct gmem_channel *channel)
{
	int r;

	GMEMI_CALL();
	r = gmemi_channel_check(channel);
	return r < 0 ? r : channel->epoll;
}

int gmem_channel_query(const struct gmem_channel *channel, struct gmem_channel_info *info)
{
	struct gmem_channel_info about = { 0 };
	int r;

	GMEMI_CALL();
	r = gmemi_channel_check(channel);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	about.endpoints = channel->endpoints;
	about.identity = channel->peer_identity;
	about.protocol = channel->protocol;
	about.pid = channel->peer.pid;
	about.uid = channel->peer.uid;
	about.gid = channel->peer.gid;
	gmemi_info_out(info, &about, sizeof(about));
	return 0;
}
