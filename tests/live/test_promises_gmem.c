/* SPDX-License-Identifier: MIT */
/* What libgmem relies on in KVM: guest_memfd files. One promise a test. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "promise.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGES 8u

struct file {
	int vm, fd;
	size_t page, size;
	unsigned char *at; /* NULL = not mapped */
};

static struct file file_make(uint64_t flags)
{
	struct file f = { .vm = guest_vm(), .page = promise_page() };

	f.size = PAGES * f.page;
	f.fd = promise_gmem(f.vm, f.size, flags);
	if (flags & PROMISE_MMAP)
		f.at = promise_map(f.fd, f.size);
	return f;
}

static void file_end(struct file *f)
{
	if (f->at)
		munmap(f->at, f->size);
	close(f->fd);
	close(f->vm);
}

static unsigned char resident(const struct file *f, unsigned int page)
{
	unsigned char vector[PAGES];

	assert_int_equal(mincore(f->at, f->size, vector), 0);
	return vector[page] & 1;
}

/* --- what it is --- */

static void seek_is_refused(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	off_t r = lseek(f.fd, 0, SEEK_CUR);
	int error = errno;

	(void)state;
	relied_on_by("lib/vm_probe_gmem.c: a kernel where lseek() works has write()");
	file_end(&f);
	if (r == 0)
		gt_skip("this kernel has the patch: a guest_memfd can seek");
	assert_int_equal(r, -1);
	assert_int_equal(error, ESPIPE);
}

static void write_of_a_byte_changes_nothing(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	ssize_t r = pwrite(f.fd, "x", 1, 0);

	(void)state;
	relied_on_by("lib/vm_probe_gmem.c: try_write()");
	assert_int_equal(r, -1);
	assert_int_equal(f.at[0], 0);
	file_end(&f);
}

static void fd_is_inherited_by_exec(void **state)
{
	struct file f = file_make(0);
	int flags = fcntl(f.fd, F_GETFD);

	(void)state;
	relied_on_by("lib/sys.c: gmemi_sys_guest_memfd() sets FD_CLOEXEC itself");
	file_end(&f);
	if (flags & FD_CLOEXEC)
		gt_skip("this kernel sets FD_CLOEXEC by itself");
	assert_int_equal(flags, 0);
}

static void size_costs_nothing(void **state)
{
	struct file f = file_make(0);
	int fd = promise_gmem(f.vm, UINT64_C(1) << 62, 0);

	(void)state;
	relied_on_by("lib/memory.c: lengths up to 2^62");
	close(fd);
	file_end(&f);
}

static void unknown_flag_is_refused(void **state)
{
	uint64_t create[8] = { promise_page(), UINT64_C(1) << 40 };
	int vm = guest_vm(), fd = ioctl(vm, 0xc040aed4ul, create);

	(void)state;
	relied_on_by("lib/vm_probe_gmem.c: a file with a flag that the kernel has not cannot be made");
	assert_int_equal(fd, -1);
	assert_int_equal(errno, EINVAL);
	close(vm);
}

