/* SPDX-License-Identifier: MIT */
/* Handing an endpoint out: to a peer that is played by hand, or does not behave. And the arguments of the calls on channels. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "channels.h"
#include "faults.h"
#include "refusal.h"

#define PAGES 8

/* --- an owner here, in a thread ----------------------------------------------------------------------------------------- */

struct owner {
	struct lazy lazy;
	struct line line; /* the channel is the owner's end */
	pthread_t thread;
	int result;
	char why[400];
};

static void *hand_out(void *arg)
{
	struct owner *o = arg;

	o->result = gmemi_channel_send(o->line.channel, o->lazy.uffd, 21);
	snprintf(o->why, sizeof(o->why), "%s", gmem_last_error());
	return NULL;
}

static void owner_start(struct owner *o, int type, enum gmem_strategy strategy, const struct gmem_channel_open_opts *opts)
{
	o->lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, strategy);
	o->line = line_make(type, opts);
	assert_int_equal(pthread_create(&o->thread, NULL, hand_out, o), 0);
}

static void owner_end(struct owner *o, int code, const char *word)
{
	pthread_join(o->thread, NULL);
	if (o->result != code || (word && !strstr(o->why, word)))
		fail_msg("%d instead of %d: %s", o->result, code, o->why);
	line_end(&o->line);
	end_lazy(&o->lazy);
}

static void answer_hello(struct speaker *speaker, uint32_t role)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .hello = { .version_least = 1, .version_most = 1, .role = role } };

	say(speaker, &wire, NULL);
}

static unsigned char bytes[1 << 20];

/* What is sent, looked at by hand: every member. Then it is refused. */
static void what_is_sent(void **state)
{
	struct gmem_channel_open_opts named = { .size = sizeof(named), .identity = "vm 4" };
	struct gmemi_wire_region region;
	struct gmemi_wire wire, no = { .type = GMEMI_WIRE_ERROR, .text = "not today", .text_length = 9 };
	struct owner o;
	struct speaker speaker;

	(void)state;
	owner_start(&o, SOCK_SEQPACKET, GMEM_STRATEGY_COPY, &named);
	speaker = (struct speaker){ .socket = o.line.far };
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_HELLO, &wire);
	assert_int_equal(wire.hello.version_least, 1);
	assert_int_equal(wire.hello.version_most, 1);
	assert_int_equal(wire.hello.role, GMEMI_WIRE_OWNER);
	assert_memory_equal(wire.text, "vm 4", 4);
	answer_hello(&speaker, GMEMI_WIRE_PAGER);
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_ENDPOINT, &wire);
	assert_int_equal(wire.fds, 1);
	assert_int_equal(wire.endpoint.endpoint, 21);
	assert_int_equal(wire.endpoint.memories, 1);
	assert_int_equal(wire.endpoint.regions, 1);
	assert_int_equal(wire.endpoint.length, o.lazy.length);
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_MEMORY, &wire);
	assert_int_equal(wire.fds, 2);
	assert_int_equal(wire.memory.length, o.lazy.length);
	assert_int_equal(wire.memory.page_size, o.lazy.page);
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_REGIONS, &wire);
	assert_int_equal(wire.item_count, 1);
	assert_int_equal(gmemi_wire_item(&wire, 0, &region), 0);
	assert_int_equal(region.memory, 0);
	assert_int_equal(region.strategy, GMEMI_WIRE_COPY);
	assert_int_equal(region.offset, 0);
	assert_int_equal(region.length, o.lazy.length);
	assert_int_equal(region.hva, (uintptr_t)o.lazy.at);
	assert_int_equal(region.content, 0);
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_READY, &wire);
	assert_int_equal(wire.end.endpoint, 21);
	say(&speaker, &no, NULL);
	owner_end(&o, -EPROTO, "not today");
}

/* --- peers that do not behave ------------------------------------------------------------------------------------------- */

static void a_peer_that_is_silent(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 20000000 };
	struct owner o;

	(void)state;
	owner_start(&o, SOCK_STREAM, GMEM_STRATEGY_COPY, &hurry);
	owner_end(&o, -ETIMEDOUT, "does not answer");
}

