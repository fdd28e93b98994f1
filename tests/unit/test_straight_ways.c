/* SPDX-License-Identifier: MIT */
/* When a file is read straight into memory, what that calls, and what comes when a call of it fails. */
#include "gt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "memory.h"
#include "points.h"
#include "refusal.h"

#define CHUNK 32 /* pages */
#define CHUNKS 4
#define PAGES (CHUNK * CHUNKS)
#define LENGTH (PAGES * page())

static struct memory m;
static unsigned char *content;
static int input;

static void set_up(enum make make)
{
	m = make_memory(make, LENGTH);
	gmem_vm_probe(m.vm, GMEM_FEATURE_MADV_POPULATE, NULL); /* which the call would do, once */
	content = pages_of_content(PAGES, 0);
	input = file_of(content, LENGTH);
}

static void tear_down(void)
{
	close(input);
	free(content);
	end_memory(&m);
}

static struct gmem_populate_opts options(uint64_t flags, enum gmem_mechanism forced)
{
	return (struct gmem_populate_opts){
		.size = sizeof(struct gmem_populate_opts), .flags = flags, .chunk = CHUNK * page(), .mechanism = forced
	};
}

static int fill(uint64_t offset, uint64_t length, uint64_t *done)
{
	struct gmem_populate_opts opts = options(0, GMEM_MECH_MAPPING);

	*done = UINT64_MAX;
	return gmem_populate_fd(m.mem, offset, length, input, offset, done, &opts);
}

/* What is called. Chunks: D has content only; S is eight runs of content and eight of zeros; 4 and 5 have that many pages of
 * zeros in one run, of which 5 is more than an eighth. */

static bool is_zero_in(char chunk, uint64_t at)
{
	if (chunk == 'S')
		return at / 2 % 2;
	return chunk != 'D' && at >= 10 && at < 10u + (unsigned int)(chunk - '0');
}

static void make_content(const char *chunks)
{
	for (uint64_t i = 0; i < PAGES; i++)
		if (is_zero_in(chunks[i / CHUNK], i % CHUNK))
			memset(content + i * page(), 0, page());
	assert_int_equal(pwrite(input, content, LENGTH, 0), LENGTH);
}

