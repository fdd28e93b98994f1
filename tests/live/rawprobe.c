/* SPDX-License-Identifier: MIT */
#include "rawprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Newer than the headers of Debian 12. */
#define RAW_SET_USER_MEMORY_REGION2 0x40a0ae49ul
#define RAW_SET_MEMORY_ATTRIBUTES 0x4020aed2ul
#define RAW_PRE_FAULT_MEMORY 0xc040aed5ul
#define RAW_MAP_MEMORY_V2 0xc018aed5ul
#define RAW_MAP_MEMORY_V1 0xc020aed5ul
#define RAW_GUEST_MEMFD_POPULATE 0x4020aed6ul
#define RAW_RMI_POPULATE 0xc020aed7ul
#define RAW_MEMORY_ENCRYPT_OP 0xc008aebaul
#define RAW_CAP_MEMORY_FAULT_INFO 232
#define RAW_CAP_VM_TYPES 235
#define RAW_CAP_PRE_FAULT_MEMORY 236
#define RAW_SLOT 5u
#define RAW_GPA (UINT64_C(1) << 30)
#define RAW_PRIVATE (UINT64_C(1) << 3)
#define RAW_GUEST_MEMFD_USERFAULT (1u << 2 | 1u << 3)

struct raw_region {
	uint32_t slot, flags;
	uint64_t gpa, size, address, offset;
	uint32_t fd, pad1;
	uint64_t pad2[14];
};
_Static_assert(sizeof(struct raw_region) == 160, "KVM_SET_USER_MEMORY_REGION2");

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

enum raw_state raw_of_errno(int error)
{
	switch (error) {
	case 0:
		return RAW_PRESENT;
	case EACCES:
	case EPERM:
		return RAW_FORBIDDEN;
	case EIO:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EINTR:
	case EAGAIN:
		return RAW_UNDETERMINED;
	default:
		return RAW_ABSENT;
	}
}

int raw_answer(int fd, unsigned long request)
{
	return ioctl(fd, request, (void *)8) < 0 ? errno : 0;
}

static enum raw_state copies(int fd, unsigned long request)
{
	int error = raw_answer(fd, request);

	return error == EFAULT ? RAW_PRESENT : raw_of_errno(error ? error : ENOTTY);
}

static int errno_of(int result)
{
	return result < 0 ? errno : 0;
}

int raw_slot(int vm, unsigned int flags, unsigned long length, void *address, int gmem)
{
	struct raw_region region = { .slot = RAW_SLOT,
				     .flags = flags,
				     .gpa = RAW_GPA,
				     .size = length,
				     .address = (uintptr_t)address,
				     .fd = (uint32_t)gmem };

	return errno_of(ioctl(vm, RAW_SET_USER_MEMORY_REGION2, &region));
}

/* --- KVM --- */

static enum raw_state raw_kvm(const struct raw_machine *machine, unsigned long unused)
{
	int fd, version, error;

	(void)unused;
	if (machine->vm >= 0)
		return raw_of_errno(errno_of(ioctl(machine->vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY)));
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return raw_of_errno(errno);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	error = version < 0 ? errno : version == 12 ? 0 : ENOTTY;
	close(fd);
	return raw_of_errno(error);
}

enum raw_state raw_vm(const struct raw_machine *machine)
{
	enum raw_state kvm = raw_kvm(machine, 0);

	return kvm == RAW_PRESENT && machine->vm < 0 ? RAW_UNDETERMINED : kvm;
}

static enum raw_state raw_user_memory2(const struct raw_machine *machine, unsigned long unused)
{
	void *page;
	int error;

	(void)unused;
	if (machine->vm < 0)
		return raw_vm(machine);
	page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	error = raw_slot(machine->vm, 0, page_size(), page, -1);
	if (error == 0)
		error = raw_slot(machine->vm, 0, 0, page, -1);
	munmap(page, page_size());
	return raw_of_errno(error);
}

static enum raw_state raw_attributes_vm(const struct raw_machine *machine, unsigned long unused)
{
	uint64_t set[4] = { RAW_GPA, page_size(), RAW_PRIVATE, 0 }, clear[4] = { RAW_GPA, page_size(), 0, 0 };
	int error;

	(void)unused;
	if (machine->vm < 0)
		return raw_vm(machine);
	error = errno_of(ioctl(machine->vm, RAW_SET_MEMORY_ATTRIBUTES, set));
	if (error == 0)
		ioctl(machine->vm, RAW_SET_MEMORY_ATTRIBUTES, clear);
	return raw_of_errno(error);
}

static int capability(int fd, unsigned long number)
{
	return ioctl(fd, KVM_CHECK_EXTENSION, number);
}

