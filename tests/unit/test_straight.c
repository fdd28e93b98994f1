/* SPDX-License-Identifier: MIT */
/* Files that are read straight into guest_memfds: what is left absent, what is written over, and where a file ends. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"

#define PAGES 128
#define LENGTH (PAGES * page())
#define CHUNK (32 * page())
#define PRESENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)

static struct memory m;
static unsigned char *content;
static int input;

/* Every `of`-th page is zero, none if 0; all of them are data of the file. */
static void set_up(enum make make, uint64_t of)
{
	m = make_memory(make, LENGTH);
	content = pages_of_content(PAGES, of);
	memset(content + page(), 0xff, page()); /* all alike is not all zero */
	input = file_of(content, LENGTH);
}

static void tear_down(void)
{
	close(input);
	free(content);
	end_memory(&m);
}

static void rewrite_input(void)
{
	assert_int_equal(pwrite(input, content, LENGTH, 0), LENGTH);
}

static int fill_by(uint64_t offset, uint64_t length, uint64_t from, uint64_t flags, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = flags, .chunk = CHUNK };
	int r;

	if (gmem_vm_probe(m.vm, GMEM_FEATURE_GUEST_MEMFD_WRITE, NULL) == GMEM_PRESENT) /* would come first */
		opts.mechanism = GMEM_MECH_MAPPING;
	spoil_sentence();
	*done = UINT64_MAX;
	r = gmem_populate_fd(m.mem, offset, length, input, from, done, &opts);
	assert_int_equal(info_of(m.mem).populate_mechanism, GMEM_MECH_MAPPING);
	return r;
}

static int fill(uint64_t offset, uint64_t length, uint64_t from, uint64_t *done)
{
	return fill_by(offset, length, from, 0, done);
}

static void assert_counts(uint64_t populated, uint64_t skipped)
{
	assert_int_equal(info_of(m.mem).populated, populated);
	assert_int_equal(info_of(m.mem).skipped, skipped);
}

/* Zeros */

static uint64_t zero_pages(void)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < PAGES; i++)
		count += content[i * page()] == 0;
	return count;
}

/* Without gmem_map() or gmem_get_fd(). */
static void assert_page_states(void)
{
	for (uint64_t i = 0; i < PAGES; i++)
		assert_state(m.mem, i * page(), page(), content[i * page()] ? PRESENT : 0);
}

