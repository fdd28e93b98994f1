/* SPDX-License-Identifier: MIT */
/* splice() into memfds: when it is used, that it puts the same bytes in as any other way, and what it says when it cannot. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"
#include "sources.h"

#define PAGES 120
#define LENGTH (PAGES * page())
#define ROOM (100 * page()) /* in a pipe */

static struct memory m;
static unsigned char *content;

static void set_up(enum make make)
{
	m = make_memory(make, LENGTH);
	content = pages_of_content(PAGES, 3);
}

static void tear_down(void)
{
	free(content);
	end_memory(&m);
}

static struct gmem_populate_opts options(uint64_t flags, enum gmem_mechanism forced)
{
	return (struct gmem_populate_opts){
		.size = sizeof(struct gmem_populate_opts), .flags = flags, .chunk = 16 * page(), .mechanism = forced
	};
}

#define KEEP GMEM_POPULATE_KEEP_ZEROS

static int fill(uint64_t offset, uint64_t length, int fd, uint64_t from, uint64_t *done)
{
	struct gmem_populate_opts opts = options(KEEP, 0);

	spoil_sentence();
	*done = UINT64_MAX;
	return gmem_populate_fd(m.mem, offset, length, fd, from, done, &opts);
}

static enum gmem_mechanism used(void)
{
	return (enum gmem_mechanism)info_of(m.mem).populate_mechanism;
}

/* The end to read; with `open`, *writer stays. */
static int pipe_of(const unsigned char *data, uint64_t length, int *writer)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, (int)ROOM) >= (int)ROOM);
	assert_int_equal(write(ends[1], data, length), length);
	if (writer)
		*writer = ends[1];
	else
		close(ends[1]);
	return ends[0];
}

/* Content */

static void check_range(uint64_t offset, uint64_t length, uint64_t from, bool piped)
{
	uint64_t first = offset / page(), end = (offset + length + page() - 1) / page(), done;
	int fd;

	set_up(MEMFD);
	fd = piped ? pipe_of(content + from, length, NULL) : file_of(content, LENGTH);
	assert_int_equal(fill(offset, length, fd, from, &done), 0);
	assert_int_equal(done, length);
	assert_int_equal(used(), GMEM_MECH_SPLICE);
	assert_int_equal(info_of(m.mem).populated, length);
	assert_int_equal(info_of(m.mem).skipped, 0);
	assert_state(m.mem, first * page(), (end - first) * page(), GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH - (end - first) * page());
	assert_reads_only(&m, offset, content + from, length);
	close(fd);
	tear_down();
}

static void any_range_of_a_file_or_pipe(void **state)
{
	const uint64_t p = page(), ranges[][3] = {
		{ 0, ROOM, 0 }, { 0, 1, 0 }, { 5, 1, 7 }, { p - 1, 2, 0 }, { 0, p, p - 1 }, { p + 1, 3 * p, 0 },
		{ 16 * p - 1, 2, 33 }, { 3, ROOM - 99, 17 }, { 16 * p, 64 * p, p }, { LENGTH - ROOM + 11, ROOM - 11, 1 },
	};

	(void)state;
	want_small_pages();
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		for (int piped = 0; piped < 2; piped++)
			check_range(ranges[i][0], ranges[i][1], ranges[i][2], piped);
}

static void holes_of_a_file_are_allocated(void **state)
{
	int fd;
	uint64_t done;

	(void)state;
	set_up(MEMFD);
	memset(content + 20 * page(), 0, 60 * page());
	fd = file_of(content, 20 * page());
	assert_int_equal(pwrite(fd, content + 80 * page(), 40 * page(), (off_t)(80 * page())), 40 * page());
	assert_int_equal(lseek(fd, 99, SEEK_SET), 99);
	assert_int_equal(fill(0, LENGTH, fd, 0, &done), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 99); /* where it was */
	assert_int_equal(used(), GMEM_MECH_SPLICE);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 0);
	assert_reads_only(&m, 0, content, LENGTH);
	close(fd);
	tear_down();
}

static void what_is_there_is_written_over(void **state)
{
	unsigned char *before = pages_of_content(PAGES, 0);
	int fd;
	uint64_t done;

	(void)state;
	set_up(MEMFD);
	fd = file_of(content, LENGTH);
	assert_int_equal(gmem_populate(m.mem, 0, LENGTH, before, NULL, NULL), 0);
	assert_int_equal(fill(100, LENGTH - 200, fd, 100, &done), 0);
	memcpy(before + 100, content + 100, LENGTH - 200);
	assert_reads_only(&m, 0, before, LENGTH);
	free(before);
	close(fd);
	tear_down();
}

