/* SPDX-License-Identifier: MIT */
/* A VMM that knows the protocol by its page alone, and is served by the library. */
#include "gt.h"

#include <errno.h>
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

/* Of two pages, which nobody touches. */
static void ask_for_pages(struct second_owner *owner)
{
	int fds[NOTE_FDS];
	struct note note = {
		.type = NOTE_FAULT,
		.part = {
			[FAULT_ENDPOINT] = ENDPOINT,
			[FAULT_MEMORY] = MEMORY,
			[FAULT_COOKIE] = UINT64_MAX,
			[FAULT_OFFSET] = 40 * owner->page,
			[FAULT_LENGTH] = owner->page + 1,
			[FAULT_GUEST] = NO_ADDRESS,
			[FAULT_FLAGS] = UINT64_MAX,
		},
	};

	second_say(owner->second, &note, NULL);
	second_expect(owner->second, NOTE_FAULT_DONE, 0, &note, fds);
	assert_int_equal(note.part[DONE_COOKIE], UINT64_MAX);
	assert_int_equal(note.part[DONE_OFFSET], 40 * owner->page);
	assert_int_equal(note.part[DONE_LENGTH], owner->page + 1);
	assert_int_equal(note.part[DONE_CODE], 0);
	assert_int_equal(second_state(owner, 40), 1);
	assert_int_equal(second_state(owner, 41), 1);
}

/* Of the six counters of the page each is there, once. */
static void ask_for_statistics(struct second_owner *owner)
{
	uint64_t said[7] = { 0 }, seen = 0;
	int fds[NOTE_FDS];
	struct note note;

	second_say_of(owner->second, NOTE_ASK_STATISTICS, ENDPOINT);
	second_expect(owner->second, NOTE_STATISTICS, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], ENDPOINT);
	for (uint32_t i = 0; i < note.items; i++) {
		uint64_t what = note.item[i][STATISTIC_WHAT];

		assert_true(what >= 1 && what <= 6);
		said[what] = note.item[i][STATISTIC_VALUE];
		seen |= UINT64_C(1) << what;
	}
	assert_int_equal(note.items, 6);
	assert_int_equal(seen, 0x7e);
	assert_true(said[1] >= 1);
	assert_int_equal(said[2] + said[3] * owner->page, PAGES * owner->page);
	assert_int_equal(said[4], 0);
	assert_int_equal(said[5], 0);
	assert_int_equal(said[6], 0);
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
	second_owner_say_all(&owner);
	second_owner_hear_all(&owner);
	say_what_is_not_known(&owner, 31);
	ask_for_pages(&owner);
	second_owner_check(&owner);
	ask_for_statistics(&owner);
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

/* --- taken by gmem_channel_recv() --------------------------------------------------------------------------------------- */

static uint64_t ranges_of(const struct gmem_uffd *uffd)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	return info.ranges;
}

static void say_removed(struct second_owner *owner, uint64_t offset, uint64_t length)
{
	struct note note = {
		.type = NOTE_REMOVE,
		.part = { [OF_ENDPOINT] = ENDPOINT },
		.items = 1,
		.item = { { [RANGE_MEMORY] = MEMORY, [RANGE_OFFSET] = offset, [RANGE_LENGTH] = length } },
	};

	second_say(owner->second, &note, NULL);
}

/* A range goes, and comes back. */
static void change_ranges(struct line *line, struct second_owner *owner, struct gmem_uffd *uffd)
{
	struct gmem_uffd *next;

	say_removed(owner, 0, PAGES / 2 * owner->page);
	assert_int_equal(gmem_channel_recv(line->channel, line->vm, &next), -EAGAIN);
	assert_int_equal(ranges_of(uffd), 1);
	second_owner_say_half(owner, 0);
	assert_int_equal(gmem_channel_recv(line->channel, line->vm, &next), -EAGAIN);
	assert_int_equal(ranges_of(uffd), 2);
}

static void take(int type, uint32_t strategy, uint32_t later)
{
	struct line line = line_make(type, NULL);
	struct second_owner owner = second_owner_make(line.far, strategy, PAGES);
	struct gmem_channel_info peer = { .size = sizeof(peer) };
	uint64_t half = PAGES / 2 * owner.page;
	struct gmem_uffd *uffd;

	line.far = -1; /* the owner's */
	owner.second->later = later;
	second_owner_say_all(&owner);
	uffd = line_take(&line);
	second_owner_hear_all(&owner);
	assert_int_equal(gmem_channel_query(line.channel, &peer), 0);
	assert_string_equal(peer.identity, "a second reading");
	change_ranges(&line, &owner, uffd);
	assert_is_served(uffd, owner.at, half, second_content(&owner, 0));
	assert_is_served(uffd, owner.at + half, half, second_content(&owner, 1));
	second_owner_check(&owner);
	gmem_uffd_destroy(uffd);
	second_owner_end(&owner);
	line_end(&line);
}

static void taken_from_a_stream(void **state)
{
	(void)state;
	take(SOCK_STREAM, STRATEGY_FILL, 0);
	take(SOCK_STREAM, STRATEGY_COPY, 11);
}

static void taken_from_packets(void **state)
{
	(void)state;
	take(SOCK_SEQPACKET, STRATEGY_COPY, 0);
	take(SOCK_SEQPACKET, STRATEGY_FILL, 100);
}

/* What may not be passed over is refused, in words. */
static void an_essential_message(void **state)
{
	struct note hello = { .type = NOTE_HELLO, .part = { 1, 1, 1, 0, 0 } };
	struct note later = { .type = 100, .flags = NOTE_ESSENTIAL, .later_body = 16 }, note;
	struct line line = line_make(SOCK_STREAM, NULL);
	struct second *second = second_make(line.far);
	int fds[NOTE_FDS];

	(void)state;
	line.far = -1;
	second_say(second, &hello, NULL);
	second_say(second, &later, NULL);
	line_refuses(&line, -EPROTO, "100");
	second_expect(second, NOTE_HELLO, 0, &note, fds);
	second_expect(second, NOTE_ERROR, 0, &note, fds);
	assert_int_equal(note.part[ERROR_CODE], 1);
	assert_int_not_equal(note.text[0], '\0');
	second_expect_end(second); /* it is shut down, whenever it is closed */
	second_end(second);
	line_end(&line);
}

/* Which is not answered. */
static void an_error(void **state)
{
	struct note hello = { .type = NOTE_HELLO, .part = { 1, 1, 1, 0, 0 } };
	struct note error = { .type = NOTE_ERROR, .part = { 8, 0, 0 }, .text = "something went wrong" }, note;
	struct line line = line_make(SOCK_STREAM, NULL);
	struct second *second = second_make(line.far);
	int fds[NOTE_FDS];

	(void)state;
	line.far = -1;
	second_say(second, &hello, NULL);
	second_say(second, &error, NULL);
	line_refuses(&line, -EPROTO, "something went wrong");
	second_expect(second, NOTE_HELLO, 0, &note, fds);
	second_expect_end(second);
	second_end(second);
	line_end(&line);
}

static const struct gt_test tests[] = {
	GT(filled_over_a_stream, NEEDS),
	GT(filled_over_packets, NEEDS),
	GT(copied_over_a_stream, NEEDS),
	GT(copied_over_packets, NEEDS),
	GT(of_a_later_version, NEEDS),
	GT(taken_from_a_stream, NEEDS),
	GT(taken_from_packets, NEEDS),
	GT(an_essential_message, 0),
	GT(an_error, 0),
};

GT_MAIN("second_owner", tests)
