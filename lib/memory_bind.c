/* SPDX-License-Identifier: MIT */
/* Memslots. The table is the VM's, since a slot number is: vm->slots, under vm->slots_lock. */
#include "memory.h"

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"
#include "uapi/kvm.h"

#define ADDRESS_SPACE_SHIFT 16

struct gmemi_slot {
	struct gmemi_slot *next;
	struct gmem *mem;
	struct gmemi_mapping *mapping; /* NULL for memory that cannot be mapped */
	const void *address; /* asked for; NULL = whatever mapping there is */
	uint64_t gpa, offset, length;
	uint32_t number;
	uint32_t flags; /* KVMI_MEM_* */
};

static uint32_t kvm_flags(uint64_t flags)
{
	return (flags & GMEM_BIND_READONLY ? KVMI_MEM_READONLY : 0) | (flags & GMEM_BIND_DIRTY_LOG ? KVMI_MEM_LOG_DIRTY_PAGES : 0);
}

/* Guest faults on a memslot bound to its file never reach a pager, and KVM takes no other flag there; private memory has no
 * other way, and leaves it to KVM to say so. */
static uint32_t flags_for(const struct gmem *mem, uint64_t flags)
{
	bool plain = (flags || mem->need & GMEM_NEED_LAZY) && !(mem->need & GMEM_NEED_PRIVATE); /* GMEM_BIND_PLAIN is a flag too */

	return kvm_flags(flags) | (mem->backing == GMEM_BACKING_GUEST_MEMFD && !plain ? KVMI_MEM_GUEST_MEMFD : 0);
}

static unsigned char *address_of(const struct gmemi_slot *slot)
{
	return slot->mapping ? gmemi_mapping_at(slot->mapping, slot->offset) : NULL;
}

static int tell_kvm(const struct gmemi_slot *slot, uint64_t length)
{
	const struct gmem *mem = slot->mem;
	struct kvmi_userspace_memory_region2 region = {
		.slot = slot->number,
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = length,
		.userspace_addr = (uintptr_t)address_of(slot),
	};

	if (mem->vm->fd < 0)
		return 0;
	if (!(slot->flags & KVMI_MEM_GUEST_MEMFD)) /* the old call: every kernel has it */
		return gmemi_sys_ioctl(mem->vm->fd, KVMI_SET_USER_MEMORY_REGION, &region);
	region.guest_memfd = (uint32_t)mem->fd;
	region.guest_memfd_offset = slot->offset;
	return gmemi_sys_ioctl(mem->vm->fd, KVMI_SET_USER_MEMORY_REGION2, &region);
}

static int delete_slot(struct gmemi_slot *slot)
{
	slot->flags &= ~KVMI_MEM_GUEST_MEMFD;
	return tell_kvm(slot, 0);
}

static struct gmemi_slot *find(struct gmem_vm *vm, uint32_t number)
{
	struct gmemi_slot *slot = vm->slots;

	while (slot && slot->number != number)
		slot = slot->next;
	return slot;
}

static bool same_addresses(const struct gmemi_slot *a, const struct gmemi_slot *b)
{
	return a->number >> ADDRESS_SPACE_SHIFT == b->number >> ADDRESS_SPACE_SHIFT &&
	       gmemi_range_overlaps(a->gpa, a->length, b->gpa, b->length);
}

/* KVM lets a page of a guest_memfd be in one memslot only; up to 6.18 it says EINVAL, later EEXIST. */
static bool same_file_range(const struct gmemi_slot *a, const struct gmemi_slot *b)
{
	return a->mem == b->mem && a->flags & b->flags & KVMI_MEM_GUEST_MEMFD &&
	       gmemi_range_overlaps(a->offset, a->length, b->offset, b->length);
}

