/* SPDX-License-Identifier: MIT */
#include "hand.h"

#include <fcntl.h>
#include <string.h>

#include "../../lib/uapi/mman.h"
#include "raw.h"
#include "trap.h"
#include "world.h"

#define STEP ((size_t)2 << 20)   /* measured best */
#define BUFFER ((size_t)1 << 20) /* ... where there is a buffer */

int hand_vm(void)
{
	return raw_vm(0);
}

int hand_guest_memfd(int vm_fd, size_t size)
{
	int file = raw_guest_memfd(vm_fd, size, RAW_SHARED);

	if (file < 0)
		give_up("KVM_CREATE_GUEST_MEMFD: %s", strerror(-file));
	return file;
}

int hand_memfd(size_t size)
{
	int file = memfd_create("bench", MFD_CLOEXEC);

	must_errno(file, "memfd_create()");
	must_errno(ftruncate(file, (off_t)size), "ftruncate()");
	return file;
}

unsigned char *hand_map(int file, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (at == MAP_FAILED)
		give_up("mmap() of the memory: %s", strerror(errno));
	return at;
}

void hand_copy_file(struct world *world)
{
	void *view = mmap(NULL, world->size, PROT_READ, MAP_SHARED, world->content.fd, 0);

	if (view == MAP_FAILED)
		give_up("mmap() of the content: %s", strerror(errno));
	world->view = view;
	memcpy(world->at, world->view, world->size);
}

void hand_copy_buffer(struct world *world)
{
	memcpy(world->at, world->content.bytes, world->size);
}

void hand_touch(struct world *world)
{
	for (size_t i = 0; i < world->size; i += RAW_PAGE)
		*(volatile unsigned char *)(world->at + i) = 1;
}

static size_t step_at(const struct world *world, size_t offset)
{
	return world->size - offset < STEP ? world->size - offset : STEP;
}

static void allocate_step(const struct world *world, size_t offset, size_t size)
{
	must_errno(fallocate(world->file, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size), "fallocate()");
	must_errno(madvise(world->at + offset, size, MMANI_MADV_POPULATE_WRITE), "madvise(MADV_POPULATE_WRITE)");
}

static void read_step(const struct world *world, size_t offset, size_t size)
{
	if (pread(world->content.fd, world->at + offset, size, (off_t)offset) != (ssize_t)size)
		give_up("pread() of the content was short");
}

void hand_populate_file(struct world *world)
{
	for (size_t at = 0; at < world->size; at += STEP) {
		allocate_step(world, at, step_at(world, at));
		read_step(world, at, step_at(world, at));
	}
}

static bool is_zero(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, RAW_PAGE - 1) == 0;
}

static void put_run(const struct world *world, size_t offset, const unsigned char *data, size_t size)
{
	if (!size)
		return;
	allocate_step(world, offset, size);
	memcpy(world->at + offset, data, size);
}

static void put_pages(const struct world *world, size_t offset, const unsigned char *data, size_t size)
{
	size_t run = 0;

	for (size_t i = 0; i < size; i += RAW_PAGE) {
		if (!is_zero(data + i)) {
			run += RAW_PAGE;
			continue;
		}
		put_run(world, offset + i - run, data + i - run, run);
		run = 0;
	}
	put_run(world, offset + size - run, data + size - run, run);
}

void hand_populate_file_checked(struct world *world)
{
	static unsigned char buffer[BUFFER] __attribute__((aligned(4096)));

	for (size_t at = 0; at < world->size; at += BUFFER) {
		size_t size = world->size - at < BUFFER ? world->size - at : BUFFER;

		if (pread(world->content.fd, buffer, size, (off_t)at) != (ssize_t)size)
			give_up("pread() of the content was short");
		put_pages(world, at, buffer, size);
	}
}

void hand_allocate(struct world *world)
{
	for (size_t at = 0; at < world->size; at += STEP)
		allocate_step(world, at, step_at(world, at));
}

void hand_read_file(struct world *world)
{
	for (size_t at = 0; at < world->size; at += STEP)
		read_step(world, at, step_at(world, at));
}

void hand_set_slot(int vm_fd, uint32_t slot, uint32_t flags, uint64_t gpa, const void *at, size_t size)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)at,
	};

	must_errno(ioctl(vm_fd, (unsigned long)KVMI_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}
