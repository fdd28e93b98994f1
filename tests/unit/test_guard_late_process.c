/* SPDX-License-Identifier: MIT */
/* Pagers that were too slow to take an endpoint, in processes of their own, and with a server: what becomes of them. */
#include "gt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lates.h"
#include "station.h"

#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)

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
	for (uint64_t i = 0; i < LATE_PAGES; i++)
		assert_int_equal(late->lazy.at[i * late->lazy.page], content_at(i * late->lazy.page));
	gmem_channel_close(channel);
}

static void kill_pager(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void somebody_is_in_admit(int socket)
{
	char byte;

	assert_int_equal(read(socket, &byte, 1), 1);
}

/* A pager whose program decides only when nobody waits for that any more. */
static void decided_late(signed char answer)
{
	struct address address = address_make(SOCK_STREAM);
	struct gmem_channel *channel;
	struct late late;
	pid_t pid;
	int end_of_gate = start_pager(&address, &pid);

	late_begin(&late, SOCK_STREAM, 0);
	channel = open_channel(&address);
	late_be_interrupted(&late, channel, end_of_gate, somebody_is_in_admit);
	gmem_channel_close(channel);
	late_no_other_pager(&late);
	assert_int_equal(write(end_of_gate, &answer, 1), 1);
	late_expect(&late, GMEM_GUARD_RELEASED);
	attach_again(&late, &address);
	late_end(&late);
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
	late_begin(&late, SOCK_STREAM, 0);
	channel = open_channel(&address);
	late_be_interrupted(&late, channel, end_of_gate, somebody_is_in_admit);
	gmem_channel_close(channel);
	kill_pager(pid);
	while (late.last != GMEM_GUARD_DEAD) /* the end of the process may be seen later than that of its connection */
		assert_int_equal(gmem_guard_run(late.guard, GMEM_FOREVER), 1);
	late_another_pager(&late, 1);
	late_end(&late);
	close(end_of_gate);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(admitted_late, NEEDS),
	GT(refused_late, NEEDS),
	GT(killed, NEEDS),
};

GT_MAIN("guard_late_process", tests)