/* It has said hello, and says no more. */
static void a_peer_that_falls_silent(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 300000000 };
	struct speaker speaker;
	struct owner o;

	(void)state;
	owner_start(&o, SOCK_STREAM, GMEM_STRATEGY_COPY, &hurry);
	speaker = (struct speaker){ .socket = o.line.far };
	answer_hello(&speaker, GMEMI_WIRE_PAGER);
	owner_end(&o, -ETIMEDOUT, "does not");
}

static void a_peer_that_goes(void **state)
{
	struct gmemi_wire wire;
	struct owner o;

	(void)state;
	owner_start(&o, SOCK_STREAM, GMEM_STRATEGY_COPY, NULL);
	hear(o.line.far, bytes, sizeof(bytes), GMEMI_WIRE_HELLO, &wire);
	line_close_far(&o.line);
	owner_end(&o, -ENOTCONN, "closed its end");
}

static void peers_that_break_the_protocol(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < 4; wrong++) {
		struct gmemi_wire wire = { .type = GMEMI_WIRE_READY };
		struct speaker speaker;
		struct owner o;

		owner_start(&o, SOCK_STREAM, GMEM_STRATEGY_COPY, NULL);
		speaker = (struct speaker){ .socket = o.line.far };
		if (wrong == 0)
			answer_hello(&speaker, GMEMI_WIRE_OWNER);
		if (wrong == 1)
			send_raw(o.line.far, "[]", 2, NULL, 0);
		if (wrong == 2)
			say(&speaker, &wire, NULL);
		if (wrong == 3) {
			answer_hello(&speaker, GMEMI_WIRE_PAGER);
			say_region(&speaker, 65536, 65536, 0);
		}
		owner_end(&o, -EPROTO,
			  (const char *[]){ "what this end is", "no message", "before HELLO", "which is the owner's" }[wrong]);
	}
}

/* Room for little, and nobody who takes it. */
static void a_peer_that_does_not_read(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 300000000 };
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, 2000);
	struct line line = line_make(SOCK_STREAM, &hurry);
	struct speaker speaker = { .socket = line.far };
	int least = 1;

	(void)state;
	assert_int_equal(setsockopt(line.channel->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
	for (uint64_t i = 0; i < 2000; i++)
		watch_pages(&lazy, i, 1, GMEM_STRATEGY_COPY);
	answer_hello(&speaker, GMEMI_WIRE_PAGER);
	assert_int_equal(gmemi_channel_send(line.channel, lazy.uffd, 1), -ETIMEDOUT);
	assert_int_equal(gmemi_channel_send(line.channel, lazy.uffd, 1), -EBADFD);
	line_end(&line);
	end_lazy(&lazy);
}

/* --- what cannot be handed out ------------------------------------------------------------------------------------------ */

static void what_firecracker_cannot_say(void **state)
{
	struct gmem_channel_open_opts text = { .size = sizeof(text), .protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct owner o;

	(void)state;
	owner_start(&o, SOCK_STREAM, GMEM_STRATEGY_FILL, &text);
	owner_end(&o, -EOPNOTSUPP, "GMEM_STRATEGY_COPY");
}

static void memory_that_is_mapped_twice(void **state)
{
	struct gmem_map_opts read_only = { .size = sizeof(read_only), .flags = GMEM_MAP_READONLY };
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct line line = line_make(SOCK_STREAM, NULL);
	void *second;

	(void)state;
	assert_int_equal(gmem_map(lazy.mem, lazy.page, 2 * lazy.page, &second, &read_only), 0);
	watch_pages(&lazy, 0, PAGES, GMEM_STRATEGY_FILL);
	assert_int_equal(gmemi_channel_send(line.channel, lazy.uffd, 1), -EOPNOTSUPP);
	line_end(&line);
	end_lazy(&lazy);
}

static void one_end_is_one_end(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct line line = line_make(SOCK_STREAM, NULL);
	struct gmem_uffd *uffd;

	(void)state;
	assert_int_equal(gmemi_channel_send(line.channel, lazy.uffd, 1), -EBADFD); /* it watches nothing */
	spoil_sentence();
	bad("gmem_channel_recv", gmem_channel_recv(line.channel, line.vm, &uffd), -EBADFD, "hands memory out");
	line_end(&line);
	end_lazy(&lazy);
}

/* --- arguments ---------------------------------------------------------------------------------------------------------- */

static void arguments_of_opening(void **state)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts) };
	char name[300];
	struct gmem_channel *channel = NULL;
	int ends[2], other;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	bad("gmem_channel_open", gmem_channel_open(ends[0], NULL, NULL), -EINVAL, "channel is NULL");
	opts.flags = 1;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -E2BIG, "opts->flags");
	opts.flags = 0;
	opts.protocol = 3;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "opts->protocol");
	opts.protocol = 0;
	opts.max_regions = 1000001;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "opts->max_regions");
	opts.max_regions = 0;
	opts.max_memories = 65;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "opts->max_memories");
	opts.max_memories = 0;
	opts.reserved = 1;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "opts->reserved");
	opts.reserved = 0;
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	opts.identity = name;
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "longer than 255");
	opts.identity = "a\nb";
	bad("gmem_channel_open", gmem_channel_open(ends[0], &channel, &opts), -EINVAL, "printable");
	bad("gmem_channel_open", gmem_channel_open(-1, &channel, NULL), -EBADF, "socket");
	other = open("/dev/null", O_RDWR | O_CLOEXEC);
	bad("gmem_channel_open", gmem_channel_open(other, &channel, NULL), -ENOTSOCK, "it is none");
	close(other);
	other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bad("gmem_channel_open", gmem_channel_open(other, &channel, NULL), -EINVAL, "no AF_UNIX socket");
	close(other);
	other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bad("gmem_channel_open", gmem_channel_open(other, &channel, NULL), -ENOTCONN, "not connected");
	close(other);
	assert_null(channel);
	name[255] = '\0';
	opts.identity = name;
	opts.timeout_ns = GMEM_FOREVER;
	assert_int_equal(gmem_channel_open(ends[0], &channel, &opts), 0);
	gmem_channel_close(channel);
	gmem_channel_close(NULL);
	close(ends[0]);
	close(ends[1]);
}