/* What KVM as a whole can do is asked of the device; a jailed process may have no more than a VM. */
static enum raw_state raw_kvm_wide(const struct raw_machine *machine, unsigned long number, unsigned int bit)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), answer;

	if (fd < 0 && machine->vm < 0)
		return raw_of_errno(errno);
	answer = capability(fd < 0 ? machine->vm : fd, number);
	if (fd >= 0)
		close(fd);
	if (answer < 0)
		return RAW_UNDETERMINED;
	return (unsigned int)answer & bit ? RAW_PRESENT : RAW_ABSENT;
}

static enum raw_state raw_vm_type(const struct raw_machine *machine, unsigned long type)
{
	return raw_kvm_wide(machine, RAW_CAP_VM_TYPES, 1u << type);
}

static enum raw_state raw_fault_exit(const struct raw_machine *machine, unsigned long unused)
{
	(void)unused;
	return raw_kvm_wide(machine, RAW_CAP_MEMORY_FAULT_INFO, 1);
}

/* The kernel looks at the flags before it looks for the fd, and there is none. */
static enum raw_state raw_userfault(const struct raw_machine *machine, unsigned long unused)
{
	int error;

	(void)unused;
	if (machine->vm < 0)
		return raw_vm(machine);
	error = raw_slot(machine->vm, RAW_GUEST_MEMFD_USERFAULT, page_size(), NULL, -1);
	return error == EBADF ? RAW_PRESENT : raw_of_errno(error);
}

static enum raw_state raw_vm_answer(const struct raw_machine *machine, unsigned long request)
{
	return machine->vm < 0 ? raw_vm(machine) : copies(machine->vm, request);
}

static enum raw_state raw_rfc_vm(const struct raw_machine *machine, unsigned long request)
{
	enum raw_state vm = raw_vm(machine);

	return vm == RAW_PRESENT && !machine->rfc ? RAW_UNDETERMINED : raw_vm_answer(machine, request);
}

static enum raw_state raw_vcpu_answer(const struct raw_machine *machine, unsigned long request)
{
	enum raw_state vm = raw_vm(machine);

	if (vm != RAW_PRESENT)
		return vm;
	return machine->vcpu < 0 ? RAW_UNDETERMINED : copies(machine->vcpu, request);
}

static enum raw_state raw_rfc_vcpu(const struct raw_machine *machine, unsigned long request)
{
	enum raw_state vm = raw_vm(machine);

	return vm == RAW_PRESENT && !machine->rfc ? RAW_UNDETERMINED : raw_vcpu_answer(machine, request);
}

/* The command is known where it cannot work, and the number had other owners: both must say yes. */
static enum raw_state raw_pre_fault(const struct raw_machine *machine, unsigned long unused)
{
	(void)unused;
	if (machine->vm >= 0 && capability(machine->vm, RAW_CAP_PRE_FAULT_MEMORY) <= 0)
		return RAW_ABSENT;
	return raw_vcpu_answer(machine, RAW_PRE_FAULT_MEMORY);
}

static enum raw_state raw_sev(const struct raw_machine *machine, unsigned long unused)
{
	(void)unused;
	if (machine->vm < 0)
		return raw_vm(machine);
	return raw_of_errno(errno_of(ioctl(machine->vm, RAW_MEMORY_ENCRYPT_OP, NULL)));
}

/* --- memory that is not KVM's --- */

static enum raw_state after(int fd, int error)
{
	close(fd);
	return raw_of_errno(error);
}

/* A seal is worth something if it holds. */
static enum raw_state raw_memfd(const struct raw_machine *machine, unsigned long unused)
{
	int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)machine;
	(void)unused;
	if (fd < 0)
		return raw_of_errno(errno);
	if (ftruncate(fd, 8192) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return after(fd, errno);
	return after(fd, ftruncate(fd, 4096) == 0 ? ENOTTY : 0);
}

/* A page that is free can be promised to a mapping; a page that is not there can be had by an administrator. */
static enum raw_state raw_hugetlb(const struct raw_machine *machine, unsigned long shift)
{
	size_t size = (size_t)1 << shift;
	int fd = memfd_create("raw", MFD_CLOEXEC | MFD_HUGETLB | (unsigned int)shift << 26);
	void *at;

	(void)machine;
	if (fd < 0)
		return raw_of_errno(errno);
	if (ftruncate(fd, (off_t)size))
		return after(fd, errno);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return after(fd, errno == ENOMEM ? EPERM : errno);
	munmap(at, size);
	return after(fd, 0);
}

static enum raw_state raw_madv_populate(const struct raw_machine *machine, unsigned long unused)
{
	void *at = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error = errno_of(madvise(at, page_size(), MADV_POPULATE_WRITE));

	(void)machine;
	(void)unused;
	munmap(at, page_size());
	return raw_of_errno(error);
}