static int check_overlap(const struct gmemi_slot *wanted)
{
	for (struct gmemi_slot *slot = wanted->mem->vm->slots; slot; slot = slot->next) {
		if (same_addresses(slot, wanted))
			return gmemi_refuse(-EEXIST, "guest addresses from 0x%llx on overlap those of slot 0x%x",
					    (unsigned long long)wanted->gpa, slot->number);
		if (same_file_range(slot, wanted))
			return gmemi_refuse(-EEXIST, "part of the range is bound already, by slot 0x%x: a guest_memfd can be bound once",
					    slot->number);
	}
	return 0;
}

static int hold_mapping(struct gmemi_slot *slot)
{
	if (slot->address)
		return gmemi_mapping_hold_at(slot->mem, slot->offset, slot->length, slot->address, &slot->mapping);
	if (!gmemi_memory_mappable(slot->mem) && slot->flags & KVMI_MEM_GUEST_MEMFD)
		return 0;
	return gmemi_mapping_hold(slot->mem, slot->offset, slot->length, &slot->mapping);
}

static void drop_mapping(struct gmemi_slot *slot)
{
	if (slot->mapping)
		gmemi_mapping_drop(slot->mem, slot->mapping);
}

static int establish(struct gmemi_slot *slot)
{
	int r = hold_mapping(slot);

	if (r < 0)
		return r;
	gmemi_memory_expose(slot->mem);
	r = tell_kvm(slot, slot->length);
	if (r == 0)
		return 0;
	drop_mapping(slot);
	return gmemi_failed(r < 0 ? r : -EIO,
			    slot->flags & KVMI_MEM_GUEST_MEMFD ? "KVM_SET_USER_MEMORY_REGION2" : "KVM_SET_USER_MEMORY_REGION",
			    "a memslot of the program's own there, a slot number or gpa beyond KVM's, or a range bound already?");
}

