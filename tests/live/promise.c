/* SPDX-License-Identifier: MIT */
#include "promise.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"

struct region2 {
	uint32_t slot, flags;
	uint64_t gpa, size, address, offset;
	uint32_t gmem, pad1;
	uint64_t pad2[14];
};

void relied_on_by(const char *what)
{
	printf("  relied on by %s\n", what);
}

size_t promise_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

int promise_errno(long result)
{
	return result < 0 ? errno : 0;
}

int promise_gmem(int vm, uint64_t size, uint64_t flags)
{
	uint64_t create[8] = { size, flags };
	int fd = ioctl(vm, 0xc040aed4ul, create);

	assert_true(fd >= 0);
	return fd;
}

int promise_slot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, const void *address, int gmem)
{
	struct region2 region = {
		.slot = slot, .flags = flags, .gpa = gpa, .size = size, .address = (uintptr_t)address, .gmem = (uint32_t)gmem
	};

	return promise_errno(ioctl(vm, 0x40a0ae49ul, &region));
}

unsigned char *promise_map(int fd, size_t size)
{
	unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}
