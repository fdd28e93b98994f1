/* SPDX-License-Identifier: MIT */
/* gmem_discard(): pages that read as zeros and cost nothing afterwards, in memory of every make, and what is refused. What
 * becomes of the page map, and of failures on the way, is in test_discard_map.c and test_discard_stop.c. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "files.h"
#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "refusal.h"
#include "wrap.h" /* __real_fstat(): what a fake guest_memfd does not tell */

#define PAGES 16
#define HUGE_PAGES 4
#define HUGE (UINT64_C(2) << 20)

static struct memory memory;

static uint64_t unit_of(enum make make)
{
	return make == HUGETLB ? HUGE : page();
}

/* Pages of the backing's size, all of which have content. */
static unsigned char *make_full(enum make make, uint64_t pages)
{
	uint64_t length = pages * unit_of(make);
	unsigned char *content = pages_of_content(length / page(), 0);

	memory = make_memory(make, length);
	assert_int_equal(gmem_populate(memory.mem, 0, length, content, NULL, NULL), 0);
	return content;
}

static void discard(uint64_t offset, uint64_t length)
{
	uint64_t done = 77;

	if (gmem_discard(memory.mem, offset, length, &done, NULL))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, length);
}

/* What the file takes, in bytes; of a pair the half that is asked for. A real guest_memfd does not say. */
static uint64_t allocated(enum gmem_fd_kind kind)
{
	struct stat about;

	assert_int_equal(__real_fstat(gmem_get_fd(memory.mem, kind), &about), 0);
	return (uint64_t)about.st_blocks * 512;
}

/* Content */

static const enum make makes[] = { MEMFD, FAKE_GUEST_MEMFD, FAKE_WITH_WRITE, LAZY_MEMFD };
#define MAKES (sizeof(makes) / sizeof(makes[0]))

/* From the middle, then both ends, then everything. */
static void check_zeros(enum make make, uint64_t pages)
{
	static const struct {
		int first, count; /* in quarters of the memory */
	} steps[] = { { 1, 2 }, { 0, 1 }, { 3, 1 }, { 0, 4 } };
	unsigned char *content = make_full(make, pages);
	uint64_t quarter = memory.length / 4;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		uint64_t offset = (uint64_t)steps[i].first * quarter, length = (uint64_t)steps[i].count * quarter;

		discard(offset, length);
		if (make != HUGETLB)
			assert_int_equal(absent_bytes(memory.mem, offset, length), length);
		memset(content + offset, 0, length);
		assert_reads(memory.mem, 0, content, memory.length);
	}
	free(content);
	end_memory(&memory);
}

static void discarded_pages_read_as_zeros(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAKES; i++)
		check_zeros(makes[i], PAGES);
}

static void discarded_pages_of_a_real_guest_memfd_read_as_zeros(void **state)
{
	(void)state;
	check_zeros(REAL_GUEST_MEMFD, PAGES);
}

static void discarded_huge_pages_read_as_zeros(void **state)
{
	(void)state;
	want_huge_pages(HUGE_PAGES);
	check_zeros(HUGETLB, HUGE_PAGES);
}

static void check_cost(enum make make, uint64_t pages)
{
	uint64_t unit = unit_of(make);
	unsigned char *content = make_full(make, pages);

	assert_int_equal(allocated(GMEM_FD_MEMORY), pages * unit);
	discard(unit, 2 * unit);
	assert_int_equal(allocated(GMEM_FD_MEMORY), (pages - 2) * unit);
	discard(unit, 2 * unit); /* what is not there is dealt with too */
	discard(0, pages * unit);
	assert_int_equal(allocated(GMEM_FD_MEMORY), 0);
	free(content);
	end_memory(&memory);
}

static void discarded_pages_cost_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAKES; i++)
		check_cost(makes[i], PAGES);
}

/* Sizes that a step of any fixed length that is small would take for ever. */
static void much_is_freed_in_few_calls(void **state)
{
	uint64_t length = UINT64_C(1) << 50;

	(void)state;
	memory = make_memory(MEMFD, length);
	inject_arm(5000, EIO);
	discard(0, length);
	inject_disarm();
	assert_false(inject_fired());
	end_memory(&memory);
}

static void discarded_huge_pages_cost_nothing(void **state)
{
	(void)state;
	want_huge_pages(HUGE_PAGES);
	check_cost(HUGETLB, HUGE_PAGES);
}

static void discarded_pages_can_be_populated_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAKES; i++) {
		unsigned char *content = make_full(makes[i], PAGES);

		discard(3 * page(), 5 * page());
		assert_int_equal(gmem_populate(memory.mem, 3 * page(), 5 * page(), content + 3 * page(), NULL, NULL), 0);
		assert_reads(memory.mem, 0, content, memory.length);
		free(content);
		end_memory(&memory);
	}
}

