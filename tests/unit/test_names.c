/* SPDX-License-Identifier: MIT */
/* Names of values, known and not, and of the library itself. */
#include "gt.h"

#include <stdint.h>

#include <gmem/base.h>
#include <gmem/memory.h>
#include <gmem/vm.h>

static void every_mechanism_has_a_name_of_its_own(void **state)
{
	static const int known[] = { 0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 20, 21, 22, 23, 30, 31, 32, 40, 41, 50, 51 };
	const size_t count = sizeof(known) / sizeof(known[0]);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		const char *name = gmem_mechanism_name((enum gmem_mechanism)known[i]);

		assert_string_not_equal(name, "unknown");
		for (size_t other = 0; other < i; other++)
			assert_string_not_equal(name, gmem_mechanism_name((enum gmem_mechanism)known[other]));
	}
	assert_string_equal(gmem_mechanism_name(GMEM_MECH_NONE), "none");
	assert_string_equal(gmem_mechanism_name(GMEM_MECH_WRITE), "write");
}

static void mechanisms_of_later_libraries_are_unknown(void **state)
{
	static const int unknown[] = { 5, 9, 17, 24, 33, 42, 49, 52, 1000, INT32_MAX, -1, INT32_MIN };

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		assert_string_equal(gmem_mechanism_name((enum gmem_mechanism)unknown[i]), "unknown");
}

static void features_are_listed_until_null(void **state)
{
	int count = 0;

	(void)state;
	while (gmem_feature_name((enum gmem_feature)(count + 1))) {
		count++;
		for (int other = 1; other < count; other++)
			assert_string_not_equal(gmem_feature_name((enum gmem_feature)count),
						gmem_feature_name((enum gmem_feature)other));
	}
	assert_int_equal(count, GMEM_FEATURE_UFFD_RWP_ASYNC);
	assert_null(gmem_feature_name(GMEM_FEATURE_NONE));
	assert_null(gmem_feature_name((enum gmem_feature)1000));
	assert_null(gmem_feature_name((enum gmem_feature)-1));
	assert_string_equal(gmem_feature_name(GMEM_FEATURE_GUEST_MEMFD_MMAP), "guest_memfd_mmap");
}

static void tasks_are_listed_until_null(void **state)
{
	int count = 0;

	(void)state;
	while (gmem_task_name((enum gmem_task)(count + 1)))
		count++;
	assert_int_equal(count, GMEM_TASK_DISCARD);
	assert_null(gmem_task_name((enum gmem_task)0));
	assert_null(gmem_task_name((enum gmem_task)-1));
	assert_string_equal(gmem_task_name(GMEM_TASK_POPULATE), "populate");
}

static void states_and_backings_have_names(void **state)
{
	(void)state;
	assert_string_equal(gmem_state_name(GMEM_UNDETERMINED), "undetermined");
	assert_string_equal(gmem_state_name(GMEM_ABSENT), "absent");
	assert_string_equal(gmem_state_name(GMEM_FORBIDDEN), "forbidden");
	assert_string_equal(gmem_state_name(GMEM_PRESENT), "present");
	assert_string_equal(gmem_backing_name(GMEM_BACKING_AUTO), "auto");
	assert_string_equal(gmem_backing_name(GMEM_BACKING_GUEST_MEMFD), "guest_memfd");
	assert_string_equal(gmem_backing_name(GMEM_BACKING_MEMFD), "memfd");
	assert_string_equal(gmem_backing_name(GMEM_BACKING_HUGETLB), "hugetlb");
}

static void states_and_backings_of_later_libraries_are_unknown(void **state)
{
	static const int unknown[] = { 4, 1000, INT32_MAX, -1, INT32_MIN };

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		assert_string_equal(gmem_state_name((enum gmem_state)unknown[i]), "unknown");
		assert_string_equal(gmem_backing_name((enum gmem_backing)unknown[i]), "unknown");
	}
}

static void the_library_that_runs_is_that_of_the_headers(void **state)
{
	(void)state;
	assert_string_equal(gmem_version(), GMEM_VERSION);
}

static const struct gt_test tests[] = {
	GT(every_mechanism_has_a_name_of_its_own, GT_NEEDS_NOTHING),
	GT(mechanisms_of_later_libraries_are_unknown, GT_NEEDS_NOTHING),
	GT(features_are_listed_until_null, GT_NEEDS_NOTHING),
	GT(tasks_are_listed_until_null, GT_NEEDS_NOTHING),
	GT(states_and_backings_have_names, GT_NEEDS_NOTHING),
	GT(states_and_backings_of_later_libraries_are_unknown, GT_NEEDS_NOTHING),
	GT(the_library_that_runs_is_that_of_the_headers, GT_NEEDS_NOTHING),
};

GT_MAIN("names", tests)
