/* SPDX-License-Identifier: MIT */
/* Sources: what they are asked, what they may answer, and when they are let go. */
#include "gt.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"
#include "sources.h"

#define PAGES 160
#define LENGTH (PAGES * page())

/* `done` starts out wrong, and the last sentence is somebody else's. */
static int populate(const struct memory *m, uint64_t offset, uint64_t length, struct gmem_source *source, uint64_t from,
		    uint64_t *done)
{
	spoil_sentence();
	*done = UINT64_MAX;
	return gmem_populate_source(m->mem, offset, length, source, from, done, NULL);
}

static int keep_zeros(const struct memory *m, struct gmem_source *source, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };

	*done = UINT64_MAX;
	return gmem_populate_source(m->mem, 0, m->length, source, 0, done, &opts);
}

/* Making and giving up */

static int never(void *user, uint64_t offset, uint64_t length, void *data, uint64_t flags)
{
	(void)user;
	(void)offset;
	(void)length;
	(void)data;
	(void)flags;
	return -EDOM;
}

static int create(const struct gmem_source_ops *ops)
{
	struct gmem_source *untouched = (void *)7, *source = untouched;
	int r = gmem_source_create(ops, NULL, &source);

	if (r == 0)
		gmem_source_destroy(source);
	else
		assert_ptr_equal(source, untouched);
	return r;
}

static void bad_functions_are_refused(void **state)
{
	struct gmem_source_ops good = { .size = sizeof(good), .read = never }, ops = good;
	struct {
		struct gmem_source_ops ops;
		uint64_t tail;
	} later = { .ops = good };

	(void)state;
	bad("gmem_source_create", create(NULL), -EINVAL, "ops is NULL");
	bad("gmem_source_create", gmem_source_create(&good, NULL, NULL), -EINVAL, "source is NULL");
	ops.read = NULL;
	bad("gmem_source_create", create(&ops), -EINVAL, "read is NULL");
	ops = good;
	ops.size = 8; /* nothing but the size */
	bad("gmem_source_create", create(&ops), -EINVAL, "read is NULL");
	ops.size = 7;
	bad("gmem_source_create", create(&ops), -EINVAL, "size");
	ops.size = 4097;
	bad("gmem_source_create", create(&ops), -E2BIG, "size");
	later.ops.size = sizeof(later);
	later.tail = 1;
	bad("gmem_source_create", create(&later.ops), -E2BIG, "member");
	later.tail = 0;
	assert_int_equal(create(&later.ops), 0);
}

/* One of an earlier library, which ended before these members. */
static void members_beyond_the_size_are_not_there(void **state)
{
	struct script script = { .tells_extents = true };
	struct gmem_source_ops ops = { .read = never, .extent = (void *)(uintptr_t)8, .release = (void *)(uintptr_t)8 };
	struct memory m = make_memory(MEMFD, page());
	struct gmem_source *source;
	uint64_t done;

	(void)state;
	ops.size = offsetof(struct gmem_source_ops, extent);
	assert_int_equal(gmem_source_create(&ops, &script, &source), 0);
	assert_int_equal(populate(&m, 0, page(), source, 0, &done), -EDOM);
	gmem_source_destroy(source);
	end_memory(&m);
}

static void giving_up_releases_once_or_not_at_all(void **state)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = never };
	struct script script = { 0 };
	struct gmem_source *source;

	(void)state;
	gmem_source_destroy(NULL);
	end_source(make_source(&script), &script);
	assert_int_equal(gmem_source_create(&ops, NULL, &source), 0);
	gmem_source_destroy(source);
}

static void bad_arguments_are_refused(void **state)
{
	struct memory m = make_memory(MEMFD, 4 * page());
	struct script script = { .first = UINT64_MAX - page(), .length = page() };
	struct gmem_source *source;
	uint64_t done;

	(void)state;
	script.data = buffer(page(), 5);
	source = make_source(&script);
	bad("gmem_populate_source", populate(&m, 0, page(), NULL, 0, &done), -EINVAL, "source is NULL");
	assert_int_equal(done, 0);
	bad("gmem_populate_source", populate(&m, 0, page(), source, UINT64_MAX - page() + 1, &done), -EINVAL, "wraps");
	bad("gmem_populate_source", populate(&m, 0, 1, source, UINT64_MAX, &done), -EINVAL, "wraps");
	assert_int_equal(done, 0);
	bad("gmem_populate_source", populate(&m, 0, 0, source, 0, &done), -EINVAL, "");
	bad("gmem_populate_source", populate(&m, 4 * page() - 1, 2, source, 0, &done), -EINVAL, "");
	bad("gmem_populate_source", gmem_populate_source(NULL, 0, 1, source, 0, &done, NULL), -EINVAL, "NULL");
	assert_int_equal(atomic_load(&script.reads), 0);
	assert_int_equal(populate(&m, 0, page(), source, UINT64_MAX - page(), &done), 0);
	assert_int_equal(done, page());
	end_source(source, &script);
	free((void *)(uintptr_t)script.data);
	end_memory(&m);
}

