/* SPDX-License-Identifier: MIT */
/* Raw probes of guest_memfd: one-page files on which the thing itself is done. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "rawprobe.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define RAW_CREATE_GUEST_MEMFD 0xc040aed4ul
#define RAW_SET_MEMORY_ATTRIBUTES2 0xc080aed2ul
#define RAW_CAP_GUEST_MEMFD_FLAGS 244
#define RAW_GUEST_MEMFD_MAGIC 0x474d454d
#define RAW_MEM_GUEST_MEMFD (1u << 2)

#define MMAP UINT64_C(1)
#define SHARED UINT64_C(3)
#define BIT2 UINT64_C(4)
#define BIT3 UINT64_C(8)

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int make(int vm, uint64_t flags)
{
	uint64_t create[8] = { page_size(), flags };

	return ioctl(vm, RAW_CREATE_GUEST_MEMFD, create);
}

/* Closes and keeps errno. */
static void drop(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
}

static void *map(int vm, uint64_t flags)
{
	int fd = make(vm, flags);
	void *at;

	if (fd < 0)
		return NULL;
	at = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	drop(fd);
	return at == MAP_FAILED ? NULL : at;
}

/* Lets the kernel touch it: where that is not allowed it says EFAULT, and a touch of our own would be SIGBUS. */
static int touch(void *page)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ssize_t r = read(zero, page, page_size());
	int error = r < 0 ? errno : (size_t)r == page_size() ? 0 : EFAULT;

	close(zero);
	return error;
}

void *raw_gmem_page(int vm)
{
	return map(vm, SHARED);
}

/* The flags that make the file one which a memslot of such a VM can have. */
static uint64_t flags_of(int vm)
{
	int mask = ioctl(vm, KVM_CHECK_EXTENSION, RAW_CAP_GUEST_MEMFD_FLAGS);

	return mask > 0 ? (uint64_t)mask & SHARED : 0;
}

static int bind_and_delete(int vm, int fd, void *page)
{
	int error = raw_slot(vm, RAW_MEM_GUEST_MEMFD, page_size(), page, fd);

	return error ? error : raw_slot(vm, RAW_MEM_GUEST_MEMFD, 0, page, fd);
}

enum raw_state raw_gmem_bind(const struct raw_machine *machine, unsigned long unused)
{
	void *page;
	int fd, error;

	(void)unused;
	if (machine->vm < 0)
		return raw_vm(machine);
	fd = make(machine->vm, flags_of(machine->vm));
	if (fd < 0)
		return raw_of_errno(errno);
	page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	error = bind_and_delete(machine->vm, fd, page);
	munmap(page, page_size());
	close(fd);
	return raw_of_errno(error);
}

/* What is asked of a file that cannot be bound is beside the point: these features build on the one above. */
enum raw_state raw_gmem_mmap(const struct raw_machine *machine, unsigned long unused)
{
	enum raw_state bound = raw_gmem_bind(machine, unused);
	void *page;

	if (bound != RAW_PRESENT)
		return bound;
	page = map(machine->vm, MMAP);
	if (!page)
		return raw_of_errno(errno);
	munmap(page, page_size());
	return RAW_PRESENT;
}

enum raw_state raw_gmem_shared(const struct raw_machine *machine, unsigned long unused)
{
	enum raw_state mapped = raw_gmem_mmap(machine, unused);
	void *page;
	int error;

	if (mapped != RAW_PRESENT)
		return mapped;
	page = map(machine->vm, SHARED);
	if (!page)
		return raw_of_errno(errno);
	error = touch(page);
	munmap(page, page_size());
	return raw_of_errno(error);
}

/* A page of text goes in by pwrite() and is read through a mapping. */
static int write_and_look(int fd)
{
	char text[65536];
	void *at;
	int error = EIO;

	memset(text, 'w', sizeof(text));
	if (pwrite(fd, text, page_size(), 0) != (ssize_t)page_size())
		return ENODEV;
	at = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return errno;
	if (memcmp(at, text, page_size()) == 0)
		error = 0;
	munmap(at, page_size());
	return error;
}

static bool writes(int vm, uint64_t flag)
{
	int fd = make(vm, SHARED | flag), error;

	if (fd < 0)
		return false;
	error = write_and_look(fd);
	close(fd);
	return error == 0;
}

enum raw_state raw_gmem_write(const struct raw_machine *machine, unsigned long unused)
{
	enum raw_state shared = raw_gmem_shared(machine, unused);

	if (shared != RAW_PRESENT)
		return shared;
	return writes(machine->vm, BIT2) || writes(machine->vm, BIT3) ? RAW_PRESENT : RAW_ABSENT;
}

/* Bit 2, where it is not write(): we can touch it, and whoever pins pages cannot. */
enum raw_state raw_gmem_hidden(const struct raw_machine *machine, unsigned long unused)
{
	enum raw_state shared = raw_gmem_shared(machine, unused);
	void *page;
	bool hidden;

	if (shared != RAW_PRESENT)
		return shared;
	if (writes(machine->vm, BIT2))
		return RAW_ABSENT;
	page = map(machine->vm, SHARED | BIT2);
	if (!page)
		return raw_of_errno(errno);
	hidden = madvise(page, page_size(), MADV_POPULATE_WRITE) < 0 && (errno == EFAULT || errno == EINVAL) && touch(page) == 0;
	munmap(page, page_size());
	return hidden ? RAW_PRESENT : RAW_ABSENT;
}

enum raw_state raw_gmem_numa(const struct raw_machine *machine, unsigned long unused)
{
	enum raw_state bound = raw_gmem_bind(machine, unused);
	struct statfs about;
	int fd, r;

	if (bound != RAW_PRESENT)
		return bound;
	fd = make(machine->vm, 0);
	if (fd < 0)
		return raw_of_errno(errno);
	r = fstatfs(fd, &about);
	drop(fd);
	if (r < 0)
		return raw_of_errno(errno);
	return about.f_type == RAW_GUEST_MEMFD_MAGIC ? RAW_PRESENT : RAW_ABSENT;
}

enum raw_state raw_gmem_attributes(const struct raw_machine *machine, unsigned long unused)
{
	uint64_t convert[16] = { 0, (uint64_t)sysconf(_SC_PAGESIZE), 8 }; /* offset, size, PRIVATE */
	enum raw_state bound = raw_gmem_bind(machine, unused);
	int fd, error;

	if (bound != RAW_PRESENT)
		return bound;
	fd = make(machine->vm, 0);
	if (fd < 0)
		return raw_of_errno(errno);
	error = raw_answer(fd, RAW_SET_MEMORY_ATTRIBUTES2);
	if (error == EFAULT) /* known, which it is on VMs without private memory too: one page of a file that is thrown away */
		error = ioctl(fd, RAW_SET_MEMORY_ATTRIBUTES2, convert) < 0 ? errno : 0;
	else
		error = error ? error : ENOTTY;
	close(fd);
	return error ? raw_of_errno(error) : RAW_PRESENT;
}
