/* SPDX-License-Identifier: MIT */
/* What the two ends say to each other besides the endpoint: messages for whoever uses the channel, and answers that find no
 * room at once. */
#include "gt.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "channels.h"
#include "err.h"

static unsigned char bytes[1 << 16];

/* --- messages for somebody else ----------------------------------------------------------------------------------------- */

struct heard {
	uint32_t count;
	uint16_t types[16];
	uint64_t cookie;
	bool refuse;
};

/* Answers a fault at once. */
static int note(void *user, struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	struct gmemi_wire done = { .type = GMEMI_WIRE_FAULT_DONE };
	struct heard *heard = user;

	heard->types[heard->count++ % 16] = wire->type;
	if (heard->refuse)
		return gmemi_refuse(-ECANCELED, "enough");
	if (wire->type != GMEMI_WIRE_FAULT)
		return 0;
	heard->cookie = wire->fault.cookie;
	done.fault_done = (struct gmemi_wire_fault_done){ .cookie = wire->fault.cookie,
							  .offset = wire->fault.offset,
							  .length = wire->fault.length };
	return gmemi_channel_answer(channel, &done);
}

static void say_the_rest(struct speaker *speaker)
{
	struct gmemi_wire beat = { .type = GMEMI_WIRE_HEARTBEAT, .heartbeat = { .interval_ns = 1000000 } };
	struct gmemi_wire fault = { .type = GMEMI_WIRE_FAULT },
			  ask = { .type = GMEMI_WIRE_ASK_STATISTICS, .end = { .endpoint = 9 } };

	fault.fault = (struct gmemi_wire_fault){ .endpoint = 9,
						 .memory = GMEMI_WIRE_NONE,
						 .cookie = 4711,
						 .offset = 4096,
						 .length = 4096,
						 .gpa = 8192,
						 .flags = 1,
						 .vcpu = 3 };
	say(speaker, &beat, NULL);
	say(speaker, &fault, NULL);
	say(speaker, &ask, NULL);
}