static int bind_new(const struct gmemi_slot *wanted)
{
	struct gmem_vm *vm = wanted->mem->vm;
	struct gmemi_slot *slot;
	int r = check_overlap(wanted);

	if (r < 0)
		return r;
	slot = gmemi_alloc(1, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	*slot = *wanted;
	r = establish(slot);
	if (r < 0) {
		gmemi_free(slot);
		return r;
	}
	slot->next = vm->slots;
	vm->slots = slot;
	atomic_fetch_add(&slot->mem->slots, 1);
	return 0;
}

static bool is_same_place(const struct gmemi_slot *slot, const struct gmemi_slot *wanted)
{
	return slot->mem == wanted->mem && slot->gpa == wanted->gpa && slot->offset == wanted->offset &&
	       slot->length == wanted->length && (!wanted->address || address_of(slot) == wanted->address);
}

/* What KVM cannot do to a memslot that is there. */
static int check_change(const struct gmemi_slot *slot, uint32_t change)
{
	if ((slot->flags | change) & KVMI_MEM_GUEST_MEMFD)
		return gmemi_refuse(-EOPNOTSUPP, "slot 0x%x %s the guest_memfd itself: nothing of that can change while it is bound, "
				    "and dirty logging needs GMEM_BIND_PLAIN", slot->number,
				    slot->flags & KVMI_MEM_GUEST_MEMFD ? "is bound to" : "is plain, not bound to");
	if (change & ~KVMI_MEM_LOG_DIRTY_PAGES)
		return gmemi_refuse(-EOPNOTSUPP, "KVM changes only dirty logging of slot 0x%x: unbind it first", slot->number);
	return 0;
}

/* The same place again: KVM switches dirty logging, of a plain memslot, and nothing else. */
static int bind_again(struct gmemi_slot *slot, const struct gmemi_slot *wanted)
{
	uint32_t change = slot->flags ^ wanted->flags;
	int r;

	if (!is_same_place(slot, wanted))
		return gmemi_refuse(-EEXIST, "slot 0x%x is bound to something else: unbind it first", slot->number);
	if (!change)
		return 0;
	r = check_change(slot, change);
	if (r < 0)
		return r;
	slot->flags ^= change;
	r = tell_kvm(slot, slot->length);
	if (r == 0)
		return 0;
	slot->flags ^= change;
	return gmemi_failed(r < 0 ? r : -EIO, "switching dirty logging", NULL);
}

static int bind_locked(const struct gmemi_slot *wanted)
{
	struct gmem_vm *vm = wanted->mem->vm;
	struct gmemi_slot *there;
	int r;

	pthread_mutex_lock(&vm->slots_lock);
	there = find(vm, wanted->number);
	r = there ? bind_again(there, wanted) : bind_new(wanted);
	pthread_mutex_unlock(&vm->slots_lock);
	return r;
}

static int check_bind(struct gmem *mem, uint64_t gpa, uint64_t offset, uint64_t length, uint64_t flags)
{
	int r = gmemi_opts_flags(flags, GMEM_BIND_READONLY | GMEM_BIND_DIRTY_LOG | GMEM_BIND_PLAIN, "opts->flags");

	if (r == 0) /* KVM's pages, which may be smaller than the memory's */
		r = gmemi_range_check(offset, length, gmemi_sys_page_size(), mem->length);
	if (r < 0)
		return r;
	if (!gmemi_aligned(gpa, gmemi_sys_page_size()))
		return gmemi_refuse(-EINVAL, "gpa 0x%llx is not a multiple of the page size", (unsigned long long)gpa);
	if (length > UINT64_MAX - gpa)
		return gmemi_refuse(-EINVAL, "gpa 0x%llx + length wraps around", (unsigned long long)gpa);
	return 0;
}

int gmem_bind(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t length, const struct gmem_bind_opts *opts)
{
	struct gmem_bind_opts o;
	struct gmemi_slot wanted;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_bind(mem, gpa, offset, length, o.flags);
	if (r < 0)
		return r;
	wanted = (struct gmemi_slot){
		.mem = mem,
		.address = o.address,
		.gpa = gpa,
		.offset = offset,
		.length = length,
		.number = slot,
		.flags = flags_for(mem, o.flags),
	};
	return bind_locked(&wanted);
}

static void forget(struct gmem_vm *vm, struct gmemi_slot *slot)
{
	struct gmemi_slot **link = &vm->slots;

	while (*link != slot)
		link = &(*link)->next;
	*link = slot->next;
	atomic_fetch_sub(&slot->mem->slots, 1);
	gmemi_free(slot);
}

static int unbind(struct gmem *mem, uint32_t number)
{
	struct gmemi_slot *slot = find(mem->vm, number);
	uint32_t flags;
	int r;

	if (!slot || slot->mem != mem)
		return gmemi_refuse(-ENOENT, "this memory is not bound to slot 0x%x", number);
	flags = slot->flags;
	r = delete_slot(slot);
	if (r != 0 && r != -EINVAL) { /* EINVAL: the program deleted it itself */
		slot->flags = flags;
		return gmemi_failed(r < 0 ? r : -EIO, "deleting the memslot", NULL);
	}
	drop_mapping(slot);
	forget(mem->vm, slot);
	return 0;
}

int gmem_unbind(struct gmem *mem, uint32_t slot)
{
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r < 0)
		return r;
	pthread_mutex_lock(&mem->vm->slots_lock);
	r = unbind(mem, slot);
	pthread_mutex_unlock(&mem->vm->slots_lock);
	return r;
}

/* Of an address space: the memslot that has gpa, or else the next one above. */
static const struct gmemi_slot *next_slot(const struct gmem_vm *vm, uint32_t address_space, uint64_t gpa)
{
	const struct gmemi_slot *best = NULL;

	for (const struct gmemi_slot *slot = vm->slots; slot; slot = slot->next) {
		bool ends_above = slot->gpa > gpa || gpa - slot->gpa < slot->length;

		if (slot->number >> ADDRESS_SPACE_SHIFT == address_space && ends_above && (!best || slot->gpa < best->gpa))
			best = slot;
	}
	return best;
}

