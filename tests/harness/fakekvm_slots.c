/* SPDX-License-Identifier: MIT */
/* Memslots: the checks are in the order in which KVM makes them, because a probe relies on it. */
#include <string.h>

#include "fakekvm_int.h"

#define MOST_PAGES ((UINT64_C(1) << 31) - 1)
#define V1_FLAGS (KVMI_MEM_LOG_DIRTY_PAGES | KVMI_MEM_READONLY)
#define FIXED_FLAGS (KVMI_MEM_READONLY | KVMI_MEM_GUEST_MEMFD) /* cannot be changed in an existing memslot */

typedef struct kvmi_userspace_memory_region2 region;

/* KVM makes no read-only and no dirty-logged memslots of guest_memfds. */
static bool flags_allowed(const struct fake_object *vm, uint32_t flags)
{
	uint32_t allowed = vm->config->slot_flags;

	if (flags & KVMI_MEM_GUEST_MEMFD)
		allowed &= ~V1_FLAGS;
	return !(flags & ~allowed);
}

static bool aligned(uint64_t value)
{
	return !(value & (fake_page() - 1));
}

static bool numbers_allowed(const struct fake_object *vm, const region *r)
{
	if (!aligned(r->memory_size) || !aligned(r->guest_phys_addr) || !aligned(r->userspace_addr) || r->userspace_addr >> 63)
		return false;
	if ((r->flags & KVMI_MEM_GUEST_MEMFD) &&
	    (!aligned(r->guest_memfd_offset) || r->guest_memfd_offset + r->memory_size < r->guest_memfd_offset))
		return false;
	if (r->slot >> 16 >= vm->config->address_spaces || (r->slot & 0xffff) >= (uint32_t)fake_cap(vm, KVMI_CAP_NR_MEMSLOTS))
		return false;
	return r->guest_phys_addr + r->memory_size >= r->guest_phys_addr && r->memory_size / fake_page() <= MOST_PAGES;
}

static struct fakekvm_slot *find_slot(const struct fake_object *vm, uint32_t id)
{
	for (size_t i = 0; i < vm->slots.count; i++)
		if (vm->slots.list[i].slot == id)
			return &vm->slots.list[i];
	return NULL;
}

static bool overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

static bool gpa_taken(const struct fake_object *vm, const region *r)
{
	for (size_t i = 0; i < vm->slots.count; i++) {
		const struct fakekvm_slot *slot = &vm->slots.list[i];

		if (slot->slot != r->slot && slot->slot >> 16 == r->slot >> 16 &&
		    overlaps(slot->gpa, slot->size, r->guest_phys_addr, r->memory_size))
			return true;
	}
	return false;
}

static bool file_range_taken(const struct fake_object *vm, uint64_t file, const region *r)
{
	for (size_t i = 0; i < vm->slots.count; i++) {
		const struct fakekvm_slot *slot = &vm->slots.list[i];

		if (slot->file == file && overlaps(slot->offset, slot->size, r->guest_memfd_offset, r->memory_size))
			return true;
	}
	return false;
}

/* *file: the inode, 0 for a plain memslot. */
static long find_file(const struct fake_object *vm, const region *r, uint64_t *file)
{
	struct fake_object *gmem;
	struct stat about;

	*file = 0;
	if (!(r->flags & KVMI_MEM_GUEST_MEMFD))
		return 0;
	if (__real_fstat((int)r->guest_memfd, &about))
		return -EBADF;
	gmem = fake_find((int)r->guest_memfd);
	if (!gmem || gmem->kind != FAKE_GMEM || gmem->vm != vm)
		return -EINVAL;
	if (vm->config->bind_mappable && !(gmem->flags & KVMI_GUEST_MEMFD_MMAP))
		return -EINVAL;
	if (r->guest_memfd_offset + r->memory_size > gmem->size)
		return -EINVAL;
	*file = gmem->inode;
	return file_range_taken(vm, gmem->inode, r) ? -vm->config->overlap_error : 0;
}

static struct fakekvm_slot *new_slot(struct fake_slots *slots)
{
	struct fakekvm_slot *list;

	if (slots->count == slots->room) {
		slots->room = slots->room * 2 + 8;
		list = __real_calloc(slots->room, sizeof(*list));
		if (!list)
			fake_misused("no memory for memslots");
		if (slots->count)
			memcpy(list, slots->list, slots->count * sizeof(*list));
		__real_free(slots->list);
		slots->list = list;
	}
	return &slots->list[slots->count++];
}

static long create(struct fake_object *vm, const region *r)
{
	struct fakekvm_slot *slot;
	uint64_t file;
	long error;

	if (gpa_taken(vm, r))
		return -EEXIST;
	error = find_file(vm, r, &file);
	if (error)
		return error;
	slot = new_slot(&vm->slots);
	*slot = (struct fakekvm_slot){ r->slot, r->flags, r->guest_phys_addr, r->memory_size, r->userspace_addr, file, 0 };
	slot->offset = file ? r->guest_memfd_offset : 0;
	return 0;
}

/* Only the flags and the guest address of a plain memslot can change. */
static long change(const struct fake_object *vm, struct fakekvm_slot *slot, const region *r)
{
	if ((r->flags & KVMI_MEM_GUEST_MEMFD) || ((r->flags ^ slot->flags) & FIXED_FLAGS))
		return -EINVAL;
	if (r->userspace_addr != slot->hva || r->memory_size != slot->size)
		return -EINVAL;
	if (r->guest_phys_addr != slot->gpa && gpa_taken(vm, r))
		return -EEXIST;
	slot->gpa = r->guest_phys_addr;
	slot->flags = r->flags;
	return 0;
}

static void delete_slot(struct fake_slots *slots, struct fakekvm_slot *slot)
{
	size_t after = (size_t)(slots->list + slots->count - slot) - 1;

	memmove(slot, slot + 1, after * sizeof(*slot));
	slots->count--;
}

static long set_region(struct fake_object *vm, const region *r)
{
	struct fakekvm_slot *slot;

	if (!flags_allowed(vm, r->flags) || !numbers_allowed(vm, r))
		return -EINVAL;
	slot = find_slot(vm, r->slot);
	if (r->memory_size)
		return slot ? change(vm, slot, r) : create(vm, r);
	if (!slot)
		return -EINVAL;
	delete_slot(&vm->slots, slot);
	return 0;
}

long fake_set_region2(struct fake_object *vm, void *argument)
{
	return set_region(vm, argument);
}

/* The older structure is the beginning of the newer one. */
long fake_set_region(struct fake_object *vm, void *argument)
{
	region r = { 0 };

	memcpy(&r, argument, 32);
	return r.flags & ~V1_FLAGS ? -EINVAL : set_region(vm, &r);
}

const struct fakekvm_slot *fake_slot_at(const struct fake_object *vm, uint64_t gpa)
{
	for (size_t i = 0; i < vm->slots.count; i++)
		if (overlaps(vm->slots.list[i].gpa, vm->slots.list[i].size, gpa, 1))
			return &vm->slots.list[i];
	return NULL;
}

size_t fakekvm_slots(int vm_fd, struct fakekvm_slot *slots, size_t room)
{
	const struct fake_object *vm;
	size_t count;

	fake_lock();
	vm = fake_vm_of(vm_fd);
	count = vm->slots.count;
	if (count && room)
		memcpy(slots, vm->slots.list, (count < room ? count : room) * sizeof(*slots));
	fake_unlock();
	return count;
}