static void arguments_of_the_others(void **state)
{
	struct gmem_channel_info info = { .size = sizeof(info) };
	struct line line = line_make(SOCK_STREAM, NULL);
	struct gmem_uffd *uffd;

	(void)state;
	bad("gmem_channel_recv", gmem_channel_recv(NULL, line.vm, &uffd), -EINVAL, "the channel is NULL");
	bad("gmem_channel_recv", gmem_channel_recv(line.channel, NULL, &uffd), -EINVAL, "NULL");
	bad("gmem_channel_recv", gmem_channel_recv(line.channel, line.vm, NULL), -EINVAL, "uffd is NULL");
	bad("gmem_channel_recv", gmem_channel_recv(line.channel, line.vm, &uffd), -EAGAIN, "not all has come");
	bad("gmem_channel_get_fd", gmem_channel_get_fd(NULL), -EINVAL, "the channel is NULL");
	bad("gmem_channel_query", gmem_channel_query(NULL, &info), -EINVAL, "the channel is NULL");
	bad("gmem_channel_query", gmem_channel_query(line.channel, NULL), -EINVAL, "info is NULL");
	info.size = 4097;
	bad("gmem_channel_query", gmem_channel_query(line.channel, &info), -E2BIG, "info->size");
	info.size = sizeof(info);
	assert_int_equal(gmem_channel_query(line.channel, &info), 0);
	assert_int_equal(info.protocol, GMEM_PROTOCOL_AUTO);
	assert_int_equal(info.pid, getpid());
	assert_string_equal(info.identity, "");
	assert_true(gmem_channel_get_fd(line.channel) >= 3);
	assert_true(fcntl(gmem_channel_get_fd(line.channel), F_GETFD) & FD_CLOEXEC);
	line_end(&line);
}

static const struct gt_test tests[] = {
	GT(what_is_sent, GT_NEEDS_UFFD),
	GT(a_peer_that_is_silent, GT_NEEDS_UFFD),
	GT(a_peer_that_falls_silent, GT_NEEDS_UFFD),
	GT(a_peer_that_goes, GT_NEEDS_UFFD),
	GT(peers_that_break_the_protocol, GT_NEEDS_UFFD),
	GT(a_peer_that_does_not_read, GT_NEEDS_UFFD),
	GT(what_firecracker_cannot_say, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(memory_that_is_mapped_twice, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(one_end_is_one_end, GT_NEEDS_UFFD),
	GT(arguments_of_opening, GT_NEEDS_NOTHING),
	GT(arguments_of_the_others, GT_NEEDS_NOTHING),
};

GT_MAIN("channel_send", tests)
