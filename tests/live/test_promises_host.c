/* SPDX-License-Identifier: MIT */
/* What libgmem relies on outside KVM: memfds, mappings, userfaultfd, fork. One promise a test. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "promise.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define MFD_NOEXEC 8u /* MFD_NOEXEC_SEAL, newer than the headers */
#define PAGES 16u

static int memfd(size_t size, unsigned int flags)
{
	int fd = memfd_create("promise", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void *anonymous(size_t size, int protection)
{
	void *at = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

/* --- memfds --- */

static void seek_knows_absent_pages(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, 0);

	(void)state;
	relied_on_by("lib/fill.c: extent_by_seek()");
	assert_int_equal(lseek(fd, 0, SEEK_DATA), -1);
	assert_int_equal(errno, ENXIO);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)(5 * page + 9)), 1);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 5 * page);
	assert_int_equal(lseek(fd, (off_t)(5 * page), SEEK_DATA), 5 * page);
	assert_int_equal(lseek(fd, (off_t)(5 * page), SEEK_HOLE), 6 * page);
	assert_int_equal(lseek(fd, (off_t)(6 * page), SEEK_DATA), -1);
	assert_int_equal(errno, ENXIO);
	close(fd);
}

static void seek_finds_pages_written_through_a_mapping(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, 0);
	unsigned char *at = promise_map(fd, PAGES * page);

	(void)state;
	relied_on_by("lib/fill.c: extent_by_seek() misses no page that has content");
	at[7 * page] = 1;
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 7 * page);
	munmap(at, PAGES * page);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 7 * page);
	close(fd);
}

static void page_written_by_the_guest_is_found_by_seek(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, 0), vm = guest_vm();
	struct guest *guest = guest_start(vm);
	unsigned char *at = promise_map(fd, PAGES * page);
	struct kvm_userspace_memory_region slot = { .memory_size = PAGES * page, .userspace_addr = (uintptr_t)at };

	(void)state;
	relied_on_by("lib/fill.c: extent_by_seek() misses no page that the guest made");
	assert_int_equal(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	assert_true(guest_store(guest, 3 * page, 1));
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 3 * page);
	guest_end(guest);
	close(vm);
	munmap(at, PAGES * page);
	close(fd);
}

static void fallocate_keeps_content(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, 0);
	char seen = 0;

	(void)state;
	relied_on_by("lib/fill.c: prepare() allocates over what is there");
	assert_int_equal(pwrite(fd, "x", 1, (off_t)page), 1);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(PAGES * page)), 0);
	assert_int_equal(pread(fd, &seen, 1, (off_t)page), 1);
	assert_int_equal(seen, 'x');
	close(fd);
}

static void sealed_file_keeps_its_size(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, MFD_ALLOW_SEALING);

	(void)state;
	relied_on_by("lib/memory_create.c: make_memfd()");
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_int_equal(promise_errno(ftruncate(fd, 0)), EPERM);
	assert_int_equal(promise_errno(ftruncate(fd, (off_t)(2 * PAGES * page))), EPERM);
	assert_int_equal(promise_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)), EPERM);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, (off_t)page),
			 0); /* discard goes on working */
	close(fd);
}

static void unknown_memfd_flag_is_einval(void **state)
{
	int fd = memfd_create("promise", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC);

	(void)state;
	relied_on_by("lib/memory_create.c: open_memfd() tries again without MFD_NOEXEC_SEAL");
	if (fd < 0)
		assert_int_equal(errno, EINVAL);
	else
		close(fd);
	assert_int_equal(memfd_create("promise", MFD_CLOEXEC | 1u << 20), -1);
	assert_int_equal(errno, EINVAL);
}

/* More than any machine has: the reservation cannot succeed, however many pages are free. */
static void hugetlb_mapping_is_refused_without_pages(void **state)
{
	size_t size = (size_t)1 << 46;
	int fd = memfd_create("promise", MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);
	void *at;

	(void)state;
	relied_on_by("lib/vm_probe_host.c: reserve_one()");
	if (fd < 0)
		gt_skip("no memfd on 2 MiB pages: %s", strerror(errno));
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at == MAP_FAILED);
	assert_int_equal(errno, ENOMEM);
	close(fd);
}