static void size_is_fixed(void **state)
{
	struct file f = file_make(PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/memory_create.c: a guest_memfd needs no seals");
	assert_int_equal(promise_errno(ftruncate(f.fd, 0)), EINVAL);
	assert_int_equal(promise_errno(ftruncate(f.fd, (off_t)(2 * f.size))), EINVAL);
	file_end(&f);
}

static void outlives_the_vm_fd(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	unsigned char *again;

	(void)state;
	relied_on_by("lib/memory.c: memory is used after the caller closed the VM");
	f.at[0] = 1;
	close(f.vm);
	assert_int_equal(f.at[0], 1);
	f.at[f.page] = 2;
	again = promise_map(f.fd, f.size);
	assert_int_equal(again[f.page], 2);
	munmap(again, f.size);
	f.vm = -1;
	file_end(&f);
}

/* --- its pages --- */

static void fallocate_keeps_content(void **state)
{
	struct file f = file_make(PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/fill.c: prepare() allocates over what is there");
	f.at[0] = 0x11;
	f.at[5 * f.page + 7] = 0x22;
	assert_int_equal(fallocate(f.fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)f.size), 0);
	assert_int_equal(f.at[0], 0x11);
	assert_int_equal(f.at[5 * f.page + 7], 0x22);
	assert_int_equal(f.at[f.page], 0);
	file_end(&f);
}

static void allocated_page_is_not_resident_before_it_is_touched(void **state)
{
	struct file f = file_make(PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/fill.c: extent_by_mincore()");
	assert_int_equal(fallocate(f.fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)f.size), 0);
	assert_int_equal(resident(&f, 3), 0);
	assert_int_equal(f.at[3 * f.page], 0); /* a touch */
	assert_int_equal(resident(&f, 3), 1);
	file_end(&f);
}

static void page_written_elsewhere_is_resident(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	unsigned char *other = promise_map(f.fd, f.size);

	(void)state;
	relied_on_by("lib/fill.c: extent_by_mincore() misses no page that has content");
	other[2 * f.page] = 1;
	assert_int_equal(resident(&f, 2), 1);
	munmap(other, f.size);
	assert_int_equal(resident(&f, 2), 1);
	assert_int_equal(madvise(f.at, f.size, MADV_DONTNEED), 0);
	assert_int_equal(resident(&f, 2), 1);
	assert_int_equal(f.at[2 * f.page], 1);
	assert_int_equal(resident(&f, 1), 0);
	file_end(&f);
}

static void page_written_by_the_guest_is_resident(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	struct guest *guest = guest_start(f.vm);

	(void)state;
	relied_on_by("lib/fill.c: extent_by_mincore() misses no page that the guest made");
	assert_int_equal(promise_slot(f.vm, 0, PROMISE_SLOT_GMEM, 0, f.size, f.at, f.fd), 0);
	assert_true(guest_store(guest, 4 * f.page, 0x44));
	assert_int_equal(resident(&f, 4), 1);
	assert_int_equal(f.at[4 * f.page], 0x44);
	assert_int_equal(resident(&f, 0), 0);
	guest_end(guest);
	file_end(&f);
}

static void punched_page_is_gone(void **state)
{
	struct file f = file_make(PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/vm_chain.c: the task of discarding");
	f.at[f.page] = 1;
	assert_int_equal(fallocate(f.fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)f.page, (off_t)f.page), 0);
	assert_int_equal(resident(&f, 1), 0);
	assert_int_equal(f.at[f.page], 0);
	file_end(&f);
}

static void populate_works_on_shared_files(void **state)
{
	struct file f = file_make(PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/fill.c: prepare(); lib/vm_probe_gmem.c: try_touch()");
	f.at[0] = 9;
	assert_int_equal(promise_errno(madvise(f.at, f.size, MADV_POPULATE_WRITE)), 0);
	assert_int_equal(resident(&f, PAGES - 1), 1);
	assert_int_equal(f.at[0], 9);
	file_end(&f);
}

static void populate_is_an_error_on_others(void **state)
{
	struct file f = file_make(PROMISE_MMAP);

	(void)state;
	relied_on_by("lib/vm_probe_gmem.c: try_touch() asks where a touch would be SIGBUS");
	assert_int_equal(promise_errno(madvise(f.at, f.size, MADV_POPULATE_WRITE)), EFAULT);
	file_end(&f);
}

static void file_without_mmap_cannot_be_mapped(void **state)
{
	struct file f = file_make(0);

	(void)state;
	relied_on_by("lib/vm_probe_gmem.c: gmemi_probe_gmem_mmap()");
	assert_true(mmap(NULL, f.size, PROT_READ, MAP_SHARED, f.fd, 0) == MAP_FAILED);
	assert_int_equal(errno, ENODEV);
	file_end(&f);
}

/* --- whose it is --- */

#define GUEST_MEMFD_MAGIC 0x474d454d

static void guest_memfd_is_told_by_magic_or_name(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	struct statfs about;
	char path[32], name[40] = "";

	(void)state;
	relied_on_by("lib/memory_import.c: backing_by_magic()");
	assert_int_equal(fstatfs(f.fd, &about), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.fd);
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	if (about.f_type != GUEST_MEMFD_MAGIC)
		assert_string_equal(name, "anon_inode:[kvm-gmem]");
	file_end(&f);
}

static void guest_memfd_of_another_vm_cannot_be_bound(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	int other = guest_vm();

	(void)state;
	relied_on_by("lib/memory_import.c: left to KVM, when it is bound");
	assert_int_equal(promise_slot(other, 0, PROMISE_SLOT_GMEM, 0, f.size, f.at, f.fd), EINVAL);
	assert_int_equal(promise_slot(f.vm, 0, PROMISE_SLOT_GMEM, 0, f.size, f.at, f.fd), 0);
	close(other);
	file_end(&f);
}

/* --- prefaulting --- */

struct pre_fault {
	uint64_t gpa, size, flags, padding[5];
};

#define PRE_FAULT 0xc040aed5ul

/* Into a range whose end is no memory: what was done before it counts, and the call has succeeded. */
static void pre_fault_tells_what_is_left(void **state)
{
	struct file f = file_make(PROMISE_SHARED);
	struct guest *guest = guest_start(f.vm);
	struct pre_fault range = { .size = 2 * f.size };
	uint64_t left = 2 * f.size;
	int r, error;

	(void)state;
	relied_on_by("lib/prefault_vcpu.c: gmemi_prefault_by_vcpu()");
	assert_int_equal(promise_slot(f.vm, 0, PROMISE_SLOT_GMEM, 0, f.size, f.at, f.fd), 0);
	do {
		r = ioctl(guest_vcpu(guest), PRE_FAULT, &range);
		error = promise_errno(r);
		assert_int_equal(range.gpa + range.size, 2 * f.size);
		assert_true(r != 0 || range.size < left);
		left = range.size;
	} while (r == 0 && left);
	guest_end(guest);
	file_end(&f);
	if (error == EINVAL || error == ENOTTY || error == EOPNOTSUPP)
		gt_skip("no KVM_PRE_FAULT_MEMORY here: %s", strerror(error));
	assert_int_equal(error, ENOENT);
	assert_int_equal(left, f.size);
}

#define GMEM GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(seek_is_refused, GMEM),
	GT(write_of_a_byte_changes_nothing, GMEM),
	GT(fd_is_inherited_by_exec, GMEM),
	GT(size_costs_nothing, GMEM),
	GT(unknown_flag_is_refused, GMEM),
	GT(size_is_fixed, GMEM),
	GT(outlives_the_vm_fd, GMEM),
	GT(fallocate_keeps_content, GMEM),
	GT(allocated_page_is_not_resident_before_it_is_touched, GMEM),
	GT(page_written_elsewhere_is_resident, GMEM),
	GT(page_written_by_the_guest_is_resident, GMEM | GT_NEEDS_VCPU),
	GT(punched_page_is_gone, GMEM),
	GT(populate_works_on_shared_files, GMEM),
	GT(populate_is_an_error_on_others, GMEM),
	GT(file_without_mmap_cannot_be_mapped, GMEM),
	GT(guest_memfd_is_told_by_magic_or_name, GMEM),
	GT(guest_memfd_of_another_vm_cannot_be_bound, GMEM),
	GT(pre_fault_tells_what_is_left, GMEM | GT_NEEDS_VCPU),
};

GT_MAIN("promises_gmem", tests)