/* Each thread splices through a pipe of its own. */
static void threads_splice_too(void **state)
{
	struct gmem_populate_opts opts = options(KEEP, GMEM_MECH_SPLICE);
	uint64_t done;

	(void)state;
	opts.chunk = 2 * page();
	for (opts.threads = 1; opts.threads <= 16; opts.threads *= 4) {
		int fd;

		set_up(MEMFD);
		fd = file_of(content, LENGTH);
		assert_int_equal(gmem_populate_fd(m.mem, 7, LENGTH - 7, fd, 0, &done, &opts), 0);
		assert_int_equal(done, LENGTH - 7);
		assert_reads_only(&m, 7, content, LENGTH - 7);
		close(fd);
		tear_down();
	}
}

/* Ends */

static void what_a_pipe_has_more_stays_in_it(void **state)
{
	unsigned char rest[100];
	uint64_t done;
	int fd;

	(void)state;
	set_up(MEMFD);
	fd = pipe_of(content, ROOM, NULL);
	assert_int_equal(fill(1, ROOM - 77, fd, 0, &done), 0);
	assert_int_equal(read(fd, rest, sizeof(rest)), 77);
	assert_memory_equal(rest, content + ROOM - 77, 77);
	assert_reads_only(&m, 1, content, ROOM - 77);
	close(fd);
	tear_down();
}

static void check_end(uint64_t offset, uint64_t has, uint64_t from, bool piped)
{
	char words[60];
	uint64_t done;
	int fd;

	set_up(MEMFD);
	fd = piped ? pipe_of(content + from, has, NULL) : file_of(content, from + has);
	snprintf(words, sizeof(words), "the input ended after %llu bytes", (unsigned long long)has);
	bad("gmem_populate_fd", fill(offset, LENGTH - offset, fd, from, &done), -ENODATA, words);
	assert_int_equal(done, has);
	assert_int_equal(used(), GMEM_MECH_SPLICE);
	assert_int_equal(info_of(m.mem).populated, has);
	assert_reads_only(&m, offset, content + from, has);
	close(fd);
	tear_down();
}

static void an_input_that_ends_early_is_in_to_the_byte(void **state)
{
	const uint64_t lengths[] = { 0, 1, 16 * page(), 16 * page() + 1, 33 * page() - 1, 50 * page() };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		for (unsigned int odd = 0; odd < 2; odd++) {
			check_end(odd * 33, lengths[i], odd * 5, false);
			check_end(odd * 33, lengths[i], 0, true);
		}
}

static void an_empty_pipe_that_does_not_wait_says_so(void **state)
{
	uint64_t done;
	int fd, writer;

	(void)state;
	set_up(MEMFD);
	fd = pipe_of(content, 5000, &writer);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	bad("gmem_populate_fd", fill(10, 20000, fd, 0, &done), -EAGAIN, "splice()");
	assert_int_equal(done, 5000);
	assert_int_equal(used(), GMEM_MECH_SPLICE);
	assert_int_equal(write(writer, content + 5000, 15000), 15000);
	assert_int_equal(fill(5010, 15000, fd, 0, &done), 0);
	assert_reads_only(&m, 10, content, 20000);
	close(fd);
	close(writer);
	tear_down();
}

/* Where it is not used */

static int from_buffer(uint64_t flags, enum gmem_mechanism forced)
{
	struct gmem_populate_opts opts = options(flags, forced);

	return gmem_populate(m.mem, 0, LENGTH, content, NULL, &opts);
}

static int from_file(uint64_t flags, enum gmem_mechanism forced)
{
	struct gmem_populate_opts opts = options(flags, forced);
	int fd = file_of(content, LENGTH), r = gmem_populate_fd(m.mem, 0, LENGTH, fd, 0, NULL, &opts);

	close(fd);
	return r;
}

static int from_source(uint64_t flags, enum gmem_mechanism forced)
{
	struct gmem_populate_opts opts = options(flags, forced);
	struct script script = { .data = content, .length = LENGTH };
	struct gmem_source *source = make_source(&script);
	int r = gmem_populate_source(m.mem, 0, LENGTH, source, 0, NULL, &opts);

	end_source(source, &script);
	return r;
}

