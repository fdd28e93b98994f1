/* SPDX-License-Identifier: MIT */
/* Raw probes of userfaultfd. Every trial has an fd of its own, since one shakes hands once. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rawprobe.h"

#define RAW_UFFD_NEW 0x0000aa00ul
#define RAW_UFFDIO_API 0xc018aa3ful
#define RAW_UFFDIO_REGISTER 0xc020aa00ul
#define RAW_USER_MODE_ONLY 1
#define RAW_SET_MODE (UINT64_C(1) << 10) /* in the mask of ioctls: only the real RWP brings it */
#define RAW_RWP 17ul
#define RAW_RWP_ASYNC 18ul
#define RAW_WP_ASYNC 15ul
#define RAW_MODE_WP 2ul

#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK)

static int from_device(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd, error;

	if (device < 0)
		return -1;
	fd = ioctl(device, RAW_UFFD_NEW, (unsigned long)OPEN_FLAGS);
	error = errno;
	close(device);
	errno = error;
	return fd;
}

/* What hears of faults of the kernel; then what does not. */
static int full(void)
{
	int fd = from_device();

	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, OPEN_FLAGS);
}

static int any(void)
{
	int fd = full();

	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, OPEN_FLAGS | RAW_USER_MODE_ONLY);
}

static enum raw_state made(int fd)
{
	if (fd < 0)
		return raw_of_errno(errno);
	close(fd);
	return RAW_PRESENT;
}

enum raw_state raw_uffd_device(const struct raw_machine *machine, unsigned long unused)
{
	(void)machine;
	(void)unused;
	return made(from_device());
}

enum raw_state raw_uffd_kernel(const struct raw_machine *machine, unsigned long unused)
{
	(void)machine;
	(void)unused;
	return made(full());
}

enum raw_state raw_uffd_any(const struct raw_machine *machine, unsigned long unused)
{
	(void)machine;
	(void)unused;
	return made(any());
}

/* 0 or an errno; what the kernel granted goes to api. */
static int shake(int fd, uint64_t features, uint64_t api[3])
{
	api[0] = 0xaa;
	api[1] = features;
	api[2] = 0;
	return ioctl(fd, RAW_UFFDIO_API, api) < 0 ? errno : 0;
}

/* Asks for the feature itself: a kernel that has it not refuses. */
enum raw_state raw_uffd_bit(const struct raw_machine *machine, unsigned long bit)
{
	uint64_t wanted = UINT64_C(1) << bit, api[3];
	int fd = any(), error;

	(void)machine;
	if (fd < 0)
		return raw_of_errno(errno);
	if (bit == RAW_RWP_ASYNC)
		wanted |= UINT64_C(1) << RAW_RWP;
	error = shake(fd, wanted, api);
	close(fd);
	if (error)
		return raw_of_errno(error);
	if ((api[1] & wanted) != wanted || (bit >= RAW_RWP && !(api[2] & RAW_SET_MODE)))
		return RAW_ABSENT;
	return RAW_PRESENT;
}

static int register_page(int fd, void *page, uint64_t features, uint64_t mode)
{
	uint64_t range[4] = { (uintptr_t)page, (uint64_t)sysconf(_SC_PAGESIZE), mode, 0 }, api[3];
	int error = shake(fd, features, api);

	if (error)
		return error;
	return ioctl(fd, RAW_UFFDIO_REGISTER, range) < 0 ? errno : 0;
}

static enum raw_state try_page(void *page, unsigned long mode)
{
	uint64_t features = mode == RAW_MODE_WP ? UINT64_C(1) << RAW_WP_ASYNC : 0;
	int fd = any(), error;

	if (fd < 0)
		return raw_of_errno(errno);
	error = register_page(fd, page, features, mode);
	close(fd);
	return raw_of_errno(error);
}

/* No feature bit tells whether a guest_memfd mapping is accepted. Where it is not known that there is a guest_memfd, nothing is
 * withheld. */
enum raw_state raw_uffd_register(const struct raw_machine *machine, unsigned long mode)
{
	enum raw_state both = raw_gmem_shared(machine, 0);
	void *page;

	if (both == RAW_PRESENT)
		both = mode == RAW_MODE_WP ? raw_uffd_bit(machine, RAW_WP_ASYNC) : raw_uffd_any(machine, 0);
	if (both != RAW_PRESENT)
		return both;
	page = raw_gmem_page(machine->vm);
	if (!page)
		return raw_of_errno(errno);
	both = try_page(page, mode);
	munmap(page, (size_t)sysconf(_SC_PAGESIZE));
	return both;
}
