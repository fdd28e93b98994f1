/* SPDX-License-Identifier: MIT */
/* Pagers that were sent an endpoint and did not answer in time: what they say later. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channels.h"
#include "faults.h"
#include "handles.h"
#include "refusal.h"
#include "station.h"

#define PAGES 256 /* as ranges of one page they are more than a small socket takes */
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define FIRST 1 /* the number of the first endpoint of a guard */

/* --- a pager by hand, in this process: it never ends ---------------------------------------------------------------------- */

static void hello(struct speaker *pager)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .hello = { 1, 1, GMEMI_WIRE_PAGER, 0, 0 } };

	say(pager, &wire, NULL);
}

static void ready(struct speaker *pager, uint32_t endpoint)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_READY, .end = { .endpoint = endpoint } };

	say(pager, &wire, NULL);
}

static void release(struct speaker *pager, uint32_t endpoint)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_RELEASE, .release = { .endpoint = endpoint, .code = 8 } };

	say(pager, &wire, NULL);
}

static void error(struct speaker *pager)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ERROR, .error = { .code = GMEMI_WIRE_FAILED }, .text = "no", .text_length = 2 };

	say(pager, &wire, NULL);
}

static void await_from_owner(int socket, enum gmemi_wire_type type)
{
	unsigned char *bytes = malloc(1 << 17);
	struct gmemi_wire wire;

	assert_non_null(bytes);
	assert_true(hear(socket, bytes, 1 << 17, type, &wire) > 0);
	free(bytes);
}

/* --- a guard, and a pager that was too slow ------------------------------------------------------------------------------- */

struct late {
	struct lazy lazy;
	struct line line;
	struct speaker pager;
	struct gmem_guard *guard;
	enum gmem_guard_event last;
};

static int note_event(void *user, enum gmem_guard_event event)
{
	struct late *late = user;

	late->last = event;
	return 0;
}

static void begin_in_ranges(struct late *late, int type, uint64_t timeout_ns, uint64_t ranges)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts), .timeout_ns = timeout_ns };
	struct gmem_guard_create_opts guard = { .size = sizeof(guard), .event = note_event, .user = late };

	*late = (struct late){ .lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES) };
	for (uint64_t i = 0; i < ranges; i++)
		watch_pages(&late->lazy, i * (PAGES / ranges), PAGES / ranges, GMEM_STRATEGY_FILL);
	late->line = line_make(type, &opts);
	late->pager.socket = late->line.far;
	assert_int_equal(gmem_guard_create(late->lazy.uffd, &late->guard, &guard), 0);
}

static void begin(struct late *late, int type, uint64_t timeout_ns)
{
	begin_in_ranges(late, type, timeout_ns, 1);
}

static void end(struct late *late)
{
	gmem_guard_destroy(late->guard);
	line_end(&late->line);
	end_lazy(&late->lazy);
}

static void close_channel(struct late *late)
{
	gmem_channel_close(late->line.channel);
	late->line.channel = NULL;
}

/* Its HELLO is there before anybody waits for it, and its time is over when somebody would. The caller's claim on the channel
 * is given up. */
static void be_late(struct late *late, int type)
{
	begin(late, type, 1);
	hello(&late->pager);
	bad("gmem_guard_attach", gmem_guard_attach(late->guard, late->line.channel), -ETIMEDOUT, "does not answer");
	close_channel(late);
	await_from_owner(late->line.far, GMEMI_WIRE_DETACH);
}

static void no_other_pager(struct late *late)
{
	struct line other = line_make(SOCK_STREAM, NULL);

	assert_int_equal(gmem_guard_attach(late->guard, other.channel), -EBUSY);
	line_end(&other);
}

static void *take_over(void *arg)
{
	struct speaker pager = { .socket = ((struct line *)arg)->far };

	hello(&pager);
	await_from_owner(pager.socket, GMEMI_WIRE_READY);
	ready(&pager, FIRST + 1);
	return NULL;
}

static void another_pager(struct late *late, uint64_t deaths)
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

static void expect(struct late *late, enum gmem_guard_event event)
{
	assert_int_equal(gmem_guard_run(late->guard, GMEM_FOREVER), 1);
	assert_int_equal(late->last, event);
}

/* --- what it says --------------------------------------------------------------------------------------------------------- */

