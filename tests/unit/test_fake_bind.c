/* SPDX-License-Identifier: MIT */
/* Memslots as KVM received them. Their lives and ends are in test_fake_bind_end.c. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define LENGTH (4 * MIB)
#define MOST_SLOTS 8

#define OLD "KVM_SET_USER_MEMORY_REGION"
#define NEW "KVM_SET_USER_MEMORY_REGION2"

struct world {
	int fd;
	struct gmem_vm *vm;
	struct fakekvm_slot slots[MOST_SLOTS];
	unsigned int old_calls, new_calls;
};

static struct world enter(const char *preset)
{
	struct world world = { 0 };

	fakekvm_enable(fakekvm_preset(preset));
	world.fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(world.fd, &world.vm, NULL), 0);
	return world;
}

static size_t slot_count(const struct world *world)
{
	struct fakekvm_slot first;

	return fakekvm_slots(world->fd, &first, 1);
}

static void leave(struct world *world)
{
	gmem_vm_close(world->vm);
	assert_int_equal(slot_count(world), 0);
	close(world->fd);
	fakekvm_disable();
}

static struct gmem *make(struct world *world, uint64_t need, uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };
	struct gmem *mem;

	assert_int_equal(gmem_create(world->vm, LENGTH, &mem, &opts), 0);
	world->old_calls = fakekvm_calls(OLD);
	world->new_calls = fakekvm_calls(NEW);
	return mem;
}

static int bind(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = flags };

	return gmem_bind(mem, slot, gpa, offset, length, &opts);
}

/* The only memslot there is. */
static struct fakekvm_slot only_slot(struct world *world)
{
	assert_int_equal(fakekvm_slots(world->fd, world->slots, MOST_SLOTS), 1);
	return world->slots[0];
}

static uint32_t bound(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info.slots;
}

static uint64_t inode(const struct gmem *mem, enum gmem_fd_kind kind)
{
	struct stat about;

	assert_int_equal(fstat(gmem_get_fd(mem, kind), &about), 0);
	return about.st_ino;
}

static void expect_calls(const struct world *world, unsigned int old, unsigned int new)
{
	assert_int_equal(fakekvm_calls(OLD) - world->old_calls, old);
	assert_int_equal(fakekvm_calls(NEW) - world->new_calls, new);
}

/* What is written at userspace_addr is in the file at this offset, at both ends of the range. */
static void check_hva(const struct gmem *mem, enum gmem_fd_kind kind, const struct fakekvm_slot *slot, uint64_t offset)
{
	unsigned char *file = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, gmem_get_fd(mem, kind), 0);
	unsigned char *hva = (unsigned char *)(uintptr_t)slot->hva;

	assert_ptr_not_equal(file, MAP_FAILED);
	assert_int_not_equal(slot->hva, 0);
	hva[0] = 0x5a;
	hva[slot->size - 1] = 0xa5;
	assert_int_equal(file[offset], 0x5a);
	assert_int_equal(file[offset + slot->size - 1], 0xa5);
	munmap(file, LENGTH);
}

static void a_guest_memfd_slot(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	struct fakekvm_slot slot;
	void *address;

	(void)state;
	assert_int_equal(gmem_bind(mem, 3, MIB, 64 * KIB, 2 * MIB, NULL), 0);
	expect_calls(&world, 0, 1);
	slot = only_slot(&world);
	assert_true(slot.slot == 3 && slot.flags == KVMI_MEM_GUEST_MEMFD && slot.gpa == MIB && slot.size == 2 * MIB);
	assert_int_equal(slot.file, inode(mem, GMEM_FD_MEMORY));
	assert_int_equal(slot.offset, 64 * KIB);
	assert_int_equal(gmem_map(mem, 64 * KIB, 2 * MIB, &address, NULL), 0);
	assert_int_equal(slot.hva, (uintptr_t)address);
	check_hva(mem, GMEM_FD_MEMORY, &slot, 64 * KIB);
	assert_int_equal(bound(mem), 1);
	assert_int_equal(gmem_unbind(mem, 3), 0);
	gmem_destroy(mem);
	leave(&world);
}