/* --- the table --- */

static const struct {
	const char *feature;
	enum raw_state (*probe)(const struct raw_machine *machine, unsigned long argument);
	unsigned long argument;
} rows[] = {
	{ "kvm", raw_kvm, 0 },
	{ "user_memory2", raw_user_memory2, 0 },
	{ "guest_memfd", raw_gmem_bind, 0 },
	{ "guest_memfd_mmap", raw_gmem_mmap, 0 },
	{ "guest_memfd_init_shared", raw_gmem_shared, 0 },
	{ "guest_memfd_write", raw_gmem_write, 0 },
	{ "no_direct_map", raw_gmem_hidden, 0 },
	{ "guest_memfd_numa", raw_gmem_numa, 0 },
	{ "attributes_vm", raw_attributes_vm, 0 },
	{ "attributes_file", raw_gmem_attributes, 0 },
	{ "memory_fault_exit", raw_fault_exit, 0 },
	{ "kvm_userfault", raw_userfault, 0 },
	{ "pre_fault", raw_pre_fault, 0 },
	{ "map_memory", raw_rfc_vcpu, RAW_MAP_MEMORY_V2 },
	{ "map_memory_v1", raw_rfc_vcpu, RAW_MAP_MEMORY_V1 },
	{ "populate_ioctl", raw_rfc_vm, RAW_GUEST_MEMFD_POPULATE },
	{ "vm_sw_protected", raw_vm_type, 1 },
	{ "vm_snp", raw_vm_type, 4 },
	{ "vm_tdx", raw_vm_type, 5 },
	{ "sev_commands", raw_sev, 0 },
	{ "cca_populate", raw_vm_answer, RAW_RMI_POPULATE },
	{ "memfd", raw_memfd, 0 },
	{ "hugetlb_2m", raw_hugetlb, 21 },
	{ "hugetlb_1g", raw_hugetlb, 30 },
	{ "madv_populate", raw_madv_populate, 0 },
	{ "uffd", raw_uffd_any, 0 },
	{ "uffd_device", raw_uffd_device, 0 },
	{ "uffd_kernel_faults", raw_uffd_kernel, 0 },
	{ "uffd_guest_memfd_missing", raw_uffd_register, 1 },
	{ "uffd_guest_memfd_wp_async", raw_uffd_register, 2 },
	{ "uffd_guest_memfd_minor", raw_uffd_register, 4 },
	{ "uffd_pagefault_wp", raw_uffd_bit, 0 },
	{ "uffd_event_fork", raw_uffd_bit, 1 },
	{ "uffd_event_remap", raw_uffd_bit, 2 },
	{ "uffd_event_remove", raw_uffd_bit, 3 },
	{ "uffd_missing_hugetlb", raw_uffd_bit, 4 },
	{ "uffd_missing_memfd", raw_uffd_bit, 5 },
	{ "uffd_event_unmap", raw_uffd_bit, 6 },
	{ "uffd_sigbus", raw_uffd_bit, 7 },
	{ "uffd_thread_id", raw_uffd_bit, 8 },
	{ "uffd_minor_hugetlb", raw_uffd_bit, 9 },
	{ "uffd_minor_memfd", raw_uffd_bit, 10 },
	{ "uffd_exact_address", raw_uffd_bit, 11 },
	{ "uffd_wp_memfd", raw_uffd_bit, 12 },
	{ "uffd_wp_unpopulated", raw_uffd_bit, 13 },
	{ "uffd_poison", raw_uffd_bit, 14 },
	{ "uffd_wp_async", raw_uffd_bit, 15 },
	{ "uffd_move", raw_uffd_bit, 16 },
	{ "uffd_rwp", raw_uffd_bit, 17 },
	{ "uffd_rwp_async", raw_uffd_bit, 18 },
};

bool raw_probe(const struct raw_machine *machine, const char *feature, enum raw_state *state)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].feature, feature))
			continue;
		*state = rows[i].probe(machine, rows[i].argument);
		return true;
	}
	return false;
}

const char *raw_state_name(enum raw_state state)
{
	static const char *const names[] = { "undetermined", "absent", "forbidden", "present" };

	return names[state];
}

struct raw_machine raw_machine_new(unsigned long type)
{
	struct raw_machine machine = { .vm = -1, .vcpu = -1 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		return machine;
	machine.vm = ioctl(kvm, KVM_CREATE_VM, type);
	close(kvm);
	if (machine.vm >= 0)
		machine.vcpu = ioctl(machine.vm, KVM_CREATE_VCPU, 0ul);
	return machine;
}

void raw_machine_end(struct raw_machine *machine)
{
	if (machine->vcpu >= 0)
		close(machine->vcpu);
	if (machine->vm >= 0)
		close(machine->vm);
}