/* What is asked */

static unsigned char *asked; /* how often each byte was */

static int note_asked(struct script *script, uint64_t offset, uint64_t length)
{
	(void)script;
	for (uint64_t i = offset; i < offset + length; i++)
		asked[i]++;
	return 0;
}

static void check_range(enum make make, uint64_t offset, uint64_t length, uint64_t first)
{
	unsigned char *content = pages_of_content(PAGES, 4);
	struct script script = { .data = content, .first = first, .length = length, .before = note_asked };
	struct memory m = make_memory(make, LENGTH);
	struct gmem_source *source = make_source(&script);
	struct gmem_info info;
	uint64_t done;

	asked = buffer(length, 0);
	assert_int_equal(populate(&m, offset, length, source, first, &done), 0);
	assert_int_equal(done, length);
	info = info_of(m.mem);
	assert_int_equal(info.populated + info.skipped, length);
	for (uint64_t i = 0; i < length; i++)
		assert_int_equal(asked[i], 1);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH) % page(), 0);
	assert_true(absent_bytes(m.mem, 0, LENGTH) >= info.skipped);
	assert_reads_only(&m, offset, content, length);
	end_source(source, &script);
	free(asked);
	free(content);
	end_memory(&m);
}

static void every_byte_is_asked_once_and_none_else(void **state)
{
	const uint64_t p = page(), ranges[][3] = {
		{ 0, LENGTH, 0 }, { 0, LENGTH, UINT64_MAX - LENGTH }, { 0, 1, 0 }, { p - 1, 2, 77 }, { LENGTH - 1, 1, p },
		{ 5, LENGTH - 5, 3 * p }, { p, 100 * p, 1 }, { 100, 64 * p, 100 }, { 64 * p, 65 * p + 1, UINT64_MAX / 2 },
	};

	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
			check_range(make, ranges[i][0], ranges[i][1], ranges[i][2]);
}

static void the_same_on_a_guest_memfd(void **state)
{
	(void)state;
	check_range(REAL_GUEST_MEMFD, 0, LENGTH, 12345);
	check_range(REAL_GUEST_MEMFD, 7, LENGTH - 7, 0);
}

/* Zeros */

static void check_zeros(enum make make, bool tells_zeros, bool tells_extents)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct script script = {
		.data = content, .length = LENGTH, .tells_zeros = tells_zeros, .tells_extents = tells_extents
	};
	struct memory m = make_memory(make, LENGTH);
	struct gmem_source *source = make_source(&script);
	uint64_t done;

	memset(content + 20 * page(), 0, 100 * page());
	assert_int_equal(populate(&m, 0, LENGTH, source, 0, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_int_equal(info_of(m.mem).skipped, 100 * page());
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 100 * page());
	assert_int_equal(absent_bytes(m.mem, 20 * page(), 100 * page()), 100 * page());
	assert_int_equal(atomic_load(&script.bytes_read), LENGTH - (tells_extents ? 56 * page() : 0)); /* 64 pages a read */
	memset(content, 0, 60 * page()); /* 20 of them are there: they have to be written over */
	assert_int_equal(populate(&m, 0, LENGTH, source, 0, &done), 0);
	assert_int_equal(info_of(m.mem).skipped, 200 * page());
	assert_int_equal(info_of(m.mem).populated, 120 * page());
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 100 * page());
	assert_reads_only(&m, 0, content, LENGTH);
	end_source(source, &script);
	free(content);
	end_memory(&m);
}

static void zeros_are_left_absent_or_written_over(void **state)
{
	(void)state;
	want_small_pages();
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		for (unsigned int i = 0; i < 4; i++)
			check_zeros(make, i & 1, i & 2);
}

static void zeros_are_left_absent_in_a_guest_memfd(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		check_zeros(REAL_GUEST_MEMFD, i & 1, i & 2);
}

static void kept_zeros_are_allocated_and_extents_not_asked(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++) {
		unsigned char *content = buffer(LENGTH, 0);
		struct script script = { .data = content, .length = LENGTH, .tells_zeros = true, .tells_extents = true };
		struct memory m = make_memory(make, LENGTH);
		struct gmem_source *source = make_source(&script);
		uint64_t done;

		assert_int_equal(keep_zeros(&m, source, &done), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(atomic_load(&script.extents), 0);
		assert_int_equal(info_of(m.mem).populated, LENGTH);
		assert_state(m.mem, 0, LENGTH, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED);
		assert_reads_only(&m, 0, content, LENGTH);
		end_source(source, &script);
		free(content);
		end_memory(&m);
	}
}