static void lets_go(int type)
{
	struct late late;

	be_late(&late, type);
	no_other_pager(&late);
	release(&late.pager, FIRST);
	expect(&late, GMEM_GUARD_RELEASED);
	another_pager(&late, 0);
	end(&late);
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
	ready(&late.pager, FIRST);
	release(&late.pager, FIRST);
	expect(&late, GMEM_GUARD_RELEASED);
	another_pager(&late, 0);
	end(&late);
}

static void refused(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	error(&late.pager);
	line_close_far(&late.line);
	expect(&late, GMEM_GUARD_RELEASED);
	another_pager(&late, 0);
	end(&late);
}

/* Whoever had taken it may be storing yet. */
static void ready_and_an_error(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	ready(&late.pager, FIRST);
	error(&late.pager);
	expect(&late, GMEM_GUARD_SILENT);
	no_other_pager(&late);
	end(&late);
}

static void ready_alone(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	ready(&late.pager, FIRST);
	expect(&late, GMEM_GUARD_SILENT);
	assert_int_equal(gmem_guard_ask(late.guard), -ENOTCONN);
	no_other_pager(&late);
	end(&late);
}

/* It is heard after that as well; of another endpoint it is nothing. */
static void nothing_for_long(void **state)
{
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	expect(&late, GMEM_GUARD_SILENT);
	no_other_pager(&late);
	release(&late.pager, FIRST + 1);
	assert_int_equal(gmem_guard_run(late.guard, 0), 0);
	no_other_pager(&late);
	release(&late.pager, FIRST);
	expect(&late, GMEM_GUARD_RELEASED);
	another_pager(&late, 0);
	end(&late);
}

static void hangs_up(void **state)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct late late;

	(void)state;
	be_late(&late, SOCK_STREAM);
	line_close_far(&late.line);
	expect(&late, GMEM_GUARD_SILENT);
	assert_int_equal(gmem_guard_query(late.guard, &info), 0);
	assert_int_equal(info.deaths, 1);
	no_other_pager(&late);
	end(&late);
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
	end(&late);
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
	hello(&late->pager);
	bad("gmem_guard_attach", gmem_guard_attach(late->guard, late->line.channel), -ETIMEDOUT, "does not take what is sent");
	close_channel(late);
	no_other_pager(late);
}

static void *read_on_and_refuse(void *arg)
{
	struct late *late = arg;
	char bytes[4096];

	while (recv(late->line.far, bytes, sizeof(bytes), 0) > 0)
		;
	error(&late->pager);
	return NULL;
}

