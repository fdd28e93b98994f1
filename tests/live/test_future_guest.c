/* SPDX-License-Identifier: MIT */
/* The kernel of tests/vm/future: what shows only with a vCPU. Each feature is there where the kernel was booted with it, and
 * nowhere else. */
#include <linux/kvm.h>
#include <string.h>

#include "../../lib/uapi/userfaultfd.h"
#include "future.h"
#include "gt.h"
#include "guest_int.h"

#define CAP_PRE_FAULT_MEMORY 236ul
#define EXIT_MEMORY_FAULT 39u
#define EXIT_FLAG_USERFAULT (UINT64_C(1) << 4)
#define FILL 0x5a
#define WORD UINT64_C(0x5a5a5a5a5a5a5a5a)
#define MAP_WRITE 1u
#define MAP_PRIVATE_PAGES 8u

/* What Debian 12's header does not know. */
struct memory_fault {
	uint64_t flags;
	uint64_t gpa;
	uint64_t size;
};

static void bind(const struct future_memory *memory, uint32_t flags, const uint64_t *bitmap)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = 1,
		.flags = flags,
		.memory_size = memory->size,
		.userspace_addr = (uintptr_t)memory->at,
		.guest_memfd = (uint32_t)memory->file,
		.pad2 = { (uintptr_t)bitmap },
	};

	assert_int_equal(raw_result(ioctl(memory->vm, (unsigned long)KVMI_SET_USER_MEMORY_REGION2, &region)), 0);
}

static uint64_t load(struct guest *guest, uint64_t gpa)
{
	uint64_t word = 0;

	assert_true(guest_load(guest, gpa, &word));
	return word;
}

/* Memory, a guest_memfd slot of it at guest address 0, a vCPU. */
struct place {
	struct future_memory memory;
	struct guest *guest;
};

static struct place place(size_t pages)
{
	struct place p = { .memory = future_memory(pages, 0) };

	bind(&p.memory, KVMI_MEM_GUEST_MEMFD, NULL);
	p.guest = guest_start(p.memory.vm);
	return p;
}

static void place_end(struct place *p)
{
	guest_end(p->guest);
	future_memory_end(&p->memory);
}

/* --- mapping in advance --- */

static void numbers_of_mapping_in_advance(void **state)
{
	bool v1 = future_has(FUTURE_MAP_V1), v2 = future_has(FUTURE_MAP_V2), none = future_has(FUTURE_NO_PRE_FAULT);
	bool pre_fault = future_has_pre_fault();
	int vm = guest_vm(), vcpu = raw_vcpu(vm);

	(void)state;
	assert_true(vcpu >= 0);
	assert_int_equal(raw_known(vcpu, KVMI_PRE_FAULT_MEMORY), pre_fault ? -EFAULT : -EINVAL);
	assert_int_equal(raw_known(vcpu, KVMI_MAP_MEMORY_V1), v1 ? -EFAULT : -EINVAL);
	assert_int_equal(raw_known(vcpu, KVMI_MAP_MEMORY_V2), v2 ? -EFAULT : -EINVAL);
	assert_int_equal(raw_cap(vm, CAP_PRE_FAULT_MEMORY), !none || v1 || v2);
	close(vcpu);
	close(vm);
}

static void pre_fault(void **state)
{
	struct kvmi_pre_fault_memory range = { .gpa = RAW_PAGE, .size = 4 * RAW_PAGE };
	struct place p;
	uint64_t before;

	(void)state;
	future_need_mapping();
	if (!future_has_pre_fault())
		gt_skip("this kernel has no KVM_PRE_FAULT_MEMORY");
	p = place(4);
	before = future_mapped(p.memory.vm);
	assert_int_equal(raw_result(ioctl(guest_vcpu(p.guest), (unsigned long)KVMI_PRE_FAULT_MEMORY, &range)), 0);
	assert_int_equal(range.gpa, 4 * RAW_PAGE);
	assert_int_equal(range.size, RAW_PAGE);
	assert_int_equal(future_mapped(p.memory.vm) - before, 3);
	assert_int_equal(raw_result(ioctl(guest_vcpu(p.guest), (unsigned long)KVMI_PRE_FAULT_MEMORY, &range)), -ENOENT);
	place_end(&p);
}

static void map_memory_v1(void **state)
{
	struct kvmi_map_memory_v1 range = { .base_gfn = 1, .nr_pages = 4, .flags = MAP_WRITE };
	struct kvmi_map_memory_v1 private_pages = { .nr_pages = 1, .flags = MAP_PRIVATE_PAGES };
	struct kvmi_map_memory_v1 wrong = { .nr_pages = 1, .flags = 16 }, empty = { .base_gfn = 1 };
	struct place p;
	uint64_t before;
	int vcpu;

	(void)state;
	if (!future_has(FUTURE_MAP_V1))
		gt_skip("this kernel has no KVM_MAP_MEMORY of the first kind");
	p = place(4);
	vcpu = guest_vcpu(p.guest);
	before = future_mapped(p.memory.vm);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V1, &wrong)), -EINVAL);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V1, &empty)), -EINVAL);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V1, &private_pages)), -EINVAL);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V1, &range)), -ENOENT);
	assert_int_equal(range.base_gfn, 4);
	assert_int_equal(range.nr_pages, 1);
	assert_int_equal(future_mapped(p.memory.vm) - before, 3);
	place_end(&p);
}