/* By the old call, which every kernel has. */
static void plain_slots(void **state)
{
	static const struct {
		const char *preset;
		uint64_t need;
		uint32_t backing;
		uint64_t flags;
		uint32_t kvm_flags;
	} rows[] = {
		{ "6.1", 0, 0, 0, 0 },
		{ "6.1", 0, 0, GMEM_BIND_READONLY, KVMI_MEM_READONLY },
		{ "7.3", 0, GMEM_BACKING_MEMFD, 0, 0 },
		{ "7.3", GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, 0, 0, 0 },
		{ "7.3", 0, 0, GMEM_BIND_PLAIN, 0 },
		{ "7.3", 0, GMEM_BACKING_MEMFD, GMEM_BIND_PLAIN, 0 },
		{ "7.3", 0, 0, GMEM_BIND_READONLY, KVMI_MEM_READONLY },
		{ "7.3", 0, 0, GMEM_BIND_DIRTY_LOG, KVMI_MEM_LOG_DIRTY_PAGES },
		{ "7.3", 0, 0, GMEM_BIND_READONLY | GMEM_BIND_DIRTY_LOG, KVMI_MEM_READONLY | KVMI_MEM_LOG_DIRTY_PAGES },
		{ "future-upstream", GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, 0, 0, 0 },
		{ "arm64", 0, 0, GMEM_BIND_DIRTY_LOG, KVMI_MEM_LOG_DIRTY_PAGES },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world world = enter(rows[i].preset);
		struct gmem *mem = make(&world, rows[i].need, rows[i].backing);
		struct fakekvm_slot slot;

		assert_int_equal(bind(mem, 1, GIB, MIB, MIB, rows[i].flags), 0);
		expect_calls(&world, 1, 0);
		slot = only_slot(&world);
		assert_int_equal(slot.flags, rows[i].kvm_flags);
		assert_int_equal(slot.file, 0);
		check_hva(mem, GMEM_FD_MEMORY, &slot, MIB);
		assert_int_equal(gmem_unbind(mem, 1), 0);
		gmem_destroy(mem);
		leave(&world);
	}
}

static void several_slots_on_one_file(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	void *address;

	(void)state;
	assert_int_equal(gmem_map(mem, 0, LENGTH, &address, NULL), 0);
	assert_int_equal(bind(mem, 0, 0, 2 * MIB, MIB, 0), 0);
	assert_int_equal(bind(mem, 7, GIB, 0, MIB, 0), 0);
	assert_int_equal(bind(mem, 2, 4 * GIB, MIB, MIB, 0), 0);
	assert_int_equal(bound(mem), 3);
	assert_int_equal(fakekvm_slots(world.fd, world.slots, MOST_SLOTS), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(world.slots[i].hva, (uintptr_t)address + world.slots[i].offset);
		check_hva(mem, GMEM_FD_MEMORY, &world.slots[i], world.slots[i].offset);
	}
	assert_int_equal(gmem_unbind(mem, 7), 0);
	assert_int_equal(bound(mem), 2);
	assert_int_equal(slot_count(&world), 2);
	gmem_destroy(mem);
	leave(&world);
}

/* One memory below and above the hole below 4 GiB, both parts mapped at their places in one reservation. */
static void a_hole_for_pci(void **state)
{
	const uint64_t low = MIB, high = LENGTH - MIB, hole = 2 * MIB;
	unsigned char *base = mmap(NULL, LENGTH + hole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	unsigned char residency;
	void *address;

	(void)state;
	assert_ptr_not_equal(base, MAP_FAILED);
	opts.address = base;
	assert_int_equal(gmem_map(mem, 0, low, &address, &opts), 0);
	assert_ptr_equal(address, base);
	opts.address = base + low + hole;
	assert_int_equal(gmem_map(mem, low, high, &address, &opts), 0);
	assert_int_equal(bind(mem, 0, 0, 0, low, 0), 0);
	assert_int_equal(bind(mem, 1, 4 * GIB, low, high, 0), 0);
	assert_int_equal(fakekvm_slots(world.fd, world.slots, MOST_SLOTS), 2);
	assert_int_equal(world.slots[0].hva, (uintptr_t)base);
	assert_int_equal(world.slots[1].hva, (uintptr_t)base + low + hole);
	check_hva(mem, GMEM_FD_MEMORY, &world.slots[0], 0);
	check_hva(mem, GMEM_FD_MEMORY, &world.slots[1], low);
	assert_int_equal(gmem_unmap(mem, 0, LENGTH), -EBUSY);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	gmem_destroy(mem);
	assert_int_equal(mincore(base, RAW_PAGE, &residency), 0); /* still reserved */
	munmap(base, LENGTH + hole);
	leave(&world);
}

/* Flags of a memslot that is there */

static void dirty_logging_is_switched(void **state)
{
	static const uint32_t backings[] = { GMEM_BACKING_MEMFD, GMEM_BACKING_GUEST_MEMFD };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world world = enter("7.3");
		struct gmem *mem = make(&world, 0, backings[i]);

		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN), 0);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN), 0);
		expect_calls(&world, 1, 0); /* the same again is nothing */
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG), 0);
		assert_int_equal(only_slot(&world).flags, KVMI_MEM_LOG_DIRTY_PAGES);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN | GMEM_BIND_READONLY), -EOPNOTSUPP);
		expect_calls(&world, 2, 0);
		fakekvm_script(OLD, ENOMEM, 1, 0);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN), -ENOMEM);
		assert_int_equal(only_slot(&world).flags, KVMI_MEM_LOG_DIRTY_PAGES);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_DIRTY_LOG), 0); /* as it is: nothing */
		expect_calls(&world, 3, 0);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN), 0);
		assert_int_equal(only_slot(&world).flags, 0);
		gmem_destroy(mem);
		leave(&world);
	}
}

