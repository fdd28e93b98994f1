/* SPDX-License-Identifier: MIT */
/* Size-first structs: what comes in, what goes out, and that no member ever moves. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/source.h>
#include <gmem/vm.h>

#include "err.h"
#include "opts.h"

#define KNOWN sizeof(struct gmem_create_opts)
#define TAIL 64

/* Room for a struct of a later library. */
union wide {
	struct gmem_create_opts opts;
	struct gmem_info info;
	unsigned char bytes[sizeof(struct gmem_info) + TAIL];
};

static int copy_in(struct gmem_create_opts *local, const void *opts)
{
	gmemi_enter("test_call");
	memset(local, 0xa5, sizeof(*local));
	return gmemi_opts_in(local, KNOWN, opts, "opts");
}

static void assert_refused(int r, int code, const char *word)
{
	assert_int_equal(r, code);
	assert_non_null(strstr(gmem_last_error(), "test_call: "));
	assert_non_null(strstr(gmem_last_error(), word));
	assert_non_null(strstr(gmem_last_error(), "from the library"));
}

static void assert_all_zero(const void *from, size_t length)
{
	for (size_t i = 0; i < length; i++)
		assert_int_equal(((const unsigned char *)from)[i], 0);
}

static union wide filled(uint64_t size)
{
	union wide wide = { .bytes = { 0 } };

	wide.opts = (struct gmem_create_opts){ .size = size, .need = 1, .flags = 2, .backing = 3, .reserved = 4, .name = "x" };
	return wide;
}

static void null_means_defaults(void **state)
{
	struct gmem_create_opts local;

	(void)state;
	assert_int_equal(copy_in(&local, NULL), 0);
	assert_all_zero(&local, sizeof(local));
}

static void the_exact_size_copies_everything(void **state)
{
	union wide wide = filled(KNOWN);
	struct gmem_create_opts local;

	(void)state;
	assert_int_equal(copy_in(&local, &wide), 0);
	assert_memory_equal(&local, &wide, KNOWN);
}

static void sizes_too_small_for_the_size_are_refused(void **state)
{
	struct gmem_create_opts local;

	(void)state;
	for (uint64_t size = 0; size < 8; size++) {
		union wide wide = filled(size);

		assert_refused(copy_in(&local, &wide), -EINVAL, "opts->size");
	}
}

static void a_shorter_struct_reads_as_zeros_at_its_end(void **state)
{
	struct gmem_create_opts local;

	(void)state;
	for (uint64_t size = 8; size < KNOWN; size++) {
		union wide wide = filled(size);

		assert_int_equal(copy_in(&local, &wide), 0);
		assert_memory_equal(&local, &wide, size);
		assert_all_zero((unsigned char *)&local + size, KNOWN - size);
	}
}

static void a_longer_struct_with_zeros_is_taken(void **state)
{
	struct gmem_create_opts local;

	(void)state;
	for (uint64_t more = 1; more <= TAIL; more++) {
		union wide wide = filled(KNOWN + more);

		assert_int_equal(copy_in(&local, &wide), 0);
		assert_memory_equal(&local, &wide, KNOWN);
	}
}

static void any_byte_of_an_unknown_tail_is_noticed(void **state)
{
	struct gmem_create_opts local;

	(void)state;
	for (size_t at = KNOWN; at < KNOWN + TAIL; at++) {
		union wide wide = filled(KNOWN + TAIL);

		wide.bytes[at] = 0x80;
		assert_refused(copy_in(&local, &wide), -E2BIG, "does not know");
	}
}

static void what_lies_behind_the_size_is_not_looked_at(void **state)
{
	union wide wide = filled(KNOWN + 1);
	struct gmem_create_opts local;

	(void)state;
	wide.bytes[KNOWN + 1] = 1;
	assert_int_equal(copy_in(&local, &wide), 0);
}

static void wild_sizes_are_not_followed(void **state)
{
	static const uint64_t sizes[] = { 4097, 1u << 20, UINT64_C(1) << 62, UINT64_MAX - 7, UINT64_MAX };
	struct gmem_create_opts local;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		union wide wide = filled(sizes[i]);

		assert_refused(copy_in(&local, &wide), -E2BIG, "opts->size");
	}
}

