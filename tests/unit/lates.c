/* SPDX-License-Identifier: MIT */
#include "lates.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "gt.h"
#include "handles.h"
#include "refusal.h"

/* --- what a pager says --------------------------------------------------------------------------------------------------- */

void late_hello(struct speaker *pager)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .hello = { 1, 1, GMEMI_WIRE_PAGER, 0, 0 } };

	say(pager, &wire, NULL);
}

void late_ready(struct speaker *pager, uint32_t endpoint)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_READY, .end = { .endpoint = endpoint } };

	say(pager, &wire, NULL);
}

void late_release(struct speaker *pager, uint32_t endpoint)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_RELEASE, .release = { .endpoint = endpoint, .code = 8 } };

	say(pager, &wire, NULL);
}

void late_error(struct speaker *pager)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ERROR, .error = { .code = GMEMI_WIRE_FAILED }, .text = "no", .text_length = 2 };

	say(pager, &wire, NULL);
}

void late_await(int socket, enum gmemi_wire_type type)
{
	unsigned char *bytes = malloc(1 << 17);
	struct gmemi_wire wire;

	assert_non_null(bytes);
	assert_true(hear(socket, bytes, 1 << 17, type, &wire) > 0);
	free(bytes);
}

/* --- the guard ---------------------------------------------------------------------------------------------------------- */

static int note_event(void *user, enum gmem_guard_event event)
{
	struct late *late = user;

	late->last = event;
	return 0;
}

void late_begin_in_ranges(struct late *late, int type, uint64_t timeout_ns, uint64_t ranges)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts), .timeout_ns = timeout_ns };
	struct gmem_guard_create_opts guard = { .size = sizeof(guard), .event = note_event, .user = late };

	*late = (struct late){ .lazy = make_lazy(GMEM_BACKING_MEMFD, LATE_PAGES) };
	for (uint64_t i = 0; i < ranges; i++)
		watch_pages(&late->lazy, i * (LATE_PAGES / ranges), LATE_PAGES / ranges, GMEM_STRATEGY_FILL);
	late->line = line_make(type, &opts);
	late->pager.socket = late->line.far;
	assert_int_equal(gmem_guard_create(late->lazy.uffd, &late->guard, &guard), 0);
}

void late_begin(struct late *late, int type, uint64_t timeout_ns)
{
	late_begin_in_ranges(late, type, timeout_ns, 1);
}

void late_end(struct late *late)
{
	gmem_guard_destroy(late->guard);
	line_end(&late->line);
	end_lazy(&late->lazy);
}

void late_no_other_pager(struct late *late)
{
	struct line other = line_make(SOCK_STREAM, NULL);

	assert_int_equal(gmem_guard_attach(late->guard, other.channel), -EBUSY);
	line_end(&other);
}

static void *take_over(void *arg)
{
	struct speaker pager = { .socket = ((struct line *)arg)->far };

	late_hello(&pager);
	late_await(pager.socket, GMEMI_WIRE_READY);
	late_ready(&pager, LATE_FIRST + 1);
	return NULL;
}

void late_another_pager(struct late *late, uint64_t deaths)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct line other = line_make(SOCK_STREAM, NULL);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, take_over, &other), 0);
	assert_int_equal(gmem_guard_attach(late->guard, other.channel), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(gmem_guard_query(late->guard, &info), 0);
	assert_int_equal(info.state, GMEM_GUARD_ATTACHED);
	assert_int_equal(info.deaths, deaths);
	line_end(&other);
}

void late_expect(struct late *late, enum gmem_guard_event event)
{
	assert_int_equal(gmem_guard_run(late->guard, GMEM_FOREVER), 1);
	assert_int_equal(late->last, event);
}

/* --- signals ------------------------------------------------------------------------------------------------------------ */

static void nothing(int signal)
{
	(void)signal;
}

static struct {
	pthread_t waits;
	void (*until)(int socket);
	int socket;
	atomic_bool interrupted;
} signals;

/* Until it has worked: a signal may come before the wait. */
static void *send_signals(void *unused)
{
	signals.until(signals.socket);
	while (!atomic_load(&signals.interrupted)) {
		pthread_kill(signals.waits, SIGUSR1);
		sched_yield();
	}
	return unused;
}

void late_be_interrupted(struct late *late, struct gmem_channel *channel, int socket, void (*until)(int socket))
{
	struct sigaction action = { .sa_handler = nothing }, before;
	pthread_t thread;
	int r;

	sigaction(SIGUSR1, &action, &before);
	signals.waits = pthread_self();
	signals.until = until;
	signals.socket = socket;
	atomic_store(&signals.interrupted, false);
	assert_int_equal(pthread_create(&thread, NULL, send_signals, NULL), 0);
	r = gmem_guard_attach(late->guard, channel);
	atomic_store(&signals.interrupted, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	sigaction(SIGUSR1, &before, NULL);
	bad("gmem_guard_attach", r, -EINTR, "waiting for the peer");
}