/* KVM is not even asked: up to 6.18 it would let the flags go and forget the file, which it then uses after free. */
static void flags_of_a_guest_memfd_slot_stay(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	struct fakekvm_slot before, after;

	(void)state;
	assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), 0);
	before = only_slot(&world);
	assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_DIRTY_LOG), -EOPNOTSUPP);
	assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_PLAIN), -EOPNOTSUPP);
	expect_calls(&world, 0, 1);
	after = only_slot(&world);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), 0);
	assert_int_equal(bound(mem), 1);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	assert_int_equal(bind(mem, 0, 0, 0, MIB, GMEM_BIND_DIRTY_LOG), 0); /* anew it can be had */
	assert_int_equal(only_slot(&world).flags, KVMI_MEM_LOG_DIRTY_PAGES);
	assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), -EOPNOTSUPP); /* that would be the file itself */
	gmem_destroy(mem);
	leave(&world);
}

/* Refusals */

static void a_refused_slot_leaves_nothing(void **state)
{
	static const int errors[] = { EINVAL, ENOMEM, EEXIST, EIO };
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		fakekvm_script(NEW, errors[i], 1, 0);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), -errors[i]);
		assert_non_null(strstr(gmem_last_error(), NEW));
		assert_int_equal(slot_count(&world), 0);
		assert_int_equal(bound(mem), 0);
		assert_int_equal(gmem_unmap(mem, 0, LENGTH), 0); /* nothing holds a mapping */
		assert_int_equal(gmem_unbind(mem, 0), -ENOENT);
	}
	assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), 0);
	gmem_destroy(mem);
	leave(&world);
}

static void taken_as_the_library_knows(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0), *other = make(&world, 0, 0);

	(void)state;
	assert_int_equal(bind(mem, 0, MIB, 0, MIB, 0), 0);
	world.new_calls = fakekvm_calls(NEW);
	assert_int_equal(bind(mem, 0, 8 * MIB, 0, MIB, 0), -EEXIST);
	assert_int_equal(bind(mem, 0, MIB, MIB, MIB, 0), -EEXIST);
	assert_int_equal(bind(mem, 0, MIB, 0, 2 * MIB, 0), -EEXIST);
	assert_int_equal(bind(other, 0, MIB, 0, MIB, 0), -EEXIST);
	assert_int_equal(bind(other, 1, MIB, 0, MIB, 0), -EEXIST);
	assert_int_equal(bind(other, 1, 2 * MIB - 4 * KIB, 0, MIB, 0), -EEXIST);
	assert_int_equal(bind(other, 1, 0, 0, MIB + 4 * KIB, 0), -EEXIST);
	assert_int_equal(bind(mem, 1, GIB, MIB / 2, MIB, 0), -EEXIST); /* a page of the file is in one memslot */
	assert_non_null(strstr(gmem_last_error(), "EEXIST, from the library"));
	expect_calls(&world, 0, 0);
	assert_int_equal(bind(other, 1, 0, 0, MIB, 0), 0); /* side by side */
	assert_int_equal(bind(other, 2, 2 * MIB, MIB, MIB, 0), 0);
	assert_int_equal(gmem_unbind(other, 0), -ENOENT); /* not its own */
	assert_int_equal(gmem_unbind(mem, 1), -ENOENT);
	assert_int_equal(slot_count(&world), 3);
	gmem_destroy(mem);
	gmem_destroy(other);
	leave(&world);
}