static unsigned char *page_before_a_hole(size_t page)
{
	unsigned char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
	return pages;
}

static void nothing_behind_the_callers_struct_is_touched(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *pages = page_before_a_hole(page);
	struct gmem_create_opts local;
	struct gmem_info now = { .length = 7 };

	(void)state;
	for (uint64_t size = 8; size <= KNOWN + TAIL; size += 8) {
		unsigned char *last = pages + page - size;

		memset(pages, 0, page);
		memcpy(last, &size, sizeof(size));
		assert_int_equal(copy_in(&local, last), 0);
		assert_int_equal(gmemi_info_check(last, "info"), 0);
		gmemi_info_out(last, &now, sizeof(now));
	}
	munmap(pages, 2 * page);
}

static void reserved_words_must_be_zero(void **state)
{
	(void)state;
	gmemi_enter("test_call");
	assert_int_equal(gmemi_opts_reserved(0), 0);
	assert_refused(gmemi_opts_reserved(1), -EINVAL, "reserved");
	assert_refused(gmemi_opts_reserved(UINT64_C(1) << 63), -EINVAL, "reserved");
}

static void each_unknown_flag_is_named(void **state)
{
	(void)state;
	gmemi_enter("test_call");
	assert_int_equal(gmemi_opts_flags(0, 0, "opts->flags"), 0);
	assert_int_equal(gmemi_opts_flags(5, 5, "opts->flags"), 0);
	assert_int_equal(gmemi_opts_flags(4, 5, "opts->flags"), 0);
	assert_int_equal(gmemi_opts_flags(UINT64_MAX, UINT64_MAX, "opts->flags"), 0);
	assert_refused(gmemi_opts_flags(7, 5, "opts->flags"), -E2BIG,
		       "opts->flags has bits that this library does not know: 0x2 ");
	for (unsigned int bit = 0; bit < 64; bit++)
		if (bit != 3)
			assert_refused(gmemi_opts_flags(UINT64_C(1) << bit, 8, "opts->flags"), -E2BIG, "opts->flags");
}

static void out_structs_need_a_sane_size(void **state)
{
	struct gmem_info info = { .size = 7 };

	(void)state;
	gmemi_enter("test_call");
	assert_refused(gmemi_info_check(NULL, "info"), -EINVAL, "info is NULL");
	assert_refused(gmemi_info_check(&info, "info"), -EINVAL, "info->size");
	info.size = 8;
	assert_int_equal(gmemi_info_check(&info, "info"), 0);
}

static const struct gmem_info sample = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };

/* Writes into a caller's struct of this size; bytes behind it were 0xee. */
static union wide written(uint64_t size)
{
	union wide wide;

	memset(wide.bytes, 0xee, sizeof(wide.bytes));
	wide.info.size = size;
	gmemi_info_out(&wide, &sample, sizeof(sample));
	return wide;
}

static void a_shorter_caller_gets_what_fits(void **state)
{
	(void)state;
	for (uint64_t size = 8; size <= sizeof(sample); size++) {
		union wide wide = written(size);

		assert_int_equal(wide.info.size, size);
		assert_memory_equal(wide.bytes + 8, (const unsigned char *)&sample + 8, size - 8);
		for (size_t i = size; i < sizeof(wide.bytes); i++)
			assert_int_equal(wide.bytes[i], 0xee);
	}
}

static void a_longer_caller_gets_zeros_at_the_end(void **state)
{
	(void)state;
	for (uint64_t size = sizeof(sample) + 1; size <= sizeof(sample) + TAIL; size++) {
		union wide wide = written(size);

		assert_int_equal(wide.info.size, size);
		assert_memory_equal(wide.bytes + 8, (const unsigned char *)&sample + 8, sizeof(sample) - 8);
		assert_all_zero(wide.bytes + sizeof(sample), size - sizeof(sample));
		for (size_t i = size; i < sizeof(wide.bytes); i++)
			assert_int_equal(wide.bytes[i], 0xee);
	}
}