static void map_memory_v2(void **state)
{
	struct kvmi_map_memory_v2 whole = { .size = RAW_PAGE }, range = { .base_address = RAW_PAGE, .size = 4 * RAW_PAGE };
	struct kvmi_map_memory_v2 wrong = { .size = RAW_PAGE, .flags = 1 };
	struct place p;
	uint64_t before;
	int vcpu;

	(void)state;
	if (!future_has(FUTURE_MAP_V2))
		gt_skip("this kernel has no KVM_MAP_MEMORY of the second kind");
	p = place(4);
	vcpu = guest_vcpu(p.guest);
	before = future_mapped(p.memory.vm);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V2, &wrong)), -EINVAL);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V2, &whole)), 0);
	assert_int_equal(whole.base_address, RAW_PAGE);
	assert_int_equal(whole.size, 0);
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_MAP_MEMORY_V2, &range)), -ENOENT);
	assert_int_equal(range.base_address, 4 * RAW_PAGE);
	assert_int_equal(range.size, RAW_PAGE);
	assert_int_equal(future_mapped(p.memory.vm) - before, 4);
	place_end(&p);
}

/* --- KVM userfault --- */

/* The guest begins to load a word and does not get it: by what bit is told. */
static void loads_in_vain(struct guest *guest, uint64_t gpa)
{
	struct memory_fault fault;

	guest_set_regs(guest, LOAD, 0, &(struct words){ .gpa = gpa, .count = 1 });
	guest->run->exit_reason = UINT32_MAX;
	assert_int_equal(raw_result(ioctl(guest->vcpu, KVM_RUN, 0)), -EFAULT);
	assert_int_equal(guest->run->exit_reason, EXIT_MEMORY_FAULT);
	memcpy(&fault, (const unsigned char *)guest->run + 32, sizeof(fault));
	assert_int_equal(fault.flags, EXIT_FLAG_USERFAULT);
	assert_int_equal(fault.gpa, gpa);
	assert_int_equal(fault.size, RAW_PAGE);
}

static void check_userfault(uint32_t kind)
{
	struct future_memory memory = future_memory(4, 0);
	uint64_t bitmap = 2 | 4;
	struct guest *guest;

	memset(memory.second, FILL, memory.size);
	bind(&memory, kind | KVMI_MEM_USERFAULT, &bitmap);
	guest = guest_start(memory.vm);
	assert_int_equal(load(guest, 0), WORD);
	loads_in_vain(guest, RAW_PAGE);
	loads_in_vain(guest, RAW_PAGE);
	__atomic_store_n(&bitmap, 4, __ATOMIC_RELEASE);
	assert_int_equal(load(guest, RAW_PAGE), WORD);
	loads_in_vain(guest, 2 * RAW_PAGE);
	/* Set for a page that is mapped: seen once it was switched on anew. */
	__atomic_store_n(&bitmap, 4 | 1, __ATOMIC_RELEASE);
	assert_int_equal(load(guest, 0), WORD);
	bind(&memory, kind, NULL);
	assert_int_equal(load(guest, 2 * RAW_PAGE), WORD);
	bind(&memory, kind | KVMI_MEM_USERFAULT, &bitmap);
	loads_in_vain(guest, 0);
	loads_in_vain(guest, 2 * RAW_PAGE);
	guest_end(guest);
	future_memory_end(&memory);
}

static void userfault_on_a_guest_memfd_slot(void **state)
{
	bool there = future_has(FUTURE_USERFAULT);
	int vm = guest_vm();

	(void)state;
	assert_int_equal(raw_slot_flags(vm, KVMI_MEM_GUEST_MEMFD | KVMI_MEM_USERFAULT), there ? -EBADF : -EINVAL);
	close(vm);
	if (there)
		check_userfault(KVMI_MEM_GUEST_MEMFD);
}

static void userfault_on_a_plain_slot(void **state)
{
	(void)state;
	if (!future_has(FUTURE_USERFAULT))
		gt_skip("this kernel has no KVM_MEM_USERFAULT");
	check_userfault(0);
}

static void userfault_with_a_bitmap_that_cannot_be_read(void **state)
{
	struct future_memory memory;
	struct guest *guest;

	(void)state;
	if (!future_has(FUTURE_USERFAULT))
		gt_skip("this kernel has no KVM_MEM_USERFAULT");
	memory = future_memory(1, 0);
	bind(&memory, KVMI_MEM_GUEST_MEMFD | KVMI_MEM_USERFAULT, (const uint64_t *)(uintptr_t)RAW_PAGE);
	guest = guest_start(memory.vm);
	guest_set_regs(guest, LOAD, 0, &(struct words){ .count = 1 });
	guest->run->exit_reason = UINT32_MAX;
	assert_int_equal(raw_result(ioctl(guest->vcpu, KVM_RUN, 0)), -EFAULT);
	assert_int_not_equal(guest->run->exit_reason, EXIT_MEMORY_FAULT);
	guest_end(guest);
	future_memory_end(&memory);
}