/* A message that is sent in part ends there, and so does what the pager hears: it can still say that it refuses. */
static void a_message_in_part(void **state)
{
	pthread_t thread;
	struct late late;

	(void)state;
	begin_in_ranges(&late, SOCK_STREAM, 1, PAGES);
	be_late_in_the_middle(&late);
	assert_int_equal(pthread_create(&thread, NULL, read_on_and_refuse, &late), 0);
	expect(&late, GMEM_GUARD_RELEASED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	another_pager(&late, 0);
	end(&late);
}

/* --- signals ------------------------------------------------------------------------------------------------------------ */

static void nothing(int signal)
{
	(void)signal;
}

static struct {
	pthread_t waits;
	int socket;
	atomic_bool interrupted;
} signals;

/* Until it has worked: a signal may come before the wait. */
static void send_signals(void)
{
	while (!atomic_load(&signals.interrupted)) {
		pthread_kill(signals.waits, SIGUSR1);
		sched_yield();
	}
}

static void *interrupt_when_all_is_sent(void *unused)
{
	await_from_owner(signals.socket, GMEMI_WIRE_READY);
	send_signals();
	return unused;
}

static void *interrupt_when_told(void *unused)
{
	char byte;

	assert_int_equal(read(signals.socket, &byte, 1), 1);
	send_signals();
	return unused;
}

static void be_interrupted(struct late *late, struct gmem_channel *channel, int socket, void *(*body)(void *))
{
	struct sigaction action = { .sa_handler = nothing }, before;
	pthread_t thread;
	int r;

	sigaction(SIGUSR1, &action, &before);
	signals.waits = pthread_self();
	signals.socket = socket;
	atomic_store(&signals.interrupted, false);
	assert_int_equal(pthread_create(&thread, NULL, body, NULL), 0);
	r = gmem_guard_attach(late->guard, channel);
	atomic_store(&signals.interrupted, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	sigaction(SIGUSR1, &before, NULL);
	bad("gmem_guard_attach", r, -EINTR, "waiting for the peer");
}

static void interrupted(void **state)
{
	struct late late;

	(void)state;
	begin(&late, SOCK_STREAM, GMEM_FOREVER);
	hello(&late.pager);
	be_interrupted(&late, late.line.channel, late.line.far, interrupt_when_all_is_sent);
	no_other_pager(&late);
	bad("gmem_guard_attach", gmem_guard_attach(late.guard, late.line.channel), -EBADFD, "used");
	close_channel(&late);
	release(&late.pager, FIRST);
	expect(&late, GMEM_GUARD_RELEASED);
	another_pager(&late, 0);
	end(&late);
}

/* --- a pager that is a process of its own --------------------------------------------------------------------------------- */

static int gate; /* a socket: a byte there is said by who is in `admit`, and what is answered is the answer */

static int wait_at_gate(struct station *station, const struct gmem_channel_info *peer)
{
	signed char answer = 0;

	(void)peer;
	station_admit_all(station);
	if (write(gate, "", 1) != 1 || read(gate, &answer, 1) != 1)
		_exit(2);
	return answer;
}

/* Returns the end of the gate that is this process's. */
static int start_pager(const struct address *address, pid_t *pid)
{
	struct station *station = calloc(1, sizeof(*station));
	int ends[2];

	assert_non_null(station);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	*pid = fork();
	assert_true(*pid >= 0);
	if (*pid == 0) {
		close(ends[0]);
		gate = ends[1];
		alarm(100);
		station->admit = wait_at_gate;
		station_open(station, address, 2, NULL);
		for (;;)
			pause();
	}
	free(station);
	close(ends[1]);
	return ends[0];
}

static struct gmem_channel *open_channel(const struct address *address)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts), .timeout_ns = GMEM_FOREVER };
	struct gmem_channel *channel;
	int socket = address_connect(address);

	assert_int_equal(gmem_channel_open(socket, &channel, &opts), 0);
	close(socket);
	return channel;
}

static void attach_again(struct late *late, const struct address *address)
{
	struct gmem_channel *channel = open_channel(address);

	assert_int_equal(gmem_guard_attach(late->guard, channel), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(late->lazy.at[i * late->lazy.page], content_at(i * late->lazy.page));
	gmem_channel_close(channel);
}

static void kill_pager(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* A pager whose program decides only when nobody waits for that any more. */
static void decided_late(signed char answer)
{
	struct address address = address_make(SOCK_STREAM);
	struct gmem_channel *channel;
	struct late late;
	pid_t pid;
	int end_of_gate = start_pager(&address, &pid);

	begin(&late, SOCK_STREAM, 0);
	channel = open_channel(&address);
	be_interrupted(&late, channel, end_of_gate, interrupt_when_told);
	gmem_channel_close(channel);
	no_other_pager(&late);
	assert_int_equal(write(end_of_gate, &answer, 1), 1);
	expect(&late, GMEM_GUARD_RELEASED);
	attach_again(&late, &address);
	end(&late);
	kill_pager(pid);
	close(end_of_gate);
	address_end(&address);
}

static void admitted_late(void **state)
{
	(void)state;
	decided_late(0);
}

static void refused_late(void **state)
{
	(void)state;
	decided_late(-EACCES);
}

static void killed(void **state)
{
	struct address address = address_make(SOCK_STREAM);
	struct gmem_channel *channel;
	struct late late;
	pid_t pid;
	int end_of_gate = start_pager(&address, &pid);

	(void)state;
	begin(&late, SOCK_STREAM, 0);
	channel = open_channel(&address);
	be_interrupted(&late, channel, end_of_gate, interrupt_when_told);
	gmem_channel_close(channel);
	kill_pager(pid);
	while (late.last != GMEM_GUARD_DEAD) /* the end of the process may be seen later than that of its connection */
		assert_int_equal(gmem_guard_run(late.guard, GMEM_FOREVER), 1);
	another_pager(&late, 1);
	end(&late);
	close(end_of_gate);
	address_end(&address);
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
	GT(admitted_late, NEEDS),
	GT(refused_late, NEEDS),
	GT(killed, NEEDS),
};

GT_MAIN("guard_late", tests)