/* The binary interface, as 64-bit machines have it. A line here never changes; new members get new lines at the end. */
struct member {
	const char *name;
	size_t is, shall_be, size;
};

#define MEMBER(type, member, offset) \
	{ #type "." #member, offsetof(struct type, member), offset, sizeof(((struct type *)0)->member) }
#define END(type, size) { #type, sizeof(struct type), size, 0 }

static const struct member members[] = {
	MEMBER(gmem_vm_open_opts, size, 0),
	MEMBER(gmem_vm_open_opts, flags, 8),
	MEMBER(gmem_vm_open_opts, kind, 16),
	MEMBER(gmem_vm_open_opts, reserved, 20),
	END(gmem_vm_open_opts, 24),
	MEMBER(gmem_probe, size, 0),
	MEMBER(gmem_probe, error, 8),
	MEMBER(gmem_probe, reserved, 12),
	MEMBER(gmem_probe, facility, 16),
	MEMBER(gmem_probe, hint, 24),
	END(gmem_probe, 32),
	MEMBER(gmem_step, size, 0),
	MEMBER(gmem_step, mechanism, 8),
	MEMBER(gmem_step, backing, 12),
	MEMBER(gmem_step, feature, 16),
	MEMBER(gmem_step, state, 20),
	MEMBER(gmem_step, chosen, 24),
	MEMBER(gmem_step, reserved, 28),
	MEMBER(gmem_step, why, 32),
	END(gmem_step, 40),
	MEMBER(gmem_create_opts, size, 0),
	MEMBER(gmem_create_opts, need, 8),
	MEMBER(gmem_create_opts, flags, 16),
	MEMBER(gmem_create_opts, backing, 24),
	MEMBER(gmem_create_opts, reserved, 28),
	MEMBER(gmem_create_opts, name, 32),
	END(gmem_create_opts, 40),
	MEMBER(gmem_map_opts, size, 0),
	MEMBER(gmem_map_opts, flags, 8),
	MEMBER(gmem_map_opts, address, 16),
	END(gmem_map_opts, 24),
	MEMBER(gmem_bind_opts, size, 0),
	MEMBER(gmem_bind_opts, flags, 8),
	MEMBER(gmem_bind_opts, address, 16),
	END(gmem_bind_opts, 24),
	MEMBER(gmem_info, size, 0),
	MEMBER(gmem_info, length, 8),
	MEMBER(gmem_info, page_size, 16),
	MEMBER(gmem_info, need, 24),
	MEMBER(gmem_info, populated, 32),
	MEMBER(gmem_info, skipped, 40),
	MEMBER(gmem_info, backing, 48),
	MEMBER(gmem_info, mechanism, 52),
	MEMBER(gmem_info, populate_mechanism, 56),
	MEMBER(gmem_info, slots, 60),
	MEMBER(gmem_info, in_place, 64),
	MEMBER(gmem_info, prefault_mechanism, 68),
	END(gmem_info, 72),
	MEMBER(gmem_populate_opts, size, 0),
	MEMBER(gmem_populate_opts, flags, 8),
	MEMBER(gmem_populate_opts, chunk, 16),
	MEMBER(gmem_populate_opts, progress, 24),
	MEMBER(gmem_populate_opts, user, 32),
	MEMBER(gmem_populate_opts, mechanism, 40),
	MEMBER(gmem_populate_opts, threads, 44),
	END(gmem_populate_opts, 48),
	MEMBER(gmem_import_opts, size, 0),
	MEMBER(gmem_import_opts, need, 8),
	MEMBER(gmem_import_opts, flags, 16),
	END(gmem_import_opts, 24),
	MEMBER(gmem_discard_opts, size, 0),
	MEMBER(gmem_discard_opts, flags, 8),
	END(gmem_discard_opts, 16),
	MEMBER(gmem_set_nodes_opts, size, 0),
	MEMBER(gmem_set_nodes_opts, flags, 8),
	MEMBER(gmem_set_nodes_opts, policy, 16),
	MEMBER(gmem_set_nodes_opts, reserved, 20),
	END(gmem_set_nodes_opts, 24),
	MEMBER(gmem_run, size, 0),
	MEMBER(gmem_run, length, 8),
	MEMBER(gmem_run, state, 16),
	END(gmem_run, 24),
	MEMBER(gmem_prefault_opts, size, 0),
	MEMBER(gmem_prefault_opts, flags, 8),
	MEMBER(gmem_prefault_opts, progress, 16),
	MEMBER(gmem_prefault_opts, user, 24),
	MEMBER(gmem_prefault_opts, mechanism, 32),
	MEMBER(gmem_prefault_opts, threads, 36),
	END(gmem_prefault_opts, 40),
	MEMBER(gmem_slot_info, size, 0),
	MEMBER(gmem_slot_info, gpa, 8),
	MEMBER(gmem_slot_info, length, 16),
	MEMBER(gmem_slot_info, offset, 24),
	MEMBER(gmem_slot_info, flags, 32),
	MEMBER(gmem_slot_info, mem, 40),
	MEMBER(gmem_slot_info, address, 48),
	MEMBER(gmem_slot_info, slot, 56),
	MEMBER(gmem_slot_info, reserved, 60),
	END(gmem_slot_info, 64),
	MEMBER(gmem_source_ops, size, 0),
	MEMBER(gmem_source_ops, read, 8),
	MEMBER(gmem_source_ops, extent, 16),
	MEMBER(gmem_source_ops, release, 24),
	MEMBER(gmem_source_ops, advise, 32),
	END(gmem_source_ops, 40),
	MEMBER(gmem_extent, offset, 0),
	MEMBER(gmem_extent, length, 8),
	MEMBER(gmem_extent, file_offset, 16),
	MEMBER(gmem_extent, fd, 24),
	MEMBER(gmem_extent, reserved, 28),
	END(gmem_extent, 32),
};

static void no_public_member_has_moved(void **state)
{
	(void)state;
	if (sizeof(void *) != 8)
		gt_skip("the offsets are those of a 64-bit machine");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (members[i].is != members[i].shall_be)
			fail_msg("%s is at %zu, not at %zu", members[i].name, members[i].is, members[i].shall_be);
}

/* Bytes between members would be garbage of the caller's stack that a later library takes for options. */
static void public_structs_have_no_holes(void **state)
{
	size_t expected = 0;

	(void)state;
	if (sizeof(void *) != 8)
		gt_skip("the offsets are those of a 64-bit machine");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (members[i].is != expected)
			fail_msg("a hole before %s", members[i].name);
		expected = members[i].size ? expected + members[i].size : 0;
	}
}