/* What the buffer held before is not what a source says is zero. */
static void an_answer_of_zero_is_zero_whatever_is_in_the_buffer(void **state)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct script script = { .data = content, .length = LENGTH, .tells_zeros = true };
	struct memory m = make_memory(MEMFD, LENGTH);
	struct gmem_source *source = make_source(&script);
	uint64_t done;

	(void)state;
	memset(content + 64 * page(), 0, LENGTH - 64 * page()); /* reads of 64 pages */
	assert_int_equal(keep_zeros(&m, source, &done), 0);
	assert_reads_only(&m, 0, content, LENGTH);
	end_source(source, &script);
	free(content);
	end_memory(&m);
}

/* Extents that begin and end within pages: only pages that are zeros in whole are left out. */
static int odd_zeros(struct script *script, uint64_t offset, uint64_t *length)
{
	const uint64_t first = 10 * page() + 100, end = 90 * page() + 77;

	(void)script;
	if (offset >= first && offset < end) {
		*length = end - offset < *length ? end - offset : *length;
		return GMEM_ANSWER_ZERO;
	}
	if (offset < first && first - offset < *length)
		*length = first - offset;
	return GMEM_ANSWER_DATA;
}

static void extents_of_any_size_are_understood(void **state)
{
	(void)state;
	for (uint64_t shift = 0; shift < 3; shift++) {
		unsigned char *content = pages_of_content(PAGES, 0);
		struct script script = { .data = content, .length = LENGTH, .extent = odd_zeros };
		struct memory m = make_memory(MEMFD, LENGTH);
		struct gmem_source *source = make_source(&script);
		uint64_t done;

		memset(content + 10 * page() + 100, 0, 80 * page() - 23);
		assert_int_equal(populate(&m, 0, LENGTH - shift * 100, source, shift * 100, &done), 0);
		assert_int_equal(done, LENGTH - shift * 100);
		assert_int_equal(info_of(m.mem).skipped, 79 * page()); /* that are in whole */
		assert_reads_only(&m, 0, content + shift * 100, LENGTH - shift * 100);
		end_source(source, &script);
		free(content);
		end_memory(&m);
	}
}

/* The parts of pages at the ends are written, and no other: not where one read ends and the next begins. */
static void check_whole_pages(bool tells_extents, bool tells_zeros)
{
	unsigned char *content = buffer(LENGTH, 0);
	struct script script = {
		.data = content, .length = LENGTH, .tells_extents = tells_extents, .tells_zeros = tells_zeros
	};
	struct memory m = make_memory(MEMFD, LENGTH);
	struct gmem_source *source = make_source(&script);
	uint64_t done;

	assert_int_equal(populate(&m, 100, 150 * page(), source, 0, &done), 0);
	assert_int_equal(done, 150 * page());
	assert_int_equal(info_of(m.mem).skipped, 149 * page());
	assert_int_equal(info_of(m.mem).populated, page());
	assert_state(m.mem, page(), 149 * page(), 0);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH - 2 * page());
	end_source(source, &script);
	free(content);
	end_memory(&m);
}

static void all_whole_pages_of_the_memory_are_left_out(void **state)
{
	(void)state;
	want_small_pages();
	for (unsigned int i = 0; i < 4; i++)
		check_whole_pages(i & 1, i & 2);
}

/* Pages larger than what is read at a time. */
static void huge_pages_are_filled_in_parts(void **state)
{
	const uint64_t length = UINT64_C(2) << 20;
	unsigned char *content = pages_of_content(length / page(), 4);
	struct script script = { .data = content, .length = length, .tells_extents = true };
	struct memory m = make_memory(HUGETLB, length);
	struct gmem_source *source = make_source(&script);
	uint64_t done;

	(void)state;
	assert_int_equal(populate(&m, 0, length, source, 0, &done), 0);
	assert_int_equal(done, length);
	assert_int_equal(info_of(m.mem).skipped, 0);
	assert_int_equal(populate(&m, 77, length - 77, source, 77, &done), 0);
	assert_int_equal(done, length - 77);
	assert_reads_only(&m, 0, content, length);
	end_source(source, &script);
	free(content);
	end_memory(&m);
}

static const struct gt_test tests[] = {
	GT(bad_functions_are_refused, GT_NEEDS_NOTHING),
	GT(members_beyond_the_size_are_not_there, GT_NEEDS_NOTHING),
	GT(giving_up_releases_once_or_not_at_all, GT_NEEDS_NOTHING),
	GT(bad_arguments_are_refused, GT_NEEDS_NOTHING),
	GT(every_byte_is_asked_once_and_none_else, GT_NEEDS_NOTHING),
	GT(the_same_on_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(zeros_are_left_absent_or_written_over, GT_NEEDS_NOTHING),
	GT(zeros_are_left_absent_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(kept_zeros_are_allocated_and_extents_not_asked, GT_NEEDS_NOTHING),
	GT(an_answer_of_zero_is_zero_whatever_is_in_the_buffer, GT_NEEDS_NOTHING),
	GT(extents_of_any_size_are_understood, GT_NEEDS_NOTHING),
	GT(all_whole_pages_of_the_memory_are_left_out, GT_NEEDS_NOTHING),
	GT(huge_pages_are_filled_in_parts, GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("source", tests)