/* Read straight: allocated in one, and every run of zeros freed. Through the buffer: every run of content is allocated. */
static void check_calls(const char *chunks, unsigned int calls)
{
	uint64_t done;

	set_up(FAKE_GUEST_MEMFD);
	make_content(chunks);
	assert_int_equal(fill(0, LENGTH, &done), 0);
	if (fakekvm_calls("fallocate") != calls)
		fail_msg("%s: %u calls of fallocate(), not %u", chunks, fakekvm_calls("fallocate"), calls);
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void a_sparse_chunk_sends_the_next_through_the_buffer(void **state)
{
	(void)state;
	want_small_pages();
	check_calls("DDDD", 1 + 1 + 1 + 1);
	check_calls("SSSS", 9 + 8 + 8 + 8);
	check_calls("SSDS", 9 + 8 + 1 + 9);
	check_calls("DSSS", 1 + 9 + 8 + 8);
	check_calls("4S4S", 2 + 9 + 2 + 8);
	check_calls("5S5S", 2 + 8 + 2 + 8);
}

static void want_madvise(void)
{
	struct gmem_vm *vm = open_vm(-1);
	int state = gmem_vm_probe(vm, GMEM_FEATURE_MADV_POPULATE, NULL);

	gmem_vm_close(vm);
	if (state != GMEM_PRESENT)
		gt_skip("this kernel has no MADV_POPULATE_WRITE");
}

static void fill_new(void *arg)
{
	uint64_t done;

	inject_pause();
	set_up(*(enum make *)arg);
	inject_resume();
	(void)fill(0, LENGTH, &done);
	inject_pause();
	tear_down();
	inject_resume();
}

static void no_buffer_is_made_for_what_is_read_straight(void **state)
{
	enum make make = FAKE_GUEST_MEMFD;

	(void)state;
	assert_int_equal(point_of(fill_new, &make, "calloc", 2), 0); /* one for the mapping */
}

/* Each chunk: its pages are made ready at once, and the file's content comes in one call. */
static void a_chunk_is_three_calls(void **state)
{
	enum make make = FAKE_GUEST_MEMFD;

	(void)state;
	want_madvise();
	for (unsigned int k = 1; k <= CHUNKS; k++) {
		unsigned long first = point_of(fill_new, &make, "fallocate", k);

		assert_int_equal(point_of(fill_new, &make, "madvise", k), first + 1);
		assert_int_equal(point_of(fill_new, &make, "pread", k + 1), first + 2); /* the first asks whether one can */
	}
	assert_int_equal(point_of(fill_new, &make, "pread", CHUNKS + 2), 0);
}

static void what_can_be_written_is_not_mapped(void **state)
{
	struct gmem_populate_opts opts = options(0, 0);

	(void)state;
	set_up(FAKE_WITH_WRITE);
	assert_int_equal(gmem_populate_fd(m.mem, 0, LENGTH, input, 0, NULL, &opts), 0);
	assert_int_equal(info_of(m.mem).populate_mechanism, GMEM_MECH_WRITE);
	assert_int_equal(fakekvm_calls("fallocate"), 0);
	assert_true(fakekvm_calls("pwrite") >= CHUNKS);
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void a_buffer_is_written_a_chunk_at_a_time(void **state)
{
	const uint64_t pages = (UINT64_C(4) << 20) / page();
	unsigned char *all = pages_of_content(pages, 0);

	(void)state;
	m = make_memory(FAKE_WITH_WRITE, pages * page());
	assert_int_equal(gmem_populate(m.mem, 0, pages * page(), all, NULL, NULL), 0);
	assert_int_equal(fakekvm_calls("pwrite"), 2); /* chunks of 2 MiB */
	free(all);
	end_memory(&m);
}

/* Where storing and marking go together. */
static void lazy_memory_is_marked(void **state)
{
	struct gmem_populate_opts opts = options(0, GMEM_MECH_MAPPING);

	(void)state;
	for (opts.flags = 0; opts.flags <= GMEM_POPULATE_KEEP_ZEROS; opts.flags++) {
		set_up(LAZY_MEMFD);
		make_content("DS45");
		assert_int_equal(gmem_populate_fd(m.mem, 0, LENGTH, input, 0, NULL, &opts), 0);
		for (uint64_t i = 0; i < PAGES; i++) {
			struct gmem_run run = { .size = sizeof(run) };
			bool filled = opts.flags || content[i * page()];

			assert_int_equal(gmem_query_run(m.mem, i * page(), &run), 0);
			assert_int_equal(run.state & (GMEM_RUN_FILLED | GMEM_RUN_DISCARDED),
					 filled ? GMEM_RUN_FILLED : GMEM_RUN_DISCARDED);
		}
		assert_reads_only(&m, 0, content, LENGTH);
		tear_down();
	}
}

/* Mappings that the program made, each of a part. */
static void check_parts(enum make make)
{
	struct gmem_populate_opts opts = options(GMEM_POPULATE_KEEP_ZEROS, GMEM_MECH_MAPPING);
	void *address;

	set_up(make);
	for (uint64_t i = 0; i < PAGES; i += 5)
		assert_int_equal(gmem_map(m.mem, i * page(), 3 * page(), &address, NULL), 0);
	assert_int_equal(gmem_populate_fd(m.mem, 0, LENGTH - page(), input, 0, NULL, &opts), 0);
	memset(content + LENGTH - page(), 0, page());
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void mappings_of_parts_are_used_as_far_as_they_go(void **state)
{
	(void)state;
	check_parts(MEMFD);
	check_parts(FAKE_GUEST_MEMFD);
}

/* Pages are freed as long as nobody else can have them. */
static void nothing_is_freed_in_memory_that_somebody_may_use(void **state)
{
	uint64_t two = 2 * page(), done;

	(void)state;
	want_small_pages();
	set_up(FAKE_GUEST_MEMFD);
	assert_int_equal(fill(0, LENGTH, &done), 0);
	assert_true(gmemi_memory_free_unseen(m.mem, two, two));
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), two);
	fakekvm_script("fallocate", EINVAL, 1, 0);
	assert_false(gmemi_memory_free_unseen(m.mem, 2 * two, two));
	gmem_get_fd(m.mem, GMEM_FD_MEMORY);
	assert_false(gmemi_memory_free_unseen(m.mem, 2 * two, two));
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), two);
	tear_down();
}

/* Failures */