static void mappings_see_it(void **state)
{
	struct gmem_map_opts readonly = { .size = sizeof(readonly), .flags = GMEM_MAP_READONLY };

	(void)state;
	for (size_t i = 0; i < MAKES; i++) {
		void *writable, *readable;

		free(make_full(makes[i], PAGES));
		assert_int_equal(gmem_map(memory.mem, 0, memory.length, &writable, NULL), 0);
		assert_int_equal(gmem_map(memory.mem, 2 * page(), 2 * page(), &readable, &readonly), 0);
		assert_int_not_equal(*(unsigned char *)readable, 0);
		discard(2 * page(), page());
		assert_int_equal(*(unsigned char *)readable, 0);
		assert_int_not_equal(((unsigned char *)readable)[page()], 0);
		((unsigned char *)writable)[2 * page()] = 9;
		assert_int_equal(*(unsigned char *)readable, 9);
		end_memory(&memory);
	}
}

static void memory_in_a_memslot_can_be_discarded(void **state)
{
	struct gmem_run run = { .size = sizeof(run) };

	(void)state;
	free(make_full(FAKE_GUEST_MEMFD, PAGES));
	assert_int_equal(gmem_bind(memory.mem, 0, 0, 0, memory.length, NULL), 0);
	discard(0, memory.length);
	assert_int_equal(gmem_query_run(memory.mem, 0, &run), 0);
	assert_int_equal(run.state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
	assert_int_equal(info_of(memory.mem).slots, 1);
	end_memory(&memory);
}

/* Whoever has the file, here in the same process. */
static void all_who_have_the_file_see_it(void **state)
{
	struct gmem *other;

	(void)state;
	for (size_t i = 0; i < MAKES; i++) {
		unsigned char *content = make_full(makes[i], PAGES);

		other = imported(memory.vm, gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, 0, 0);
		assert_int_equal(gmem_discard(other, 0, 4 * page(), NULL, NULL), 0);
		memset(content, 0, 4 * page());
		assert_reads(memory.mem, 0, content, memory.length);
		gmem_destroy(other);
		free(content);
		end_memory(&memory);
	}
}

/* Private memory without a file for both kinds of pages: a guest_memfd and a memfd. */
static void both_halves_of_a_pair_are_freed(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE };
	unsigned char *content = pages_of_content(PAGES, 0);

	(void)state;
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("sw-protected")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	assert_int_equal(info_of(memory.mem).mechanism, GMEM_MECH_GUEST_MEMFD_PAIR);
	assert_int_equal(gmem_populate(memory.mem, 0, memory.length, content, NULL, NULL), 0);
	assert_int_equal(fallocate(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), FALLOC_FL_KEEP_SIZE, 0, (off_t)memory.length), 0);
	discard(page(), 3 * page());
	assert_int_equal(allocated(GMEM_FD_MEMORY), (PAGES - 3) * page());
	assert_int_equal(allocated(GMEM_FD_SHARED_HALF), (PAGES - 3) * page());
	memset(content + page(), 0, 3 * page());
	assert_reads(memory.mem, 0, content, memory.length);
	free(content);
	end_memory(&memory);
}

static void private_memory_is_freed_without_a_mapping(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_PRIVATE };

	(void)state;
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("future-upstream")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	assert_int_equal(fallocate(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), FALLOC_FL_KEEP_SIZE, 0, (off_t)memory.length), 0);
	discard(page(), 3 * page());
	assert_int_equal(allocated(GMEM_FD_MEMORY), (PAGES - 3) * page());
	end_memory(&memory);
}

/* What is refused */

/* The documented code, done 0, nothing freed. */
static void refuse(uint64_t offset, uint64_t length, uint64_t flags, int code, const char *word)
{
	struct gmem_discard_opts opts = { .size = sizeof(opts), .flags = flags };
	uint64_t done = 77;

	spoil_sentence();
	bad("gmem_discard", gmem_discard(memory.mem, offset, length, &done, &opts), code, word);
	assert_int_equal(done, 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 0);
}

static void refuse_ranges(enum make make, uint64_t pages)
{
	uint64_t unit = unit_of(make), length = pages * unit;

	free(make_full(make, pages));
	refuse(0, 0, 0, -EINVAL, "the length is 0");
	refuse(length, 0, 0, -EINVAL, "the length is 0");
	refuse(0, 1, 0, -EINVAL, "multiples of the page size");
	refuse(1, unit, 0, -EINVAL, "multiples of the page size");
	refuse(unit / 2, unit, 0, -EINVAL, "multiples of the page size");
	refuse(0, unit + unit / 2, 0, -EINVAL, "multiples of the page size");
	refuse(0, UINT64_MAX, 0, -EINVAL, "multiples of the page size");
	refuse(0, length + unit, 0, -EINVAL, "beyond the end");
	refuse(unit, length, 0, -EINVAL, "beyond the end");
	refuse(length, unit, 0, -EINVAL, "beyond the end");
	refuse(0, UINT64_C(1) << 62, 0, -EINVAL, "beyond the end");
	refuse(UINT64_C(1) << 62, unit, 0, -EINVAL, "beyond the end");
	refuse(-unit, 2 * unit, 0, -EINVAL, "beyond the end");
	refuse(unit, -unit, 0, -EINVAL, "beyond the end");
	end_memory(&memory);
}

