/* SPDX-License-Identifier: MIT */
/* Memslots, as the stand-in kernel is told of them and as it refuses them. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "slots.h"
#include "uapi/kvm.h"

static void a_memslot_shows_a_mapping_of_its_range(void **state)
{
	struct set set = set_up_slots("6.1");
	struct fakekvm_slot slot;
	void *address;

	(void)state;
	assert_int_equal(gmem_map(set.mem, 2 * page(), 8 * page(), &address, NULL), 0);
	assert_int_equal(bind_pages(set.mem, 9, 32, 4, 3), 0);
	slot = slot_at(&set, 0);
	assert_int_equal(slot.slot, 9);
	assert_int_equal(slot.flags, 0);
	assert_int_equal(slot.gpa, 32 * page());
	assert_int_equal(slot.size, 3 * page());
	assert_int_equal(slot.hva, (uintptr_t)address + 2 * page()); /* the mapping that was there */
	assert_int_equal(slot.file, 0);
	tear_down_slots(&set);
}

static void a_mapping_is_made_for_a_memslot_that_has_none(void **state)
{
	struct set set = set_up_slots("6.1");
	void *address;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 4, 3), 0);
	assert_int_equal(gmem_map(set.mem, 4 * page(), 3 * page(), &address, NULL), 0);
	assert_int_equal(slot_at(&set, 0).hva, (uintptr_t)address);
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), -EBUSY);
	assert_int_equal(gmem_unbind(set.mem, 0), 0);
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), 0);
	tear_down_slots(&set);
}

static void a_guest_memfd_is_bound_to_its_file(void **state)
{
	struct set set = set_up_slots("6.18");
	struct fakekvm_slot slot;
	void *address;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 4, 3), 0);
	assert_int_equal(gmem_map(set.mem, 4 * page(), 3 * page(), &address, NULL), 0);
	slot = slot_at(&set, 0);
	assert_int_equal(slot.flags, KVMI_MEM_GUEST_MEMFD);
	assert_int_not_equal(slot.file, 0);
	assert_int_equal(slot.offset, 4 * page());
	assert_int_equal(slot.hva, (uintptr_t)address); /* KVM reads page tables' contents there: it must be the same range */
	tear_down_slots(&set);
}

static void flags_make_a_plain_memslot_of_a_guest_memfd(void **state)
{
	struct set set = set_up_slots("6.18");

	(void)state;
	assert_int_equal(bind_with(set.mem, 0, 0, 0, 2, GMEM_BIND_DIRTY_LOG), 0);
	assert_int_equal(bind_with(set.mem, 1, 8, 4, 2, GMEM_BIND_READONLY), 0);
	assert_int_equal(bind_with(set.mem, 2, 16, 4, 2, GMEM_BIND_PLAIN), 0);
	assert_int_equal(slot_at(&set, 0).flags, KVMI_MEM_LOG_DIRTY_PAGES);
	assert_int_equal(slot_at(&set, 1).flags, KVMI_MEM_READONLY);
	assert_int_equal(slot_at(&set, 2).flags, 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(slot_at(&set, i).file, 0);
	assert_int_equal(bind_with(set.mem, 2, 16, 4, 2, GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG), 0);
	assert_int_equal(slot_at(&set, 2).flags, KVMI_MEM_LOG_DIRTY_PAGES);
	assert_int_equal(bind_with(set.mem, 2, 16, 4, 2, GMEM_BIND_PLAIN), 0);
	assert_int_equal(slot_at(&set, 2).flags, 0);
	tear_down_slots(&set);
}

static void a_range_of_a_guest_memfd_is_bound_once(void **state)
{
	static const char *const presets[] = { "6.18", "7.3" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct set set = set_up_slots(presets[i]);

		assert_int_equal(bind_pages(set.mem, 0, 0, 4, 4), 0);
		assert_int_equal(bind_pages(set.mem, 1, 32, 7, 2), -EEXIST);
		assert_non_null(strstr(gmem_last_error(), "slot 0x0"));
		assert_int_equal(bind_pages(set.mem, 1, 32, 8, 2), 0);
		assert_int_equal(bind_pages(set.other, 2, 64, 4, 4), 0);
		assert_int_equal(bind_with(set.mem, 3, 96, 4, 4, GMEM_BIND_PLAIN), 0); /* through the mapping it may be */
		tear_down_slots(&set);
		fakekvm_disable();
	}
}

static void a_range_of_a_memfd_is_bound_as_often_as_wanted(void **state)
{
	struct set set = set_up_slots("6.1");

	(void)state;
	for (uint32_t slot = 0; slot < 4; slot++)
		assert_int_equal(bind_pages(set.mem, slot, slot * 4, 0, 4), 0);
	assert_int_equal(slot_at(&set, 3).hva, slot_at(&set, 0).hva);
	tear_down_slots(&set);
}

static void flags_are_changed_in_place(void **state)
{
	struct set set = set_up_slots("6.1");

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(bind_with(set.mem, 0, 0, 0, 4, GMEM_BIND_DIRTY_LOG), 0);
	assert_int_equal(slot_at(&set, 0).flags, KVMI_MEM_LOG_DIRTY_PAGES);
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(slot_at(&set, 0).flags, 0);
	assert_int_equal(info_of(set.mem).slots, 1);
	tear_down_slots(&set);
}

static void other_flags_cannot_change(void **state)
{
	struct set set = set_up_slots("6.18");
	unsigned int asked;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	assert_int_equal(bind_with(set.mem, 1, 8, 4, 4, GMEM_BIND_PLAIN), 0);
	asked = fakekvm_calls("KVM_SET_USER_MEMORY_REGION") + fakekvm_calls("KVM_SET_USER_MEMORY_REGION2");
	assert_int_equal(bind_with(set.mem, 0, 0, 0, 4, GMEM_BIND_DIRTY_LOG), -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), "GMEM_BIND_PLAIN"));
	assert_int_equal(bind_with(set.mem, 1, 8, 4, 4, GMEM_BIND_PLAIN | GMEM_BIND_READONLY), -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), "slot 0x1"));
	assert_int_equal(fakekvm_calls("KVM_SET_USER_MEMORY_REGION") + fakekvm_calls("KVM_SET_USER_MEMORY_REGION2"), asked);
	assert_int_equal(slot_at(&set, 0).flags, KVMI_MEM_GUEST_MEMFD);
	assert_int_equal(slot_at(&set, 1).flags, 0);
	tear_down_slots(&set);
}