static void taken_as_the_kernel_knows(void **state)
{
	static const char *const presets[] = { "6.18", "7.3" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world world = enter(presets[i]);
		struct gmem *mem = make(&world, 0, 0);
		struct raw_slot own = { .slot = 5, .flags = KVMI_MEM_GUEST_MEMFD, .gpa = GIB, .size = MIB, .offset = 2 * MIB };

		own.file = gmem_get_fd(mem, GMEM_FD_MEMORY);
		assert_int_equal(raw_set_slot(world.fd, &own), 0);
		assert_int_equal(bind(mem, 0, GIB, 0, MIB, 0), -EEXIST);
		assert_non_null(strstr(gmem_last_error(), "EEXIST, from the kernel"));
		assert_int_equal(bind(mem, 5, 0, 0, MIB, 0), -EINVAL);
		assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), 0);
		assert_int_equal(bind(mem, 1, MIB, 2 * MIB, MIB, 0), i ? -EEXIST : -EINVAL); /* the same range of the file */
		assert_int_equal(bind(mem, 32767, MIB, MIB, MIB, 0), -EINVAL);
		assert_int_equal(bind(mem, 2u << 16, MIB, MIB, MIB, 0), -EINVAL);
		assert_int_equal(bound(mem), 1);
		assert_int_equal(gmem_unbind(mem, 0), 0);
		own.size = 0;
		assert_int_equal(raw_set_slot(world.fd, &own), 0);
		gmem_destroy(mem);
		leave(&world);
	}
}

/* x86 has a second one, for system management: the same addresses there are other addresses. */
static void address_spaces(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, GMEM_BACKING_MEMFD);

	(void)state;
	assert_int_equal(bind(mem, 0, 0, 0, MIB, 0), 0);
	assert_int_equal(bind(mem, 1u << 16, 0, 0, MIB, 0), 0);
	assert_int_equal(bind(mem, 1u << 16 | 1, 0, 0, MIB, 0), -EEXIST);
	assert_int_equal(slot_count(&world), 2);
	assert_int_equal(gmem_unbind(mem, 1u << 16), 0);
	assert_int_equal(only_slot(&world).slot, 0);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	gmem_destroy(mem);
	leave(&world);
}

/* Private and hidden memory */

static void a_pair_is_bound_with_both_halves(void **state)
{
	struct world world = enter("sw-protected");
	struct gmem *mem = make(&world, GMEM_NEED_PRIVATE | GMEM_NEED_MAPPABLE, 0);
	struct fakekvm_slot slot;

	(void)state;
	assert_int_equal(bind(mem, 4, GIB, MIB, 2 * MIB, 0), 0);
	slot = only_slot(&world);
	assert_int_equal(slot.flags, KVMI_MEM_GUEST_MEMFD);
	assert_int_equal(slot.file, inode(mem, GMEM_FD_MEMORY));
	assert_int_equal(slot.offset, MIB);
	check_hva(mem, GMEM_FD_SHARED_HALF, &slot, MIB);
	assert_int_equal(gmem_unbind(mem, 4), 0);
	assert_int_equal(bind(mem, 4, GIB, MIB, 2 * MIB, GMEM_BIND_READONLY), -EINVAL); /* KVM has no such thing */
	assert_int_equal(slot_count(&world), 0);
	assert_int_equal(bound(mem), 0);
	gmem_destroy(mem);
	leave(&world);
}

static void memory_that_cannot_be_mapped(void **state)
{
	struct world world = enter("future-firecracker");
	struct gmem *mem = make(&world, GMEM_NEED_HIDDEN, 0);
	struct fakekvm_slot slot;

	(void)state;
	assert_int_equal(bind(mem, 0, 0, MIB, MIB, GMEM_BIND_DIRTY_LOG), -EOPNOTSUPP);
	assert_int_equal(slot_count(&world), 0);
	assert_int_equal(bind(mem, 0, 0, MIB, MIB, 0), 0);
	slot = only_slot(&world);
	assert_int_equal(slot.flags, KVMI_MEM_GUEST_MEMFD);
	assert_int_equal(slot.file, inode(mem, GMEM_FD_MEMORY));
	assert_int_equal(slot.hva, 0);
	gmem_destroy(mem);
	leave(&world);
}

static const struct gt_test tests[] = {
	GT(a_guest_memfd_slot, GT_NEEDS_NOTHING),
	GT(plain_slots, GT_NEEDS_NOTHING),
	GT(several_slots_on_one_file, GT_NEEDS_NOTHING),
	GT(a_hole_for_pci, GT_NEEDS_NOTHING),
	GT(dirty_logging_is_switched, GT_NEEDS_NOTHING),
	GT(flags_of_a_guest_memfd_slot_stay, GT_NEEDS_NOTHING),
	GT(a_refused_slot_leaves_nothing, GT_NEEDS_NOTHING),
	GT(taken_as_the_library_knows, GT_NEEDS_NOTHING),
	GT(taken_as_the_kernel_knows, GT_NEEDS_NOTHING),
	GT(address_spaces, GT_NEEDS_NOTHING),
	GT(a_pair_is_bound_with_both_halves, GT_NEEDS_NOTHING),
	GT(memory_that_cannot_be_mapped, GT_NEEDS_NOTHING),
};

GT_MAIN("memslots on the stand-in kernel", tests)
