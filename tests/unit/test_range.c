/* SPDX-License-Identifier: MIT */
/* Arithmetic on ranges: nothing wraps, and every refusal says why. */
#include "gt.h"

#include <errno.h>
#include <string.h>

#include <gmem/base.h>

#include "err.h"
#include "range.h"

#define PAGE UINT64_C(4096)
#define TOP UINT64_MAX

static void refused(uint64_t offset, uint64_t length, uint64_t align, uint64_t limit, const char *word)
{
	gmemi_enter("test_call");
	assert_int_equal(gmemi_range_check(offset, length, align, limit), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "test_call: "));
	assert_non_null(strstr(gmem_last_error(), word));
	assert_non_null(strstr(gmem_last_error(), "(EINVAL, from the library)"));
}

static void good_ranges_pass(void **state)
{
	(void)state;
	assert_int_equal(gmemi_range_check(0, PAGE, PAGE, PAGE), 0);
	assert_int_equal(gmemi_range_check(PAGE, PAGE, PAGE, 2 * PAGE), 0);
	assert_int_equal(gmemi_range_check(0, 1, 1, 1), 0);
	assert_int_equal(gmemi_range_check(TOP - 1, 1, 1, TOP), 0);
	assert_int_equal(gmemi_range_check(0, TOP, 1, TOP), 0);
	assert_int_equal(gmemi_range_check(TOP - PAGE + 1, PAGE - 1, 1, TOP), 0);
}

static void empty_ranges_are_refused(void **state)
{
	(void)state;
	refused(0, 0, PAGE, PAGE, "length is 0");
	refused(PAGE, 0, 1, PAGE, "length is 0");
	refused(TOP, 0, 1, TOP, "length is 0");
}

static void unaligned_ranges_are_refused(void **state)
{
	(void)state;
	refused(1, PAGE, PAGE, 4 * PAGE, "page size");
	refused(PAGE - 1, PAGE, PAGE, 4 * PAGE, "page size");
	refused(0, PAGE + 1, PAGE, 4 * PAGE, "page size");
	refused(0, 1, PAGE, 4 * PAGE, "page size");
	refused(PAGE, PAGE, 2 * PAGE, 4 * PAGE, "page size");
}

static void ranges_beyond_the_end_are_refused(void **state)
{
	(void)state;
	refused(PAGE, PAGE, PAGE, PAGE, "beyond the end");
	refused(0, 2 * PAGE, PAGE, PAGE, "beyond the end");
	refused(8 * PAGE, PAGE, PAGE, PAGE, "beyond the end");
	refused(2, 1, 1, 2, "beyond the end");
	refused(0, 1, 1, 0, "beyond the end");
}

static void ranges_that_wrap_are_refused(void **state)
{
	(void)state;
	refused(TOP - PAGE + 1, PAGE, PAGE, TOP, "beyond the end");
	refused(PAGE, TOP - PAGE + 1, PAGE, TOP, "beyond the end");
	refused(TOP - PAGE + 1, 2 * PAGE, PAGE, 4 * PAGE, "beyond the end");
	refused(TOP, 1, 1, TOP, "beyond the end");
	refused(TOP, TOP, 1, TOP, "beyond the end");
	refused(UINT64_C(1) << 63, UINT64_C(1) << 63, 1, TOP, "beyond the end");
}

static void alignment_knows_its_borders(void **state)
{
	(void)state;
	assert_true(gmemi_aligned(0, PAGE));
	assert_true(gmemi_aligned(PAGE, PAGE));
	assert_false(gmemi_aligned(PAGE - 1, PAGE));
	assert_false(gmemi_aligned(TOP, 2));
	assert_true(gmemi_aligned(TOP, 1));
	assert_int_equal(gmemi_round_down(PAGE - 1, PAGE), 0);
	assert_int_equal(gmemi_round_down(PAGE, PAGE), PAGE);
	assert_int_equal(gmemi_round_down(TOP, PAGE), TOP - PAGE + 1);
	assert_int_equal(gmemi_min(3, 4), 3);
	assert_int_equal(gmemi_min(TOP, 4), 4);
}

static void overlap_is_symmetric_and_excludes_neighbours(void **state)
{
	static const struct {
		uint64_t a, a_length, b, b_length;
		bool overlap;
	} rows[] = {
		{ 0, 10, 10, 10, false },
		{ 0, 11, 10, 10, true },
		{ 5, 1, 0, 10, true },
		{ 0, 10, 0, 10, true },
		{ 9, 1, 0, 10, true },
		{ 10, 1, 0, 10, false },
		{ 0, TOP, TOP, 1, false },
		{ 0, TOP, TOP - 1, 1, true },
		{ TOP - 1, 1, 0, 1, false },
		{ TOP - 5, 5, TOP - 3, 3, true },
		{ TOP - 5, 2, TOP - 3, 3, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(gmemi_range_overlaps(rows[i].a, rows[i].a_length, rows[i].b, rows[i].b_length),
				 rows[i].overlap);
		assert_int_equal(gmemi_range_overlaps(rows[i].b, rows[i].b_length, rows[i].a, rows[i].a_length),
				 rows[i].overlap);
	}
}

static void a_range_contains_itself_and_its_parts_only(void **state)
{
	(void)state;
	assert_true(gmemi_range_contains(10, 10, 10, 10));
	assert_true(gmemi_range_contains(10, 10, 19, 1));
	assert_true(gmemi_range_contains(0, TOP, TOP - 1, 1));
	assert_false(gmemi_range_contains(10, 10, 9, 2));
	assert_false(gmemi_range_contains(10, 10, 19, 2));
	assert_false(gmemi_range_contains(10, 10, 20, 1));
	assert_false(gmemi_range_contains(10, 10, 0, TOP));
	assert_false(gmemi_range_contains(10, 10, 10, 11));
}

/* Every range in a small space, against counting its elements. */
static void small_ranges_agree_with_counting(void **state)
{
	unsigned int checked = 0;

	(void)state;
	for (uint64_t a = 0; a < 7; a++)
		for (uint64_t al = 1; al < 7; al++)
			for (uint64_t b = 0; b < 7; b++)
				for (uint64_t bl = 1; bl < 7; bl++) {
					uint64_t common = 0;

					for (uint64_t i = b; i < b + bl; i++)
						common += i >= a && i < a + al;
					assert_int_equal(gmemi_range_overlaps(a, al, b, bl), common > 0);
					assert_int_equal(gmemi_range_contains(a, al, b, bl), common == bl);
					checked++;
				}
	assert_int_equal(checked, 7 * 6 * 7 * 6);
}

static const struct gt_test tests[] = {
	GT(good_ranges_pass, GT_NEEDS_NOTHING),
	GT(empty_ranges_are_refused, GT_NEEDS_NOTHING),
	GT(unaligned_ranges_are_refused, GT_NEEDS_NOTHING),
	GT(ranges_beyond_the_end_are_refused, GT_NEEDS_NOTHING),
	GT(ranges_that_wrap_are_refused, GT_NEEDS_NOTHING),
	GT(alignment_knows_its_borders, GT_NEEDS_NOTHING),
	GT(overlap_is_symmetric_and_excludes_neighbours, GT_NEEDS_NOTHING),
	GT(a_range_contains_itself_and_its_parts_only, GT_NEEDS_NOTHING),
	GT(small_ranges_agree_with_counting, GT_NEEDS_NOTHING),
};

GT_MAIN("range", tests)