/* --- mappings and fork --- */

static int read_byte(void *at)
{
	return *(volatile unsigned char *)at;
}

static void wiped_page_reads_zero_in_the_child(void **state)
{
	unsigned char *at = anonymous(promise_page(), PROT_READ | PROT_WRITE);

	(void)state;
	relied_on_by("lib/vm.c: mark_alive()");
	assert_int_equal(madvise(at, promise_page(), MADV_WIPEONFORK), 0);
	at[0] = 7;
	assert_int_equal(gt_in_child(read_byte, at), 0);
	assert_int_equal(at[0], 7);
	munmap(at, promise_page());
}

static void populate_gives_pages(void **state)
{
	size_t page = promise_page();
	int fd = memfd(PAGES * page, 0), error;
	unsigned char *at = promise_map(fd, PAGES * page), vector[PAGES];

	(void)state;
	relied_on_by("lib/fill.c: prepare()");
	at[page] = 3;
	error = promise_errno(madvise(at, PAGES * page, MADV_POPULATE_WRITE));
	assert_int_equal(mincore(at, PAGES * page, vector), 0);
	assert_int_equal(at[page], 3);
	munmap(at, PAGES * page);
	close(fd);
	if (error == EINVAL)
		gt_skip("no MADV_POPULATE_WRITE before kernel 5.14");
	assert_int_equal(error, 0);
	assert_int_equal(vector[PAGES - 1] & 1, 1);
}