static void check_failure(enum make make, const char *call, unsigned int k, int error, int code, const char *words)
{
	unsigned long nth = point_of(fill_new, &make, call, k);
	uint64_t done, more;

	assert_true(nth > 0);
	set_up(make);
	inject_arm(nth, error);
	if (code)
		bad("gmem_populate_fd", fill(0, LENGTH, &done), code, words);
	else
		assert_int_equal(fill(0, LENGTH, &done), 0);
	inject_disarm();
	assert_string_equal(inject_where(), call);
	assert_int_equal(info_of(m.mem).populated, done);
	assert_int_equal(gmem_unmap(m.mem, 0, LENGTH), 0); /* nobody holds the mapping */
	if (code) {
		assert_int_equal(fill(done, LENGTH - done, &more), 0);
		assert_int_equal(done + more, LENGTH);
	}
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

/* Of the input; also with a code that would mean that memory cannot be mapped. */
static void a_read_that_fails_says_nothing_of_the_memory(void **state)
{
	static const int errors[] = { EIO, EINTR, ENOMEM, EAGAIN };
	const char *words = "reading the input into the memory";

	(void)state;
	for (unsigned int k = 2; k <= CHUNKS + 1; k++) {
		check_failure(MEMFD, "pread", k, ENODEV, -ENODEV, words);
		check_failure(FAKE_GUEST_MEMFD, "pread", k, ENODEV, -ENODEV, words);
		check_failure(FAKE_GUEST_MEMFD, "pread", k, errors[k - 2], -errors[k - 2], words);
	}
}

static void pages_that_cannot_be_made_ready(void **state)
{
	(void)state;
	want_madvise();
	for (unsigned int k = 1; k <= CHUNKS; k++) {
		check_failure(FAKE_GUEST_MEMFD, "fallocate", k, ENOSPC, -ENOSPC, "out of memory");
		check_failure(FAKE_GUEST_MEMFD, "fallocate", k, EINTR, 0, NULL);
		check_failure(FAKE_GUEST_MEMFD, "madvise", k, EFAULT, -EFAULT, "MADV_POPULATE_WRITE");
		check_failure(FAKE_GUEST_MEMFD, "pread", k + 1, INJECT_SHORT, 0, NULL);
	}
}

static void an_error_in_the_middle_of_a_guest_memfd(void **state)
{
	(void)state;
	check_failure(REAL_GUEST_MEMFD, "pread", 3, EIO, -EIO, "reading the input into the memory");
	check_failure(REAL_GUEST_MEMFD, "fallocate", 2, ENOSPC, -ENOSPC, "out of memory");
}

/* A short read, then an error: the next read of the same chunk. */
static void what_came_before_an_error_counts(void **state)
{
	enum make make = FAKE_GUEST_MEMFD;
	unsigned long nth = point_of(fill_new, &make, "pread", 3);
	uint64_t done, more;

	(void)state;
	want_small_pages();
	set_up(make);
	memset(content + 60 * page(), 0, 68 * page());
	close(input);
	input = file_of(content, 40 * page() + 77); /* within the second chunk */
	assert_int_equal(ftruncate(input, (off_t)LENGTH), 0);
	inject_arm(nth, INJECT_SHORT); /* ends in the hole: half of the chunk is 48 */
	assert_int_equal(fill(0, LENGTH, &done), 0);
	inject_disarm();
	memset(content + 40 * page() + 77, 0, LENGTH - 40 * page() - 77);
	assert_int_equal(done, LENGTH);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH - 41 * page());
	assert_int_equal(fill(0, LENGTH, &more), 0);
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static const struct gt_test tests[] = {
	GT(a_sparse_chunk_sends_the_next_through_the_buffer, GT_NEEDS_NOTHING),
	GT(no_buffer_is_made_for_what_is_read_straight, GT_NEEDS_NOTHING),
	GT(a_chunk_is_three_calls, GT_NEEDS_NOTHING),
	GT(what_can_be_written_is_not_mapped, GT_NEEDS_NOTHING),
	GT(a_buffer_is_written_a_chunk_at_a_time, GT_NEEDS_NOTHING),
	GT(lazy_memory_is_marked, GT_NEEDS_NOTHING),
	GT(mappings_of_parts_are_used_as_far_as_they_go, GT_NEEDS_NOTHING),
	GT(nothing_is_freed_in_memory_that_somebody_may_use, GT_NEEDS_NOTHING),
	GT(a_read_that_fails_says_nothing_of_the_memory, GT_NEEDS_NOTHING),
	GT(pages_that_cannot_be_made_ready, GT_NEEDS_NOTHING),
	GT(an_error_in_the_middle_of_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(what_came_before_an_error_counts, GT_NEEDS_NOTHING),
};

GT_MAIN("straight_ways", tests)
