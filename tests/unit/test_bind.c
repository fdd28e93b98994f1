/* SPDX-License-Identifier: MIT */
/* Memslots: what may be bound where. What the kernel is told is in test_bind_kvm.c. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "slots.h"

#define SECOND_SPACE (1u << 16)

/* Rules of the record, the same with a VM and without: each test runs on both. */

static void check_counts(const char *preset)
{
	struct set set = set_up_slots(preset);

	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, 1, 4, 4, 4), 0);
	assert_int_equal(bind_pages(set.other, 2, 8, 0, 4), 0);
	assert_int_equal(info_of(set.mem).slots, 2);
	assert_int_equal(info_of(set.other).slots, 1);
	assert_int_equal(gmem_unbind(set.mem, 0), 0);
	assert_int_equal(info_of(set.mem).slots, 1);
	assert_int_equal(gmem_unbind(set.mem, 0), -ENOENT);
	assert_non_null(strstr(gmem_last_error(), "slot 0x0"));
	assert_int_equal(bind_pages(set.other, 0, 0, 4, 4), 0); /* the number and the addresses are free again */
	tear_down_slots(&set);
}

static void slots_are_counted(void **state)
{
	(void)state;
	check_counts(NULL);
	check_counts("6.1");
	check_counts("6.18");
}

static void check_taken_slot(const char *preset)
{
	struct set set = set_up_slots(preset);

	assert_int_equal(bind_pages(set.mem, 5, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.other, 5, 0, 0, 4), -EEXIST);
	assert_int_equal(bind_pages(set.mem, 5, 32, 0, 4), -EEXIST);
	assert_int_equal(bind_pages(set.mem, 5, 0, 4, 4), -EEXIST);
	assert_int_equal(bind_pages(set.mem, 5, 0, 0, 3), -EEXIST);
	assert_non_null(strstr(gmem_last_error(), "(EEXIST, from the library)"));
	assert_int_equal(gmem_unbind(set.other, 5), -ENOENT);
	assert_int_equal(info_of(set.mem).slots, 1);
	assert_int_equal(info_of(set.other).slots, 0);
	tear_down_slots(&set);
}

static void a_taken_slot_is_not_bound_to_something_else(void **state)
{
	(void)state;
	check_taken_slot(NULL);
	check_taken_slot("6.1");
}

static void check_taken_addresses(const char *preset)
{
	struct set set = set_up_slots(preset);

	assert_int_equal(bind_pages(set.mem, 0, 10, 0, 4), 0);
	for (uint64_t gpa = 7; gpa < 14; gpa++)
		assert_int_equal(bind_pages(set.other, 1, gpa, 0, 4), -EEXIST);
	assert_int_equal(bind_pages(set.mem, 1, 13, 8, 1), -EEXIST);
	assert_non_null(strstr(gmem_last_error(), "overlap"));
	assert_int_equal(bind_pages(set.other, 1, 6, 0, 4), 0);
	assert_int_equal(bind_pages(set.other, 2, 14, 4, 4), 0);
	tear_down_slots(&set);
}

static void taken_guest_addresses_are_not_bound_again(void **state)
{
	(void)state;
	check_taken_addresses(NULL);
	check_taken_addresses("6.1");
}

static void another_address_space_has_addresses_of_its_own(void **state)
{
	struct set set = set_up_slots(NULL);

	(void)state;
	assert_int_equal(bind_pages(set.mem, 3, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, SECOND_SPACE | 3, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, SECOND_SPACE | 4, 2, 8, 4), -EEXIST);
	assert_int_equal(info_of(set.mem).slots, 2);
	tear_down_slots(&set);
}

static void check_same_again(const char *preset)
{
	struct set set = set_up_slots(preset);

	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(info_of(set.mem).slots, 1);
	assert_int_equal(gmem_unbind(set.mem, 0), 0);
	assert_int_equal(gmem_unbind(set.mem, 0), -ENOENT);
	tear_down_slots(&set);
}

static void the_same_again_does_nothing(void **state)
{
	(void)state;
	check_same_again(NULL);
	check_same_again("6.1");
	check_same_again("6.18");
}

static void destroying_memory_frees_its_slots(void **state)
{
	struct set set = set_up_slots("6.1");

	(void)state;
	assert_int_equal(bind_pages(set.mem, 7, 0, 0, 4), 0);
	assert_int_equal(bind_pages(set.mem, 8, 8, 4, 4), 0);
	assert_int_equal(bind_pages(set.other, 9, 32, 0, 4), 0);
	gmem_destroy(set.mem);
	assert_int_equal(slot_count(set.vm_fd), 1);
	assert_int_equal(slot_at(&set, 0).slot, 9);
	set.mem = make_pages(set.vm, PAGES);
	assert_int_equal(bind_pages(set.mem, 7, 0, 0, 4), 0);
	tear_down_slots(&set);
}

/* The caller knows nothing of the mapping that the library made for the memslot. */
static void what_was_mapped_beside_a_memslot_can_be_unmapped(void **state)
{
	struct set set = set_up_slots(NULL);
	void *address;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, PAGES), 0);
	assert_int_equal(gmem_map(set.mem, page(), 2 * page(), &address, NULL), 0);
	assert_int_equal(gmem_unbind(set.mem, 0), 0);
	*(unsigned char *)address = 1; /* it stays what it was told to be */
	assert_int_equal(gmem_unmap(set.mem, page(), 2 * page()), 0);
	tear_down_slots(&set);
}

struct many {
	struct gmem *mem;
	pthread_barrier_t start;
	unsigned int me;
	int errors;
};

static void *bind_own(void *arg)
{
	struct many *many = arg;
	unsigned int me = __atomic_fetch_add(&many->me, 1, __ATOMIC_RELAXED);
	int errors = 0;

	pthread_barrier_wait(&many->start);
	for (unsigned int i = 0; i < 50; i++) {
		errors += bind_pages(many->mem, me, me * 4, me * 4, 4) != 0;
		errors += bind_pages(many->mem, me, 64, 0, 1) != -EEXIST;
		errors += gmem_unbind(many->mem, me) != 0;
	}
	__atomic_fetch_add(&many->errors, errors, __ATOMIC_RELAXED);
	return NULL;
}

static void threads_bind_slots_of_their_own(void **state)
{
	struct set set = set_up_slots("6.1");
	struct many many = { .mem = set.mem };
	pthread_t threads[4];

	(void)state;
	assert_int_equal(pthread_barrier_init(&many.start, NULL, 4), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, bind_own, &many), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(many.errors, 0);
	assert_int_equal(info_of(set.mem).slots, 0);
	pthread_barrier_destroy(&many.start);
	tear_down_slots(&set);
}

static const struct gt_test tests[] = {
	GT(slots_are_counted, GT_NEEDS_NOTHING),
	GT(a_taken_slot_is_not_bound_to_something_else, GT_NEEDS_NOTHING),
	GT(taken_guest_addresses_are_not_bound_again, GT_NEEDS_NOTHING),
	GT(another_address_space_has_addresses_of_its_own, GT_NEEDS_NOTHING),
	GT(the_same_again_does_nothing, GT_NEEDS_NOTHING),
	GT(destroying_memory_frees_its_slots, GT_NEEDS_NOTHING),
	GT(what_was_mapped_beside_a_memslot_can_be_unmapped, GT_NEEDS_NOTHING),
	GT(threads_bind_slots_of_their_own, GT_NEEDS_NOTHING),
};

GT_MAIN("bind", tests)