static int from_socket(uint64_t flags, enum gmem_mechanism forced)
{
	struct gmem_populate_opts opts = options(flags, forced);
	int ends[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(write(ends[1], content, 4 * page()), 4 * page());
	r = gmem_populate_fd(m.mem, 0, 4 * page(), ends[0], 0, NULL, &opts);
	close(ends[0]);
	close(ends[1]);
	return r;
}

static const struct {
	enum make make;
	int (*from)(uint64_t flags, enum gmem_mechanism forced);
	uint64_t flags;
	const char *call, *why; /* it cannot be forced */
	enum gmem_mechanism instead;
} cases[] = {
	{ MEMFD, from_file, 0, "gmem_populate_fd", "splice: only from a file or pipe", GMEM_MECH_WRITE },
	{ MEMFD, from_buffer, KEEP, "gmem_populate", "splice: only from a file or pipe", GMEM_MECH_WRITE },
	{ MEMFD, from_source, KEEP, "gmem_populate_source", "splice: only from a file or pipe", GMEM_MECH_WRITE },
	{ MEMFD, from_socket, KEEP, "gmem_populate_fd", "splice: only from a file or pipe", GMEM_MECH_WRITE },
	{ LAZY_MEMFD, from_file, KEEP, "gmem_populate_fd", "without a page map", GMEM_MECH_WRITE },
	{ FAKE_GUEST_MEMFD, from_file, KEEP, "gmem_populate_fd", "splice: for memory of another backing", GMEM_MECH_MAPPING },
	{ FAKE_WITH_WRITE, from_file, KEEP, "gmem_populate_fd", "splice: for memory of another backing", GMEM_MECH_WRITE },
	{ REAL_GUEST_MEMFD, from_file, KEEP, "gmem_populate_fd", "splice: for memory of another backing", GMEM_MECH_MAPPING },
};

static enum gmem_mechanism instead_of(size_t i)
{
	bool writes = cases[i].make == REAL_GUEST_MEMFD && gmem_vm_probe(m.vm, GMEM_FEATURE_GUEST_MEMFD_WRITE, NULL) == GMEM_PRESENT;

	return writes ? GMEM_MECH_WRITE : cases[i].instead;
}

static void check_case(size_t i)
{
	set_up(cases[i].make);
	bad(cases[i].call, cases[i].from(cases[i].flags, GMEM_MECH_SPLICE), -EOPNOTSUPP, cases[i].why);
	assert_int_equal(info_of(m.mem).populated + info_of(m.mem).skipped, 0);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH);
	assert_int_equal(cases[i].from(cases[i].flags, 0), 0);
	assert_int_equal(used(), instead_of(i));
	tear_down();
}

static void where_it_cannot_be_used_it_is_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) - 1; i++)
		check_case(i);
}

/* Other ways can be forced where it would be taken. */
static void another_way_can_be_forced(void **state)
{
	static const enum gmem_mechanism ways[] = { GMEM_MECH_WRITE, GMEM_MECH_MAPPING };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		set_up(MEMFD);
		assert_int_equal(from_file(KEEP, ways[i]), 0);
		assert_int_equal(used(), ways[i]);
		assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 0);
		assert_reads_only(&m, 0, content, LENGTH);
		tear_down();
	}
}

static void a_guest_memfd_is_not_spliced(void **state)
{
	(void)state;
	check_case(sizeof(cases) / sizeof(cases[0]) - 1);
}

static const struct gt_test tests[] = {
	GT(any_range_of_a_file_or_pipe, GT_NEEDS_NOTHING),
	GT(holes_of_a_file_are_allocated, GT_NEEDS_NOTHING),
	GT(what_is_there_is_written_over, GT_NEEDS_NOTHING),
	GT(threads_splice_too, GT_NEEDS_NOTHING),
	GT(what_a_pipe_has_more_stays_in_it, GT_NEEDS_NOTHING),
	GT(an_input_that_ends_early_is_in_to_the_byte, GT_NEEDS_NOTHING),
	GT(an_empty_pipe_that_does_not_wait_says_so, GT_NEEDS_NOTHING),
	GT(where_it_cannot_be_used_it_is_not, GT_NEEDS_NOTHING),
	GT(another_way_can_be_forced, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_is_not_spliced, GT_NEEDS_GUEST_MEMFD),
};

GT_MAIN("splice", tests)
