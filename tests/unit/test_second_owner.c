/* SPDX-License-Identifier: MIT */
/* A VMM that knows the protocol by its page alone, and is served by the library. */
#include "gt.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
#include "second_owner.h"
#include "station.h"

#define PAGES 70 /* the last word of the page map is not full */
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)

/* --- the library's pager, in a process of its own ----------------------------------------------------------------------- */

struct depot {
	struct address address;
	pid_t pid;
};

/* Ends well if the VM leaves for this reason. */
static void be_depot(const struct address *address, int reason)
{
	struct station *station = calloc(1, sizeof(*station));
	int found;

	station_open(station, address, 1, NULL);
	found = station_await_left(station, 1);
	station_close(station);
	_exit(found == reason ? 0 : 3);
}

static struct depot depot_make(int type, int reason)
{
	struct depot depot = { .address = address_make(type) };

	depot.pid = fork();
	assert_true(depot.pid >= 0);
	if (depot.pid == 0) {
		alarm(100);
		be_depot(&depot.address, reason);
	}
	return depot;
}

static void depot_end(struct depot *depot)
{
	int status;

	assert_int_equal(waitpid(depot->pid, &status, 0), depot->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	address_end(&depot->address);
}

/* --- messages after the handshake --------------------------------------------------------------------------------------- */

/* The library's pager answers neither: what comes next is the answer to something else. */
static void ask_in_vain(struct second_owner *owner)
{
	struct note note = {
		.type = NOTE_FAULT,
		.part = {
			[FAULT_ENDPOINT] = ENDPOINT,
			[FAULT_MEMORY] = MEMORY,
			[FAULT_COOKIE] = 1,
			[FAULT_OFFSET] = 40 * owner->page,
			[FAULT_LENGTH] = owner->page,
			[FAULT_GUEST] = NO_ADDRESS,
		},
	};

	second_say(owner->second, &note, NULL);
	second_say_of(owner->second, NOTE_ASK_STATISTICS, ENDPOINT);
}

static void beat(struct second_owner *owner)
{
	struct note note = { .type = NOTE_HEARTBEAT, .part = { 1000000 } };

	second_say(owner->second, &note, NULL);
}

/* Of a kind that no version has, with the end of a pipe: the pager closes it, and goes on. */
static void say_what_is_not_known(struct second_owner *owner, uint16_t type)
{
	int ends[2];
	char byte;

	assert_int_equal(pipe(ends), 0);
	second_say_unknown(owner->second, type, 16, ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

static void detach(struct second_owner *owner)
{
	int fds[NOTE_FDS];
	struct note note;

	second_say_of(owner->second, NOTE_DETACH, ENDPOINT);
	second_expect(owner->second, NOTE_RELEASE, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], ENDPOINT);
	assert_int_equal(note.part[OF_CODE], 0);
	assert_int_equal(note.part[RELEASE_PENDING], 0);
}

/* --- served ------------------------------------------------------------------------------------------------------------- */

/* `later`: bytes of a later version, everywhere. */
static void serve(int type, uint32_t strategy, uint32_t later)
{
	struct depot depot = depot_make(type, 0);
	struct second_owner owner = second_owner_make(address_connect(&depot.address), strategy, PAGES);

	owner.second->later = later;
	second_owner_hand_over(&owner);
	say_what_is_not_known(&owner, 31);
	ask_in_vain(&owner);
	second_owner_check(&owner);
	beat(&owner);
	say_what_is_not_known(&owner, 0xffff);
	detach(&owner);
	second_owner_end(&owner);
	depot_end(&depot);
}

static void filled_over_a_stream(void **state)
{
	(void)state;
	serve(SOCK_STREAM, STRATEGY_FILL, 0);
}

static void filled_over_packets(void **state)
{
	(void)state;
	serve(SOCK_SEQPACKET, STRATEGY_FILL, 0);
}

static void copied_over_a_stream(void **state)
{
	(void)state;
	serve(SOCK_STREAM, STRATEGY_COPY, 0);
}

static void copied_over_packets(void **state)
{
	(void)state;
	serve(SOCK_SEQPACKET, STRATEGY_COPY, 0);
}

static void of_a_later_version(void **state)
{
	(void)state;
	serve(SOCK_STREAM, STRATEGY_FILL, 24);
	serve(SOCK_SEQPACKET, STRATEGY_COPY, 7);
}

static const struct gt_test tests[] = {
	GT(filled_over_a_stream, NEEDS), GT(filled_over_packets, NEEDS), GT(copied_over_a_stream, NEEDS),
	GT(copied_over_packets, NEEDS),	 GT(of_a_later_version, NEEDS),
};

GT_MAIN("second_owner", tests)
