/* SPDX-License-Identifier: MIT */
/* Pagers that were sent an endpoint and did not answer in time: what they say later. They are this process: it never ends. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handles.h"
#include "lates.h"
#include "refusal.h"

#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)

/* --- being late ---------------------------------------------------------------------------------------------------------- */

static void close_channel(struct late *late)
{
	gmem_channel_close(late->line.channel);
	late->line.channel = NULL;
}

/* Its HELLO is there before anybody waits for it, and its time is over when somebody would. The caller's claim on the channel
 * is given up. */
static void be_late(struct late *late, int type)
{
	late_begin(late, type, 1);
	late_hello(&late->pager);
	bad("gmem_guard_attach", gmem_guard_attach(late->guard, late->line.channel), -ETIMEDOUT, "does not answer");
	close_channel(late);
	late_await(late->line.far, GMEMI_WIRE_DETACH);
}

/* --- what it says --------------------------------------------------------------------------------------------------------- */

static void lets_go(int type)
{
	struct late late;

	be_late(&late, type);
	late_no_other_pager(&late);
	late_release(&late.pager, LATE_FIRST);
	late_expect(&late, GMEM_GUARD_RELEASED);
	late_another_pager(&late, 0);
	late_end(&late);
}

static void released(void **state)
{
	(void)state;
	lets_go(SOCK_STREAM);
	lets_go(SOCK_SEQPACKET);
}

/* Its READY was on the way; both may come at once. */
static void ready_and_released(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	late_ready(&late.pager, LATE_FIRST);
	late_release(&late.pager, LATE_FIRST);
	late_expect(&late, GMEM_GUARD_RELEASED);
	late_another_pager(&late, 0);
	late_end(&late);
}

static void refused(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	late_error(&late.pager);
	line_close_far(&late.line);
	late_expect(&late, GMEM_GUARD_RELEASED);
	late_another_pager(&late, 0);
	late_end(&late);
}

/* Whoever had taken it may be storing yet. */
static void ready_and_an_error(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	late_ready(&late.pager, LATE_FIRST);
	late_error(&late.pager);
	late_expect(&late, GMEM_GUARD_SILENT);
	late_no_other_pager(&late);
	late_end(&late);
}

static void ready_alone(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	late_ready(&late.pager, LATE_FIRST);
	late_expect(&late, GMEM_GUARD_SILENT);
	assert_int_equal(gmem_guard_ask(late.guard), -ENOTCONN);
	late_no_other_pager(&late);
	late_end(&late);
}

/* It is heard after that as well; of another endpoint it is nothing. */
static void nothing_for_long(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	late_expect(&late, GMEM_GUARD_SILENT);
	late_no_other_pager(&late);
	late_release(&late.pager, LATE_FIRST + 1);
	assert_int_equal(gmem_guard_run(late.guard, 0), 0);
	late_no_other_pager(&late);
	late_release(&late.pager, LATE_FIRST);
	late_expect(&late, GMEM_GUARD_RELEASED);
	late_another_pager(&late, 0);
	late_end(&late);
}

static void hangs_up(void **state)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	line_close_far(&late.line);
	late_expect(&late, GMEM_GUARD_SILENT);
	assert_int_equal(gmem_guard_query(late.guard, &info), 0);
	assert_int_equal(info.deaths, 1);
	late_no_other_pager(&late);
	late_end(&late);
}

static void destroyed_meanwhile(void **state)
{
	struct late late;
	char byte;

	(void)state;
	be_late(&late, SOCK_STREAM);
	gmem_guard_destroy(late.guard);
	late.guard = NULL;
	assert_int_equal(recv(late.line.far, &byte, 1, 0), 0); /* DETACH was said once, and this is the end */
	late_end(&late);
}

/* --- a pager that does not read ------------------------------------------------------------------------------------------- */

/* There is room for a few small messages, and all is too much. */
static void be_late_in_the_middle(struct late *late)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts), .timeout_ns = 1 };
	int ends[2], room = 4096;

	line_end(&late->line);
	late->line = (struct line){ .vm = open_vm(-1) };
	alarm(100);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	assert_int_equal(gmem_channel_open(ends[0], &late->line.channel, &opts), 0);
	close(ends[0]);
	late->line.far = late->pager.socket = ends[1];
	late_hello(&late->pager);
	bad("gmem_guard_attach", gmem_guard_attach(late->guard, late->line.channel), -ETIMEDOUT, "does not take what is sent");
	close_channel(late);
	late_no_other_pager(late);
}

static void *read_on_and_refuse(void *arg)
{
	struct late *late = arg;
	char bytes[4096];

	while (recv(late->line.far, bytes, sizeof(bytes), 0) > 0)
		;
	late_error(&late->pager);
	return NULL;
}

/* A message that is sent in part ends there, and so does what the pager hears: it can still say that it refuses. */
static void a_message_in_part(void **state)
{
	pthread_t thread;
	struct late late;

	(void)state;
	late_begin_in_ranges(&late, SOCK_STREAM, 1, LATE_PAGES);
	be_late_in_the_middle(&late);
	assert_int_equal(pthread_create(&thread, NULL, read_on_and_refuse, &late), 0);
	late_expect(&late, GMEM_GUARD_RELEASED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	late_another_pager(&late, 0);
	late_end(&late);
}

/* --- signals ------------------------------------------------------------------------------------------------------------ */

static void all_is_sent(int socket)
{
	late_await(socket, GMEMI_WIRE_READY);
}

static void interrupted(void **state)
{
	struct late late;

	(void)state;
	late_begin(&late, SOCK_STREAM, GMEM_FOREVER);
	late_hello(&late.pager);
	late_be_interrupted(&late, late.line.channel, late.line.far, all_is_sent);
	late_no_other_pager(&late);
	bad("gmem_guard_attach", gmem_guard_attach(late.guard, late.line.channel), -EBADFD, "used");
	close_channel(&late);
	late_release(&late.pager, LATE_FIRST);
	late_expect(&late, GMEM_GUARD_RELEASED);
	late_another_pager(&late, 0);
	late_end(&late);
}

static const struct gt_test tests[] = {
	GT(released, NEEDS),
	GT(ready_and_released, NEEDS),
	GT(refused, NEEDS),
	GT(ready_and_an_error, NEEDS),
	GT(ready_alone, NEEDS),
	GT(nothing_for_long, NEEDS),
	GT(hangs_up, NEEDS),
	GT(destroyed_meanwhile, NEEDS),
	GT(a_message_in_part, NEEDS),
	GT(interrupted, NEEDS),
};

GT_MAIN("guard_late", tests)
