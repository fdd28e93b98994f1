/* SPDX-License-Identifier: MIT */
/* Memslots as the library tells of them, the mapping that a caller chooses for one, and mappings that may not be put over others. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "refusal.h"
#include "slots.h"

#define SECOND_SPACE (1u << 16)

static struct gmem_slot_info ask(const struct set *set, uint32_t space, uint64_t gpa, int expected)
{
	struct gmem_slot_info info = { .size = sizeof(info), .length = 0x5555, .slot = 77 };
	struct gmem_slot_info before = info;

	assert_int_equal(gmem_query_slot(set->vm, space, gpa * page(), &info), expected);
	if (!expected)
		assert_memory_equal(&info, &before, sizeof(info)); /* outputs are written on success only */
	return info;
}

static void check_one(const struct set *set, uint64_t gpa, const struct gmem *mem, uint32_t slot, uint64_t begins)
{
	struct gmem_slot_info info = ask(set, slot >> 16, gpa, 1);

	assert_ptr_equal(info.mem, mem);
	assert_int_equal(info.slot, slot);
	assert_int_equal(info.gpa, begins * page());
	assert_int_equal(info.reserved, 0);
}

static void check_finding(const char *preset)
{
	struct set set = set_up_slots(preset);

	ask(&set, 0, 0, 0);
	assert_int_equal(bind_pages(set.mem, 3, 20, 8, 4), 0);
	assert_int_equal(bind_pages(set.other, 1, 4, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, 2, 30, 0, 2), 0);
	check_one(&set, 0, set.other, 1, 4); /* the next above */
	check_one(&set, 4, set.other, 1, 4);
	check_one(&set, 7, set.other, 1, 4);
	check_one(&set, 8, set.mem, 3, 20);
	check_one(&set, 23, set.mem, 3, 20);
	check_one(&set, 24, set.mem, 2, 30);
	check_one(&set, 31, set.mem, 2, 30);
	ask(&set, 0, 32, 0);
	assert_int_equal(ask(&set, 0, 21, 1).offset, 8 * page());
	assert_int_equal(ask(&set, 0, 21, 1).length, 4 * page());
	assert_int_equal(gmem_unbind(set.mem, 3), 0);
	check_one(&set, 8, set.mem, 2, 30);
	gmem_unbind(set.mem, 2);
	gmem_unbind(set.other, 1);
	ask(&set, 0, 0, 0);
	tear_down_slots(&set);
}

static void the_next_memslot_is_found(void **state)
{
	(void)state;
	check_finding(NULL);
	check_finding("6.1");
	check_finding("6.18");
}

static void address_spaces_are_apart(void **state)
{
	struct set set = set_up_slots(NULL);

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, SECOND_SPACE | 1, 2, 4, 4), 0);
	check_one(&set, 3, set.mem, 0, 0);
	check_one(&set, 0, set.mem, 0, 0);
	assert_int_equal(ask(&set, 1, 0, 1).slot, SECOND_SPACE | 1);
	ask(&set, 0, 4, 0);
	ask(&set, 2, 0, 0);
	tear_down_slots(&set);
}

/* What a bound mapping really is, and which flags hold. */
static void address_and_flags_are_told(void **state)
{
	struct set set = set_up_slots("6.18");
	struct fakekvm_slot kvm;
	struct gmem_slot_info info;

	(void)state;
	assert_int_equal(bind_with(set.mem, 0, 0, 4, 4, GMEM_BIND_DIRTY_LOG), 0);
	assert_int_equal(bind_with(set.other, 1, 8, 0, 4, 0), 0);
	info = ask(&set, 0, 0, 1);
	kvm = slot_at(&set, 0);
	assert_int_equal((uintptr_t)info.address, kvm.hva);
	assert_int_equal(info.flags, GMEM_BIND_DIRTY_LOG | GMEM_BIND_PLAIN);
	assert_int_equal(ask(&set, 0, 8, 1).flags, 0);
	tear_down_slots(&set);
}

static void the_last_bytes_of_the_address_space_end_the_walk(void **state)
{
	struct set set = set_up_slots(NULL);
	uint64_t last = (UINT64_MAX - page() + 1) / page() - 4;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, last, 0, 4), 0);
	assert_int_equal(ask(&set, 0, last + 3, 1).gpa, last * page());
	ask(&set, 0, last + 4, 0);
	tear_down_slots(&set);
}

static void bad_questions_are_refused(void **state)
{
	struct set set = set_up_slots(NULL);
	struct gmem_slot_info info = { .size = 7 };

	(void)state;
	bad("gmem_query_slot", gmem_query_slot(NULL, 0, 0, &info), -EINVAL, "VM");
	bad("gmem_query_slot", gmem_query_slot(set.vm, 0, 0, NULL), -EINVAL, "info");
	bad("gmem_query_slot", gmem_query_slot(set.vm, 0, 0, &info), -EINVAL, "size");
	info.size = 4097;
	bad("gmem_query_slot", gmem_query_slot(set.vm, 0, 0, &info), -E2BIG, "size");
	tear_down_slots(&set);
}

/* The mapping that a memslot gets */

static void *map_pages(struct gmem *mem, uint64_t first, uint64_t count, void *at)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = at };
	void *address = NULL;

	assert_int_equal(gmem_map(mem, first * page(), count * page(), &address, &opts), 0);
	return address;
}