static uint64_t flags_of(const struct gmemi_slot *slot)
{
	bool plain = slot->mem->backing == GMEM_BACKING_GUEST_MEMFD && !(slot->flags & KVMI_MEM_GUEST_MEMFD);

	return (slot->flags & KVMI_MEM_READONLY ? GMEM_BIND_READONLY : 0) |
	       (slot->flags & KVMI_MEM_LOG_DIRTY_PAGES ? GMEM_BIND_DIRTY_LOG : 0) | (plain ? GMEM_BIND_PLAIN : 0);
}

static struct gmem_slot_info describe(const struct gmemi_slot *slot)
{
	return (struct gmem_slot_info){
		.gpa = slot->gpa,
		.length = slot->length,
		.offset = slot->offset,
		.mem = slot->mem,
		.address = address_of(slot),
		.flags = flags_of(slot),
		.slot = slot->number,
	};
}

int gmem_query_slot(struct gmem_vm *vm, uint32_t address_space, uint64_t gpa, struct gmem_slot_info *info)
{
	const struct gmemi_slot *slot;
	struct gmem_slot_info found;
	int r;

	GMEMI_CALL();
	r = gmemi_vm_check(vm);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->slots_lock);
	slot = next_slot(vm, address_space, gpa);
	if (slot)
		found = describe(slot);
	pthread_mutex_unlock(&vm->slots_lock);
	if (slot)
		gmemi_info_out(info, &found, sizeof(found));
	return slot != NULL;
}

struct gmemi_bound gmemi_slot_at(struct gmem *mem, uint64_t offset, uint64_t *length)
{
	struct gmemi_bound found = { 0 };
	struct gmemi_slot *slot;

	pthread_mutex_lock(&mem->vm->slots_lock);
	for (slot = mem->vm->slots; slot && !found.length; slot = slot->next) {
		if (slot->mem != mem || slot->number >> ADDRESS_SPACE_SHIFT)
			continue;
		if (gmemi_range_contains(slot->offset, slot->length, offset, 1))
			found = (struct gmemi_bound){ slot->gpa + (offset - slot->offset), slot->offset + slot->length - offset };
		else if (slot->offset > offset)
			*length = gmemi_min(*length, slot->offset - offset);
	}
	pthread_mutex_unlock(&mem->vm->slots_lock);
	return found;
}

static void lock_slots(struct gmem_vm *vm)
{
	if (!gmemi_vm_forked(vm))
		pthread_mutex_lock(&vm->slots_lock);
}

static void unlock_slots(struct gmem_vm *vm)
{
	if (!gmemi_vm_forked(vm))
		pthread_mutex_unlock(&vm->slots_lock);
}

/* A VM that is dead, or not this process's (a forked child), cannot run on the mapping any more; a slot that the program
 * deleted itself is gone. Anything else: the guest may still run on it. */
static bool may_run_on(struct gmemi_slot *slot)
{
	int r = gmemi_vm_forked(slot->mem->vm) ? 0 : delete_slot(slot);

	return r != 0 && r != -EIO && r != -EINVAL;
}

/* How many of them cannot be deleted. */
static unsigned int delete_all(struct gmem *mem)
{
	struct gmemi_slot *slot, *next;
	unsigned int stuck = 0;

	for (slot = mem->vm->slots; slot; slot = next) {
		next = slot->next;
		if (slot->mem != mem)
			continue;
		if (may_run_on(slot))
			stuck++;
		else if (slot->mapping)
			slot->mapping->users--; /* without its lock: whoever destroys the memory has it alone */
		forget(mem->vm, slot);
	}
	return stuck;
}

void gmemi_slots_end(struct gmem *mem)
{
	unsigned int stuck;

	lock_slots(mem->vm);
	stuck = delete_all(mem);
	unlock_slots(mem->vm);
	if (stuck)
		gmemi_note(GMEM_LOG_ERROR, "%s: %u memslots cannot be deleted: their mappings are left in place", gmemi_entered(), stuck);
}