static void a_switch_that_kvm_refuses_changes_nothing(void **state)
{
	struct set set = set_up_slots("6.1");
	unsigned int asked;

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	fakekvm_script("KVM_SET_USER_MEMORY_REGION", ENOMEM, 1, 0);
	assert_int_equal(bind_with(set.mem, 0, 0, 0, 4, GMEM_BIND_DIRTY_LOG), -ENOMEM);
	asked = fakekvm_calls("KVM_SET_USER_MEMORY_REGION");
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0); /* the record has not changed: nothing to do */
	assert_int_equal(fakekvm_calls("KVM_SET_USER_MEMORY_REGION"), asked);
	assert_int_equal(slot_at(&set, 0).flags, 0);
	assert_int_equal(bind_with(set.mem, 0, 0, 0, 4, GMEM_BIND_DIRTY_LOG), 0);
	assert_int_equal(slot_at(&set, 0).flags, KVMI_MEM_LOG_DIRTY_PAGES);
	tear_down_slots(&set);
}

static void check_refused_bind(const char *preset, const char *call, int error)
{
	struct set set = set_up_slots(preset);

	fakekvm_script(call, error, 1, 0);
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), -error);
	assert_non_null(strstr(gmem_last_error(), call));
	assert_non_null(strstr(gmem_last_error(), "from the kernel"));
	assert_int_equal(info_of(set.mem).slots, 0);
	assert_int_equal(gmem_unbind(set.mem, 0), -ENOENT);
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), 0); /* nothing is held */
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	tear_down_slots(&set);
}

static void a_refused_memslot_leaves_no_record(void **state)
{
	(void)state;
	check_refused_bind("6.1", "KVM_SET_USER_MEMORY_REGION", EINVAL);
	check_refused_bind("6.1", "KVM_SET_USER_MEMORY_REGION", EEXIST);
	check_refused_bind("6.1", "KVM_SET_USER_MEMORY_REGION", ENOMEM);
	check_refused_bind("6.18", "KVM_SET_USER_MEMORY_REGION2", EIO);
}

static void check_failing_unbind(const char *preset)
{
	struct set set = set_up_slots(preset);

	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	fakekvm_script("KVM_SET_USER_MEMORY_REGION", ENOMEM, 1, 0);
	assert_int_equal(gmem_unbind(set.mem, 0), -ENOMEM);
	assert_int_equal(info_of(set.mem).slots, 1);
	assert_int_equal(gmem_unmap(set.mem, 0, PAGES * page()), -EBUSY);
	assert_int_equal(gmem_unbind(set.mem, 0), 0);
	tear_down_slots(&set);
}

static void a_memslot_that_cannot_be_deleted_stays(void **state)
{
	(void)state;
	check_failing_unbind("6.1");
	check_failing_unbind("6.18");
}

static void a_memslot_that_the_program_deleted_does_not_disturb_the_end(void **state)
{
	struct set set = set_up_slots("6.1");

	(void)state;
	assert_int_equal(bind_pages(set.mem, 0, 0, 0, 4), 0);
	fakekvm_script("KVM_SET_USER_MEMORY_REGION", EINVAL, 1, 0);
	gmem_destroy(set.mem); /* the leak check of every test says whether the mapping went */
	assert_int_equal(fakekvm_calls("KVM_SET_USER_MEMORY_REGION"), 2);
	gmem_destroy(set.other);
	gmem_vm_close(set.vm);
	close(set.vm_fd);
}

static const struct gt_test tests[] = {
	GT(a_memslot_shows_a_mapping_of_its_range, GT_NEEDS_NOTHING),
	GT(a_mapping_is_made_for_a_memslot_that_has_none, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_is_bound_to_its_file, GT_NEEDS_NOTHING),
	GT(flags_make_a_plain_memslot_of_a_guest_memfd, GT_NEEDS_NOTHING),
	GT(flags_are_changed_in_place, GT_NEEDS_NOTHING),
	GT(other_flags_cannot_change, GT_NEEDS_NOTHING),
	GT(a_switch_that_kvm_refuses_changes_nothing, GT_NEEDS_NOTHING),
	GT(a_range_of_a_guest_memfd_is_bound_once, GT_NEEDS_NOTHING),
	GT(a_range_of_a_memfd_is_bound_as_often_as_wanted, GT_NEEDS_NOTHING),
	GT(a_refused_memslot_leaves_no_record, GT_NEEDS_NOTHING),
	GT(a_memslot_that_cannot_be_deleted_stays, GT_NEEDS_NOTHING),
	GT(a_memslot_that_the_program_deleted_does_not_disturb_the_end, GT_NEEDS_NOTHING),
};

GT_MAIN("bind_kvm", tests)