static unsigned char *reserve(uint64_t pages)
{
	void *at = mmap(NULL, pages * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static int bind_at(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count, void *address)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .address = address };

	return gmem_bind(mem, slot, gpa * page(), first * page(), count * page(), &opts);
}

static void check_choice(const char *preset)
{
	struct set set = set_up_slots(preset);
	unsigned char *view = reserve(PAGES), *chosen = map_pages(set.mem, 0, 8, view);
	unsigned char *newest = map_pages(set.mem, 0, PAGES, NULL);

	assert_ptr_not_equal(newest, chosen);
	assert_int_equal(bind_at(set.mem, 0, 0, 2, 4, chosen + 2 * page()), 0);
	assert_ptr_equal(ask(&set, 0, 0, 1).address, chosen + 2 * page());
	assert_int_equal(slot_at(&set, 0).hva, (uintptr_t)chosen + 2 * page());
	assert_int_equal(bind_at(set.mem, 0, 0, 2, 4, chosen + 2 * page()), 0); /* again: nothing */
	assert_int_equal(bind_at(set.mem, 0, 0, 2, 4, NULL), 0);
	bad("gmem_bind", bind_at(set.mem, 0, 0, 2, 4, newest + 2 * page()), -EEXIST, "slot 0x0");
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), -EBUSY);
	tear_down_slots(&set);
	munmap(view, PAGES * page());
}

static void a_memslot_gets_the_mapping_that_is_asked_for(void **state)
{
	(void)state;
	check_choice("6.1");
	check_choice("6.18");
}

static void what_is_no_mapping_of_the_range_is_refused(void **state)
{
	struct gmem_map_opts readonly = { .size = sizeof(readonly), .flags = GMEM_MAP_READONLY };
	struct set set = set_up_slots("6.18");
	unsigned char *whole = map_pages(set.mem, 0, PAGES, NULL), *other = map_pages(set.other, 0, PAGES, NULL);
	void *unwritable;

	(void)state;
	assert_int_equal(gmem_map(set.mem, 0, page(), &unwritable, &readonly), 0);
	bad("gmem_bind", bind_at(set.mem, 0, 0, 2, 4, whole), -EINVAL, "opts->address");
	bad("gmem_bind", bind_at(set.mem, 0, 0, 0, 4, other), -EINVAL, "opts->address");
	bad("gmem_bind", bind_at(set.mem, 0, 0, 0, 1, unwritable), -EINVAL, "opts->address");
	bad("gmem_bind", bind_at(set.mem, 0, 0, 0, 4, &set), -EINVAL, "opts->address");
	assert_int_equal(info_of(set.mem).slots, 0);
	tear_down_slots(&set);
}

/* Places */

static int map_at(struct gmem *mem, uint64_t first, uint64_t count, void *at)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = at };
	void *address = NULL;
	int r = gmem_map(mem, first * page(), count * page(), &address, &opts);

	assert_ptr_equal(address, r < 0 ? NULL : at);
	return r;
}

static void no_mapping_is_put_over_another_memorys(void **state)
{
	struct set set = set_up_slots("6.18");
	unsigned char *view = reserve(2 * PAGES);

	(void)state;
	assert_int_equal(map_at(set.mem, 0, PAGES, view), 0);
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, PAGES), 0);
	view[page()] = 7;
	bad("gmem_map", map_at(set.other, 0, 4, view + page()), -EINVAL, "another memory of this VM");
	bad("gmem_map", map_at(set.mem, 0, 4, view + page()), -EINVAL, "this memory");
	assert_int_equal(view[page()], 7);
	assert_int_equal(map_at(set.other, 0, 4, view + PAGES * page()), 0);
	gmem_unbind(set.mem, 0);
	bad("gmem_map", map_at(set.other, 4, 4, view + page()), -EINVAL, "another memory"); /* still mapped there */
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), 0);
	assert_int_equal(map_at(set.other, 4, 4, view + page()), 0); /* free again */
	tear_down_slots(&set);
	munmap(view, 2 * PAGES * page());
}

static void a_place_whose_mapping_failed_is_free(void **state)
{
	struct set set = set_up_slots(NULL);
	unsigned char *view = reserve(PAGES);

	(void)state;
	inject_arm(2, ENOMEM); /* the allocation, then mmap() */
	assert_int_equal(map_at(set.mem, 0, 4, view), -ENOMEM);
	inject_disarm();
	assert_string_equal(inject_where(), "mmap");
	assert_int_equal(map_at(set.other, 0, 4, view), 0);
	tear_down_slots(&set);
	munmap(view, PAGES * page());
}

static const struct gt_test tests[] = {
	GT(the_next_memslot_is_found, GT_NEEDS_NOTHING),
	GT(address_spaces_are_apart, GT_NEEDS_NOTHING),
	GT(address_and_flags_are_told, GT_NEEDS_NOTHING),
	GT(the_last_bytes_of_the_address_space_end_the_walk, GT_NEEDS_NOTHING),
	GT(bad_questions_are_refused, GT_NEEDS_NOTHING),
	GT(a_memslot_gets_the_mapping_that_is_asked_for, GT_NEEDS_NOTHING),
	GT(what_is_no_mapping_of_the_range_is_refused, GT_NEEDS_NOTHING),
	GT(no_mapping_is_put_over_another_memorys, GT_NEEDS_NOTHING),
	GT(a_place_whose_mapping_failed_is_free, GT_NEEDS_NOTHING),
};

GT_MAIN("slot_query", tests)