static void bad_ranges_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAKES; i++)
		refuse_ranges(makes[i], PAGES);
}

static void bad_ranges_of_a_real_guest_memfd_are_refused(void **state)
{
	(void)state;
	refuse_ranges(REAL_GUEST_MEMFD, PAGES);
}

static void bad_ranges_of_huge_pages_are_refused(void **state)
{
	(void)state;
	want_huge_pages(HUGE_PAGES);
	refuse_ranges(HUGETLB, HUGE_PAGES);
}

static void bad_options_are_refused(void **state)
{
	struct gmem_discard_opts opts = { .size = 7 };
	uint64_t done = 77;

	(void)state;
	free(make_full(MEMFD, PAGES));
	refuse(0, page(), GMEM_DISCARD_REFETCH << 1, -E2BIG, "opts->flags");
	refuse(0, page(), UINT64_C(1) << 63, -E2BIG, "opts->flags");
	refuse(0, page(), GMEM_DISCARD_REFETCH, -EOPNOTSUPP, "page map");
	bad("gmem_discard", gmem_discard(memory.mem, 0, page(), &done, &opts), -EINVAL, "opts->size");
	assert_int_equal(done, 0);
	opts.size = 4097;
	bad("gmem_discard", gmem_discard(memory.mem, 0, page(), NULL, &opts), -E2BIG, "opts->size");
	done = 77;
	bad("gmem_discard", gmem_discard(NULL, 0, page(), &done, NULL), -EINVAL, "the memory is NULL");
	assert_int_equal(done, 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 0);
	end_memory(&memory);
}

static void nobody_needs_to_know_how_much_was_done(void **state)
{
	struct gmem_discard_opts opts = { .size = sizeof(opts) };

	(void)state;
	free(make_full(MEMFD, PAGES));
	assert_int_equal(gmem_discard(memory.mem, 0, memory.length, NULL, &opts), 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), memory.length);
	end_memory(&memory);
}

/* Somebody sealed it after it was imported: the kernel frees nothing any more. */
static void a_file_that_was_sealed_is_left_alone(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	unsigned char *content = pages_of_content(PAGES, 0);

	(void)state;
	assert_int_equal(pwrite(fd, content, PAGES * page(), 0), PAGES * page());
	memory = (struct memory){ .vm_fd = -1, .vm = open_vm(-1), .length = PAGES * page() };
	memory.mem = imported(memory.vm, fd, 0, 0, 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	refuse(0, page(), 0, -EPERM, "sealed against writing");
	end_memory(&memory);
	free(content);
	close(fd);
}

static int discard_in_child(void *arg)
{
	uint64_t done = 77;
	int r = gmem_discard(memory.mem, 0, page(), &done, NULL);

	(void)arg;
	return r == -ESTALE && done == 0 ? 0 : 1;
}

static void after_a_fork_the_memory_is_stale(void **state)
{
	(void)state;
	free(make_full(MEMFD, PAGES));
	assert_int_equal(gt_in_child(discard_in_child, NULL), 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 0);
	end_memory(&memory);
}

static const struct gt_test tests[] = {
	GT(discarded_pages_read_as_zeros, GT_NEEDS_NOTHING),
	GT(discarded_pages_of_a_real_guest_memfd_read_as_zeros, GT_NEEDS_GUEST_MEMFD),
	GT(discarded_huge_pages_read_as_zeros, GT_NEEDS_HUGETLB_2M),
	GT(discarded_pages_cost_nothing, GT_NEEDS_NOTHING),
	GT(much_is_freed_in_few_calls, GT_NEEDS_NOTHING),
	GT(discarded_huge_pages_cost_nothing, GT_NEEDS_HUGETLB_2M),
	GT(discarded_pages_can_be_populated_again, GT_NEEDS_NOTHING),
	GT(mappings_see_it, GT_NEEDS_NOTHING),
	GT(memory_in_a_memslot_can_be_discarded, GT_NEEDS_NOTHING),
	GT(all_who_have_the_file_see_it, GT_NEEDS_NOTHING),
	GT(both_halves_of_a_pair_are_freed, GT_NEEDS_NOTHING),
	GT(private_memory_is_freed_without_a_mapping, GT_NEEDS_NOTHING),
	GT(bad_ranges_are_refused, GT_NEEDS_NOTHING),
	GT(bad_ranges_of_a_real_guest_memfd_are_refused, GT_NEEDS_GUEST_MEMFD),
	GT(bad_ranges_of_huge_pages_are_refused, GT_NEEDS_HUGETLB_2M),
	GT(bad_options_are_refused, GT_NEEDS_NOTHING),
	GT(nobody_needs_to_know_how_much_was_done, GT_NEEDS_NOTHING),
	GT(a_file_that_was_sealed_is_left_alone, GT_NEEDS_NOTHING),
	GT(after_a_fork_the_memory_is_stale, GT_NEEDS_NOTHING),
};

GT_MAIN("discard", tests)
