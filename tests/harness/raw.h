/* SPDX-License-Identifier: MIT */
/* KVM's own calls as short functions, for tests that ask the kernel (or the stand-in) itself. Results are 0 or more, or a
 * negative errno. Whatever is made is the caller's to close. */
#ifndef RAW_H
#define RAW_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../lib/uapi/kvm.h"

#define RAW_PAGE 4096ul
#define RAW_CREATE_VM 0xae01ul
#define RAW_CREATE_VCPU 0xae41ul
#define RAW_SHARED (KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED)

struct raw_slot {
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	int file;
	uint64_t offset;
};

static inline long raw_result(long result)
{
	return result < 0 ? -errno : result;
}

/* -EFAULT: the request is known. */
static inline long raw_known(int fd, unsigned long request)
{
	return raw_result(ioctl(fd, request, (void *)8));
}

static inline long raw_cap(int fd, unsigned long number)
{
	return raw_result(ioctl(fd, (unsigned long)KVMI_CHECK_EXTENSION, number));
}

static inline int raw_vm(unsigned long type)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	long vm = kvm < 0 ? -errno : raw_result(ioctl(kvm, RAW_CREATE_VM, type));

	if (kvm >= 0)
		close(kvm);
	return (int)vm;
}

static inline int raw_vcpu(int vm)
{
	return (int)raw_result(ioctl(vm, RAW_CREATE_VCPU, 0ul));
}

static inline int raw_guest_memfd(int vm, uint64_t size, uint64_t flags)
{
	struct kvmi_create_guest_memfd create = { .size = size, .flags = flags };

	return (int)raw_result(ioctl(vm, (unsigned long)KVMI_CREATE_GUEST_MEMFD, &create));
}

static inline long raw_set_slot(int vm, const struct raw_slot *slot)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = slot->slot,
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = slot->hva,
		.guest_memfd = (uint32_t)slot->file,
		.guest_memfd_offset = slot->offset,
	};

	return raw_result(ioctl(vm, (unsigned long)KVMI_SET_USER_MEMORY_REGION2, &region));
}

/* -EBADF: memslots may have these flags. Makes none. */
static inline long raw_slot_flags(int vm, uint32_t flags)
{
	struct raw_slot slot = { .slot = 7, .flags = flags, .size = RAW_PAGE, .file = -1 };

	return raw_set_slot(vm, &slot);
}

/* 0, or what mapping one page of the file said. */
static inline long raw_can_map(int file, int protection, int flags)
{
	void *at = mmap(NULL, RAW_PAGE, protection, flags, file, 0);

	if (at == MAP_FAILED)
		return -errno;
	munmap(at, RAW_PAGE);
	return 0;
}

#endif