static const struct gt_test tests[] = {
	GT(null_means_defaults, GT_NEEDS_NOTHING),
	GT(the_exact_size_copies_everything, GT_NEEDS_NOTHING),
	GT(sizes_too_small_for_the_size_are_refused, GT_NEEDS_NOTHING),
	GT(a_shorter_struct_reads_as_zeros_at_its_end, GT_NEEDS_NOTHING),
	GT(a_longer_struct_with_zeros_is_taken, GT_NEEDS_NOTHING),
	GT(any_byte_of_an_unknown_tail_is_noticed, GT_NEEDS_NOTHING),
	GT(what_lies_behind_the_size_is_not_looked_at, GT_NEEDS_NOTHING),
	GT(wild_sizes_are_not_followed, GT_NEEDS_NOTHING),
	GT(nothing_behind_the_callers_struct_is_touched, GT_NEEDS_NOTHING),
	GT(reserved_words_must_be_zero, GT_NEEDS_NOTHING),
	GT(each_unknown_flag_is_named, GT_NEEDS_NOTHING),
	GT(out_structs_need_a_sane_size, GT_NEEDS_NOTHING),
	GT(a_shorter_caller_gets_what_fits, GT_NEEDS_NOTHING),
	GT(a_longer_caller_gets_zeros_at_the_end, GT_NEEDS_NOTHING),
	GT(no_public_member_has_moved, GT_NEEDS_NOTHING),
	GT(public_structs_have_no_holes, GT_NEEDS_NOTHING),
};

GT_MAIN("opts", tests)