static void check_zeros_are_absent(enum make make, uint64_t of)
{
	uint64_t done;

	set_up(make, of);
	assert_int_equal(fill(0, LENGTH, 0, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_counts(LENGTH - zero_pages() * page(), zero_pages() * page());
	assert_page_states();
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void check_all_densities(enum make make)
{
	const uint64_t densities[] = { 0, 1, 2, 5, 8, 9, 31, PAGES };

	for (size_t i = 0; i < sizeof(densities) / sizeof(densities[0]); i++)
		check_zeros_are_absent(make, densities[i]);
}

static void zeros_in_the_data_are_absent_after(void **state)
{
	(void)state;
	want_small_pages();
	check_all_densities(FAKE_GUEST_MEMFD);
}

static void zeros_in_the_data_are_absent_after_in_a_guest_memfd(void **state)
{
	(void)state;
	check_all_densities(REAL_GUEST_MEMFD);
}

/* One chunk full, one nearly empty, and so on. */
static void check_alternating(enum make make)
{
	uint64_t done;

	set_up(make, 0);
	for (uint64_t i = 0; i < PAGES; i++)
		if (i / 32 % 2 && i % 32)
			memset(content + i * page(), 0, page());
	rewrite_input();
	assert_int_equal(fill(0, LENGTH, 0, &done), 0);
	assert_counts(66 * page(), 62 * page());
	assert_page_states();
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void dense_and_sparse_chunks_alternate(void **state)
{
	(void)state;
	want_small_pages();
	check_alternating(FAKE_GUEST_MEMFD);
}

static void dense_and_sparse_chunks_alternate_in_a_guest_memfd(void **state)
{
	(void)state;
	check_alternating(REAL_GUEST_MEMFD);
}

/* Somebody may have the memory in use: zeros stay out of it all the same, and nothing that is there is freed. */

static void map_it(void)
{
	void *address;

	assert_int_equal(gmem_map(m.mem, 0, LENGTH, &address, NULL), 0);
}

static void bind_it(void)
{
	assert_int_equal(gmem_bind(m.mem, 0, 0, 0, LENGTH, NULL), 0);
}

static void lend_it(void)
{
	assert_true(gmem_get_fd(m.mem, GMEM_FD_MEMORY) >= 0);
}

/* Within chunks: each is allocated, which is one call, and then nothing is freed. */
static unsigned int runs_of_content(void)
{
	unsigned int count = 0;

	for (uint64_t i = 0; i < PAGES; i++)
		count += content[i * page()] && (i * page() % CHUNK == 0 || !content[(i - 1) * page()]);
	return count;
}

static void check_exposed(enum make make, void (*expose)(void))
{
	unsigned int before;
	uint64_t done;

	set_up(make, 3);
	expose();
	before = make == FAKE_GUEST_MEMFD ? fakekvm_calls("fallocate") : 0;
	assert_int_equal(fill(0, LENGTH, 0, &done), 0);
	assert_counts(LENGTH - zero_pages() * page(), zero_pages() * page());
	assert_page_states();
	if (make == FAKE_GUEST_MEMFD)
		assert_int_equal(fakekvm_calls("fallocate") - before, runs_of_content());
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static void memory_in_use_is_filled_without_freeing(void **state)
{
	(void)state;
	want_small_pages();
	check_exposed(FAKE_GUEST_MEMFD, map_it);
	check_exposed(FAKE_GUEST_MEMFD, bind_it);
	check_exposed(FAKE_GUEST_MEMFD, lend_it);
}

static void a_guest_memfd_in_use_is_filled_without_freeing(void **state)
{
	(void)state;
	check_exposed(REAL_GUEST_MEMFD, map_it);
	check_exposed(REAL_GUEST_MEMFD, bind_it);
	check_exposed(REAL_GUEST_MEMFD, lend_it);
}

/* What is there */

static void check_written_over(enum make make, uint64_t first)
{
	unsigned char *before = pages_of_content(PAGES, 0);
	uint64_t done;

	set_up(make, 2);
	assert_int_equal(gmem_populate(m.mem, first * page(), 50 * page(), before, NULL, NULL), 0);
	assert_int_equal(fill(0, LENGTH, 0, &done), 0);
	assert_counts(50 * page() + LENGTH - 39 * page(), 39 * page()); /* 64 are zero, 25 of them there */
	for (uint64_t i = 0; i < PAGES; i++) {
		bool there = content[i * page()] || (i >= first && i < first + 50);

		assert_int_equal(absent_bytes(m.mem, i * page(), page()), there ? 0 : page());
	}
	assert_reads_only(&m, 0, content, LENGTH);
	free(before);
	tear_down();
}

static void pages_that_are_there_are_written_over_with_zeros(void **state)
{
	(void)state;
	want_small_pages();
	check_written_over(FAKE_GUEST_MEMFD, 0);
	check_written_over(FAKE_GUEST_MEMFD, 40);
}

static void pages_that_are_there_in_a_guest_memfd_are_written_over(void **state)
{
	(void)state;
	check_written_over(REAL_GUEST_MEMFD, 0);
	check_written_over(REAL_GUEST_MEMFD, 40);
}

/* Heads, tails and kept zeros */

static void check_odd(enum make make, uint64_t offset, uint64_t length, uint64_t from, uint64_t flags)
{
	uint64_t first = (offset + page() - 1) / page(), end = (offset + length) / page(), left_out = 0, done;

	set_up(make, 4);
	assert_int_equal(fill_by(offset, length, from, flags, &done), 0);
	assert_int_equal(done, length);
	for (uint64_t i = first; i < end && !flags; i++) {
		const unsigned char *at = content + from + i * page() - offset;

		left_out += at[0] == 0 && memcmp(at, at + 1, page() - 1) == 0;
	}
	assert_counts(length - left_out * page(), left_out * page());
	assert_int_equal(absent_bytes(m.mem, first * page(), end > first ? (end - first) * page() : 0), left_out * page());
	assert_reads_only(&m, offset, content + from, length);
	tear_down();
}

static void check_all_odd(enum make make)
{
	const uint64_t p = page(), ranges[][3] = {
		{ 1, LENGTH - 1, 0 },	  { 0, LENGTH - 1, 1 },	    { 0, LENGTH - 1, 0 }, { 100, 50, 0 },
		{ p - 1, 2, 3 },	  { CHUNK - 7, 3 * p, 7 },  { p, CHUNK + 1, p },  { 3 * p, 64 * p, 100 },
		{ 5 * p + 5, 64 * p, 5 }, { 9, CHUNK * 2, p + 9 },
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		for (uint64_t flags = 0; flags <= GMEM_POPULATE_KEEP_ZEROS; flags++)
			check_odd(make, ranges[i][0], ranges[i][1], ranges[i][2], flags);
}

static void odd_heads_and_tails_and_kept_zeros(void **state)
{
	(void)state;
	want_small_pages();
	check_all_odd(FAKE_GUEST_MEMFD);
}

static void odd_heads_and_tails_and_kept_zeros_in_a_guest_memfd(void **state)
{
	(void)state;
	check_all_odd(REAL_GUEST_MEMFD);
}

/* Files that end */

static void check_end(enum make make, uint64_t end, uint64_t offset, uint64_t flags)
{
	char words[60];
	uint64_t done, used = (offset + end + page() - 1) / page() * page();

	set_up(make, 0);
	assert_int_equal(ftruncate(input, (off_t)end), 0);
	snprintf(words, sizeof(words), "ended after %llu bytes", (unsigned long long)end);
	bad("gmem_populate_fd", fill_by(offset, LENGTH - offset, 0, flags, &done), -ENODATA, words);
	assert_int_equal(done, end);
	assert_counts(end, 0);
	assert_int_equal(absent_bytes(m.mem, used, LENGTH - used), LENGTH - used);
	assert_reads_only(&m, offset, content, end);
	tear_down();
}

static void check_ends(enum make make)
{
	const uint64_t ends[] = { 1, page() - 1, page(), CHUNK - 1, CHUNK, CHUNK + 1, 50 * page() + 99, LENGTH - page() };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		for (unsigned int how = 0; how < 4; how++)
			check_end(make, ends[i], how % 2 * 1234, how / 2 * GMEM_POPULATE_KEEP_ZEROS);
}

static void a_short_file_is_in_to_the_byte_and_nothing_behind_it(void **state)
{
	(void)state;
	want_small_pages();
	check_ends(FAKE_GUEST_MEMFD);
}

static void a_short_file_is_in_to_the_byte_in_a_guest_memfd(void **state)
{
	(void)state;
	check_ends(REAL_GUEST_MEMFD);
}

static uint64_t new_end;

/* The size was asked for when the call began. */
static int cut_input(void *user, uint64_t done, uint64_t length)
{
	(void)user;
	(void)length;
	if (done == CHUNK)
		assert_int_equal(ftruncate(input, (off_t)new_end), 0);
	return 0;
}

static void check_cut(enum make make, uint64_t end)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK, .progress = cut_input };
	uint64_t done, is = end > CHUNK ? end : CHUNK, used = (is + page() - 1) / page() * page();
	char words[60];

	new_end = end;
	snprintf(words, sizeof(words), "ended after %llu bytes", (unsigned long long)is);
	set_up(make, 0);
	bad("gmem_populate_fd", gmem_populate_fd(m.mem, 0, LENGTH, input, 0, &done, &opts), -ENODATA, words);
	assert_int_equal(done, is);
	assert_counts(is, 0);
	assert_int_equal(absent_bytes(m.mem, used, LENGTH - used), LENGTH - used);
	assert_reads_only(&m, 0, content, is);
	tear_down();
}

static void a_file_cut_short_meanwhile(void **state)
{
	(void)state;
	want_small_pages();
	check_cut(FAKE_GUEST_MEMFD, 0);
	check_cut(FAKE_GUEST_MEMFD, CHUNK);
	check_cut(FAKE_GUEST_MEMFD, CHUNK + 1);
	check_cut(FAKE_GUEST_MEMFD, CHUNK + 5 * page());
	check_cut(FAKE_GUEST_MEMFD, LENGTH - page() - 1);
}

static void a_file_cut_short_meanwhile_and_a_guest_memfd(void **state)
{
	(void)state;
	check_cut(REAL_GUEST_MEMFD, CHUNK);
	check_cut(REAL_GUEST_MEMFD, CHUNK + 5 * page() + 9);
}

static const struct gt_test tests[] = {
	GT(zeros_in_the_data_are_absent_after, GT_NEEDS_NOTHING),
	GT(zeros_in_the_data_are_absent_after_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(dense_and_sparse_chunks_alternate, GT_NEEDS_NOTHING),
	GT(dense_and_sparse_chunks_alternate_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(memory_in_use_is_filled_without_freeing, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_in_use_is_filled_without_freeing, GT_NEEDS_GUEST_MEMFD),
	GT(pages_that_are_there_are_written_over_with_zeros, GT_NEEDS_NOTHING),
	GT(pages_that_are_there_in_a_guest_memfd_are_written_over, GT_NEEDS_GUEST_MEMFD),
	GT(odd_heads_and_tails_and_kept_zeros, GT_NEEDS_NOTHING),
	GT(odd_heads_and_tails_and_kept_zeros_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(a_short_file_is_in_to_the_byte_and_nothing_behind_it, GT_NEEDS_NOTHING),
	GT(a_short_file_is_in_to_the_byte_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(a_file_cut_short_meanwhile, GT_NEEDS_NOTHING),
	GT(a_file_cut_short_meanwhile_and_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
};

GT_MAIN("straight", tests)