/* Nobody else's mapping can come between. */
static void mapping_replaces_a_reservation(void **state)
{
	size_t page = promise_page();
	unsigned char *reserved = anonymous(4 * page, PROT_NONE);
	int fd = memfd(2 * page, 0);

	(void)state;
	relied_on_by("lib/memory_map.c: establish(), reserve()");
	assert_true(mmap(reserved + page, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == reserved + page);
	reserved[page] = 1;
	assert_true(mmap(reserved + page, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			 0) == reserved + page);
	munmap(reserved, 4 * page);
	close(fd);
}

/* --- input --- */

static void pipe_cannot_seek(void **state)
{
	int ends[2];

	(void)state;
	relied_on_by("lib/populate_input.c: gmemi_input_from_fd()");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(promise_errno(lseek(ends[0], 0, SEEK_CUR)), ESPIPE);
	close(ends[0]);
	close(ends[1]);
}

static void last_hole_is_enxio(void **state)
{
	int fd = memfd(PAGES * promise_page(), 0);

	(void)state;
	relied_on_by("lib/populate_input.c: gmemi_input_hole()");
	assert_int_equal(promise_errno(lseek(fd, 0, SEEK_DATA)), ENXIO);
	assert_int_equal(promise_errno(lseek(fd, (off_t)(PAGES * promise_page()), SEEK_DATA)), ENXIO);
	assert_int_equal(lseek(fd, 0, SEEK_END), PAGES * promise_page());
	close(fd);
}

/* --- userfaultfd --- */

#define UFFD_API 0xc018aa3ful
#define UFFD_REGISTER 0xc020aa00ul
#define WP_ASYNC (UINT64_C(1) << 15)

struct handshake {
	uint64_t api, features, ioctls;
};

static int uffd(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	fd = device >= 0 ? ioctl(device, 0xaa00ul, (unsigned long)(O_CLOEXEC | O_NONBLOCK))
			 : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (device >= 0)
		close(device);
	assert_true(fd >= 0);
	return fd;
}

static int shake(int fd, uint64_t features, struct handshake *answer)
{
	*answer = (struct handshake){ .api = 0xaa, .features = features };
	return promise_errno(ioctl(fd, UFFD_API, answer));
}

static void handshake_without_wishes_tells_what_there_is(void **state)
{
	struct handshake answer;
	int fd = uffd();

	(void)state;
	relied_on_by("lib/vm_probe_uffd.c: offered()");
	assert_int_equal(shake(fd, 0, &answer), 0);
	assert_true(answer.features & UINT64_C(1) << 3); /* EVENT_REMOVE: since 4.11 */
	assert_int_equal(shake(fd, 0, &answer), EINVAL); /* once is all */
	close(fd);
}

static void refused_handshake_tells_nothing_and_can_be_repeated(void **state)
{
	struct handshake answer;
	int fd = uffd();

	(void)state;
	relied_on_by("lib/vm_probe_uffd.c: asks first, on an fd that is thrown away");
	assert_int_equal(shake(fd, UINT64_C(1) << 60, &answer), EINVAL);
	assert_int_equal(answer.features, 0);
	assert_int_equal(shake(fd, 0, &answer), 0);
	close(fd);
}

static int register_gmem(uint64_t features, uint64_t mode)
{
	int fd = uffd(), vm = guest_vm(), gmem = promise_gmem(vm, promise_page(), PROMISE_SHARED), error;
	unsigned char *at = promise_map(gmem, promise_page());
	uint64_t range[4] = { (uintptr_t)at, promise_page(), mode };
	struct handshake answer;

	error = shake(fd, features, &answer);
	if (error == 0)
		error = promise_errno(ioctl(fd, UFFD_REGISTER, range));
	munmap(at, promise_page());
	close(gmem);
	close(vm);
	close(fd);
	return error;
}

static void refused_registration_of_guest_memfd_is_einval(void **state)
{
	int minor = register_gmem(0, 4), missing = register_gmem(0, 1);

	(void)state;
	relied_on_by("lib/vm_probe_uffd.c: gmemi_probe_uffd_gmem()");
	if (minor == 0 && missing == 0)
		gt_skip("this kernel takes userfaultfd on guest_memfd");
	assert_true(minor == 0 || minor == EINVAL);
	assert_true(missing == 0 || missing == EINVAL);
}

static void asynchronous_write_protection_takes_guest_memfd(void **state)
{
	struct handshake answer;
	int fd = uffd(), error;

	(void)state;
	relied_on_by("lib/vm_probe_uffd.c: gmemi_probe_uffd_gmem()");
	error = shake(fd, WP_ASYNC, &answer);
	close(fd);
	if (error)
		gt_skip("no asynchronous write protection before kernel 6.7");
	assert_int_equal(register_gmem(WP_ASYNC, 2), 0);
	assert_int_equal(register_gmem(0, 2), EINVAL); /* synchronous: no */
}

static const struct gt_test tests[] = {
	GT(seek_knows_absent_pages, GT_NEEDS_NOTHING),
	GT(seek_finds_pages_written_through_a_mapping, GT_NEEDS_NOTHING),
	GT(page_written_by_the_guest_is_found_by_seek, GT_NEEDS_VCPU),
	GT(fallocate_keeps_content, GT_NEEDS_NOTHING),
	GT(sealed_file_keeps_its_size, GT_NEEDS_NOTHING),
	GT(unknown_memfd_flag_is_einval, GT_NEEDS_NOTHING),
	GT(hugetlb_mapping_is_refused_without_pages, GT_NEEDS_NOTHING),
	GT(wiped_page_reads_zero_in_the_child, GT_NEEDS_NOTHING),
	GT(populate_gives_pages, GT_NEEDS_NOTHING),
	GT(mapping_replaces_a_reservation, GT_NEEDS_NOTHING),
	GT(pipe_cannot_seek, GT_NEEDS_NOTHING),
	GT(last_hole_is_enxio, GT_NEEDS_NOTHING),
	GT(handshake_without_wishes_tells_what_there_is, GT_NEEDS_UFFD),
	GT(refused_handshake_tells_nothing_and_can_be_repeated, GT_NEEDS_UFFD),
	GT(refused_registration_of_guest_memfd_is_einval, GT_NEEDS_UFFD | GT_NEEDS_GUEST_MEMFD),
	GT(asynchronous_write_protection_takes_guest_memfd, GT_NEEDS_UFFD | GT_NEEDS_GUEST_MEMFD),
};

GT_MAIN("promises_host", tests)