static void talk(int type)
{
	struct line line = line_make(type, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(2);
	struct heard heard = { 0 };
	struct gmemi_wire wire, detach = { .type = GMEMI_WIRE_DETACH, .end = { .endpoint = 9 } };
	struct gmem_uffd *uffd, *none;

	line.channel->notify = note;
	line.channel->notify_user = &heard;
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	say_region(&speaker, (uintptr_t)w.at, w.length, 0);
	say_ready(&speaker);
	uffd = line_take(&line);
	say_the_rest(&speaker);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	hear(line.far, bytes, sizeof(bytes), GMEMI_WIRE_FAULT_DONE, &wire);
	assert_int_equal(wire.fault_done.cookie, 4711);
	assert_int_equal(wire.fault_done.offset, 4096);
	assert_is_served(uffd, w.at, w.length, 0);
	say(&speaker, &detach, NULL);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	assert_int_equal(heard.count, 4);
	assert_int_equal(heard.types[0], GMEMI_WIRE_HEARTBEAT);
	assert_int_equal(heard.types[1], GMEMI_WIRE_FAULT);
	assert_int_equal(heard.types[2], GMEMI_WIRE_ASK_STATISTICS);
	assert_int_equal(heard.types[3], GMEMI_WIRE_DETACH);
	assert_null(line.channel->build.uffd);
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

static void messages_are_passed_on(void **state)
{
	(void)state;
	talk(SOCK_STREAM);
	talk(SOCK_SEQPACKET);
}

static void who_hears_them_may_refuse(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct heard heard = { .refuse = true };

	(void)state;
	line.channel->notify = note;
	line.channel->notify_user = &heard;
	say_hello(&speaker);
	say_the_rest(&speaker);
	line_refuses(&line, -ECANCELED, "enough");
	assert_int_equal(heard.count, 1);
	line_end(&line);
}

/* Nobody is there to hear them: nothing happens. */
static void they_are_for_nobody(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct gmem_uffd *none;

	(void)state;
	say_hello(&speaker);
	say_the_rest(&speaker);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	line_end(&line);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

static int answer_once(struct line *line)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HEARTBEAT };
	int r = gmemi_channel_answer(line->channel, &wire);

	return r < 0 ? r : gmemi_channel_flush(line->channel);
}

/* Answers that wait make the fd readable for who polls it once there is room, and go out then. */
static void answers_wait_for_room(int type)
{
	struct line line = line_make(type, NULL);
	struct pollfd fd = { .fd = gmem_channel_get_fd(line.channel), .events = POLLIN };
	struct speaker speaker = { .socket = line.far };
	struct gmem_uffd *none;
	struct gmemi_wire wire;
	uint64_t sent = 0;

	say_hello(&speaker);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	hear(line.far, bytes, sizeof(bytes), GMEMI_WIRE_HELLO, &wire);
	while (!line.channel->out_have) {
		assert_int_equal(answer_once(&line), 0);
		sent++;
	}
	assert_int_equal(poll(&fd, 1, 0), 0);
	for (uint64_t i = 0; i < sent; i++) {
		hear(line.far, bytes, 48, GMEMI_WIRE_HEARTBEAT, &wire); /* one at a time: there is room for no more */
		assert_int_equal(wire.number, i + 2);
		if (poll(&fd, 1, 0) == 1)
			assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	}
	assert_int_equal(line.channel->out_have, 0);
	assert_int_equal(poll(&fd, 1, 0), 0);
	line_end(&line);
}

static void answers_that_find_no_room(void **state)
{
	(void)state;
	answers_wait_for_room(SOCK_STREAM);
	answers_wait_for_room(SOCK_SEQPACKET);
}

static void a_peer_that_reads_no_answers(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	int r;

	(void)state;
	gmemi_enter("test_call");
	while ((r = answer_once(&line)) == 0)
		;
	assert_int_equal(r, -EPROTO);
	assert_non_null(strstr(gmem_last_error(), "does not read"));
	line_end(&line);
}

/* --- room --------------------------------------------------------------------------------------------------------------- */

/* Nothing is kept for what may not come for long; of what has come in part, nothing is lost. */
static void an_idle_channel_has_no_room(void **state)
{
	struct gmemi_wire beat = { .type = GMEMI_WIRE_HEARTBEAT, .heartbeat = { .interval_ns = 1 }, .number = 5 };
	size_t length = gmemi_wire_encode(&beat, bytes, sizeof(bytes));
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(1);
	struct heard heard = { 0 };
	struct gmem_uffd *uffd, *none;

	(void)state;
	line.channel->notify = note;
	line.channel->notify_user = &heard;
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	say_region(&speaker, (uintptr_t)w.at, w.length, 0);
	say_ready(&speaker);
	uffd = line_take(&line);
	assert_null(line.channel->in);
	send_raw(line.far, bytes, 30, NULL, 0);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	assert_int_equal(line.channel->in_have, 30);
	send_raw(line.far, bytes + 30, length - 30, NULL, 0);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	assert_int_equal(heard.count, 1);
	assert_null(line.channel->in);
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

/* After the handshake there is time for each message from its first byte on, and none is needed before that. */
static void a_message_that_stops(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(1);
	struct gmem_uffd *uffd, *none = NULL;
	struct gmemi_wire error;

	(void)state;
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	say_region(&speaker, (uintptr_t)w.at, w.length, 0);
	say_ready(&speaker);
	uffd = line_take(&line);
	line.channel->timeout_ns = 20000000; /* from now on, so that no slow machine misses the first */
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &none), -EAGAIN);
	assert_int_equal(line.channel->deadline, UINT64_MAX);
	say_region(&speaker, (uintptr_t)w.at + w.length, w.length, w.length);
	send_raw(line.far, "GMEM", 4, NULL, 0);
	line_refuses(&line, -ETIMEDOUT, "not complete");
	(void)hear(line.far, bytes, sizeof(bytes), GMEMI_WIRE_ERROR, &error);
	assert_int_equal(error.error.code, GMEMI_WIRE_FAILED);
	assert_int_equal(recv(line.far, bytes, sizeof(bytes), 0), 0);
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

static const struct gt_test tests[] = {
	GT(an_idle_channel_has_no_room, GT_NEEDS_UFFD),     GT(a_message_that_stops, GT_NEEDS_UFFD),
	GT(messages_are_passed_on, GT_NEEDS_UFFD),          GT(who_hears_them_may_refuse, GT_NEEDS_NOTHING),
	GT(they_are_for_nobody, GT_NEEDS_NOTHING),          GT(answers_that_find_no_room, GT_NEEDS_NOTHING),
	GT(a_peer_that_reads_no_answers, GT_NEEDS_NOTHING),
};

GT_MAIN("channel_talk", tests)
