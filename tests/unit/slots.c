/* SPDX-License-Identifier: MIT */
#include "slots.h"

#include <unistd.h>

#include "gt.h"
#include "handles.h"

struct set set_up_slots(const char *preset)
{
	struct set set = { .vm_fd = preset ? fakekvm_vm(fakekvm_preset(preset)) : -1 };

	assert_int_equal(gmem_vm_open(set.vm_fd, &set.vm, NULL), 0);
	set.mem = make_pages(set.vm, PAGES);
	set.other = make_pages(set.vm, PAGES);
	return set;
}

void tear_down_slots(struct set *set)
{
	gmem_destroy(set->mem);
	gmem_destroy(set->other);
	gmem_vm_close(set->vm);
	if (set->vm_fd >= 0) {
		assert_int_equal(slot_count(set->vm_fd), 0);
		close(set->vm_fd);
	}
}

int bind_with(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count, uint64_t flags)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = flags };

	return gmem_bind(mem, slot, gpa * page(), first * page(), count * page(), &opts);
}

int bind_pages(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count)
{
	return bind_with(mem, slot, gpa, first, count, 0);
}

struct fakekvm_slot slot_at(const struct set *set, size_t index)
{
	struct fakekvm_slot slots[8];
	size_t count = fakekvm_slots(set->vm_fd, slots, 8);

	assert_true(index < count && count <= 8);
	return slots[index];
}