/* --- userfaultfd under a guest --- */

/* Of a slot over the mapping a guest's faults are seen. */
static void guest_faults(uint64_t mode, bool copy, uint64_t flag)
{
	struct future_memory memory = future_memory(2, 0);
	struct future_handler *handler;
	struct guest *guest;
	int uffd;

	if (!copy)
		memset(memory.second, 1, memory.size);
	bind(&memory, 0, NULL);
	guest = guest_start(memory.vm);
	uffd = future_register(&memory, mode);
	assert_true(uffd >= 0);
	handler = future_handler(uffd, &memory, copy, FILL);
	assert_int_equal(load(guest, RAW_PAGE), WORD);
	assert_int_equal(future_handler_end(handler) & UFFDI_FAULT_MINOR, flag);
	assert_int_equal(memory.second[RAW_PAGE], FILL);
	guest_end(guest);
	close(uffd);
	future_memory_end(&memory);
}

static void minor_faults_of_a_guest(void **state)
{
	(void)state;
	if (!future_has(FUTURE_MINOR))
		gt_skip("this kernel has no minor faults of guest_memfd");
	guest_faults(UFFDI_REGISTER_MINOR, false, UFFDI_FAULT_MINOR);
}

static void missing_faults_of_a_guest(void **state)
{
	(void)state;
	if (!future_has(FUTURE_MISSING))
		gt_skip("this kernel has no missing faults of guest_memfd");
	guest_faults(UFFDI_REGISTER_MISSING, true, 0);
}

/* --- private memory --- */

static void guest_reads_what_was_populated(void **state)
{
	static unsigned char source[2 * RAW_PAGE];
	struct future_memory memory = { .size = 2 * RAW_PAGE };
	struct guest *guest;

	(void)state;
	if (!future_has(FUTURE_POPULATE))
		gt_skip("this kernel has no KVM_GUEST_MEMFD_POPULATE");
	memset(source, FILL, sizeof(source));
	memory.vm = future_private_vm();
	memory.file = raw_guest_memfd(memory.vm, memory.size, 0);
	memory.at = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory.file >= 0 && memory.at != MAP_FAILED);
	bind(&memory, KVMI_MEM_GUEST_MEMFD, NULL);
	assert_int_equal(future_set_private(memory.vm, memory.file, memory.size, true), 0);
	assert_true(future_populate(memory.vm, 0, memory.size, source) >= 0);
	guest = guest_start(memory.vm);
	assert_int_equal(load(guest, RAW_PAGE), WORD);
	guest_end(guest);
	munmap(memory.at, memory.size);
	close(memory.file);
	close(memory.vm);
}

static void guest_reads_what_was_converted(void **state)
{
	struct future_memory memory = { .size = 2 * RAW_PAGE };
	struct guest *guest;

	(void)state;
	if (!future_has(FUTURE_ATTRIBUTES2))
		gt_skip("this kernel has no attributes of the file");
	memory.vm = future_private_vm();
	memory.file = raw_guest_memfd(memory.vm, memory.size, RAW_SHARED);
	memory.at = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file, 0);
	assert_true(memory.file >= 0 && memory.at != MAP_FAILED);
	bind(&memory, KVMI_MEM_GUEST_MEMFD, NULL);
	guest = guest_start(memory.vm);
	memset(memory.at, FILL, memory.size);
	assert_int_equal(load(guest, 0), WORD);
	assert_int_equal(future_set_private(memory.vm, memory.file, RAW_PAGE, true), 0);
	assert_int_equal(load(guest, 0), WORD);
	assert_true(guest_store(guest, 0, 1));
	assert_int_equal(load(guest, RAW_PAGE), WORD);
	assert_int_equal(future_set_private(memory.vm, memory.file, RAW_PAGE, false), 0);
	assert_int_equal(memory.at[0], 1);
	guest_end(guest);
	munmap(memory.at, memory.size);
	close(memory.file);
	close(memory.vm);
}

static const struct gt_test tests[] = {
	GT(numbers_of_mapping_in_advance, GT_NEEDS_VCPU),
	GT(pre_fault, GT_NEEDS_VCPU),
	GT(map_memory_v1, GT_NEEDS_VCPU),
	GT(map_memory_v2, GT_NEEDS_VCPU),
	GT(userfault_on_a_guest_memfd_slot, GT_NEEDS_VCPU),
	GT(userfault_on_a_plain_slot, GT_NEEDS_VCPU),
	GT(userfault_with_a_bitmap_that_cannot_be_read, GT_NEEDS_VCPU),
	GT(minor_faults_of_a_guest, GT_NEEDS_VCPU | GT_NEEDS_UFFD),
	GT(missing_faults_of_a_guest, GT_NEEDS_VCPU | GT_NEEDS_UFFD),
	GT(guest_reads_what_was_populated, GT_NEEDS_VCPU),
	GT(guest_reads_what_was_converted, GT_NEEDS_VCPU),
};

GT_MAIN("future_guest", tests)
