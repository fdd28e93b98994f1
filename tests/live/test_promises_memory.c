/* SPDX-License-Identifier: MIT */
/* What libgmem relies on in the kernel to fill, discard, look at and place pages. One promise a test. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "pages.h"
#include "promise.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HUGE ((size_t)2 << 20)
#define PAGES 16u
#define PUNCH (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)
#define NOT_TOLD 77

struct file {
	int vm, fd; /* vm: -1 = a memfd */
	size_t page, size;
	unsigned char *at;
};

static struct file memfd_make(unsigned int flags)
{
	struct file f = { .vm = -1, .page = flags & MFD_HUGETLB ? HUGE : promise_page() };

	f.size = flags & MFD_HUGETLB ? HUGE : PAGES * f.page;
	f.fd = memfd_create("promise", MFD_CLOEXEC | flags);
	assert_true(f.fd >= 0);
	assert_int_equal(ftruncate(f.fd, (off_t)f.size), 0);
	f.at = promise_map(f.fd, f.size);
	return f;
}

static struct file gmem_make(void)
{
	struct file f = { .vm = guest_vm(), .page = promise_page() };

	f.size = PAGES * f.page;
	f.fd = promise_gmem(f.vm, f.size, PROMISE_SHARED);
	f.at = promise_map(f.fd, f.size);
	return f;
}

static void file_end(struct file *f)
{
	munmap(f->at, f->size);
	close(f->fd);
	if (f->vm >= 0)
		close(f->vm);
}

static void allocate(const struct file *f, size_t first, size_t count)
{
	assert_int_equal(fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)(first * f->page), (off_t)(count * f->page)), 0);
}

static void punch(const struct file *f, size_t first, size_t count)
{
	assert_int_equal(fallocate(f->fd, PUNCH, (off_t)(first * f->page), (off_t)(count * f->page)), 0);
}

static void populate(const struct file *f, size_t first, size_t count)
{
	int error = promise_errno(madvise(f->at + first * f->page, count * f->page, MADV_POPULATE_WRITE));

	if (error == EINVAL)
		gt_skip("no MADV_POPULATE_WRITE before kernel 5.14");
	assert_int_equal(error, 0);
}

static int64_t cached(const struct file *f, size_t first, size_t count)
{
	int64_t pages = pages_cached(f->fd, first * f->page, count * f->page);

	if (pages == -ENOSYS)
		gt_skip("no cachestat() before kernel 6.5");
	return pages;
}

static bool resident(const struct file *f, size_t page)
{
	unsigned char vector[PAGES];

	pages_resident(f->fd, PAGES, vector);
	return vector[page] & 1;
}

/* --- discarding --- */

static void punching_frees(struct file *f)
{
	relied_on_by("lib/memory_discard.c: punch()");
	memset(f->at, 0x11, f->size);
	assert_int_equal(cached(f, 0, PAGES), PAGES);
	punch(f, 3, 5);
	assert_int_equal(cached(f, 0, PAGES), PAGES - 5);
	assert_int_equal(cached(f, 3, 5), 0);
	for (size_t i = 0; i < f->size; i++)
		assert_int_equal(f->at[i], i / f->page >= 3 && i / f->page < 8 ? 0 : 0x11);
	punch(f, 0, PAGES);
	punch(f, 0, PAGES); /* what is absent may be freed again */
	assert_int_equal(cached(f, 0, PAGES), 0);
	file_end(f);
}

static void punching_a_guest_memfd_frees(void **state)
{
	struct file f = gmem_make();

	(void)state;
	punching_frees(&f);
}

static void punching_a_memfd_frees(void **state)
{
	struct file f = memfd_make(0);

	(void)state;
	punching_frees(&f);
}

/* --- looking --- */

static void resident_means_initialised(struct file *f)
{
	relied_on_by("lib/memory_run.c: state_in_guest_memfd()");
	allocate(f, 0, 8);
	assert_int_equal(cached(f, 0, PAGES), 8);
	assert_int_equal(cached(f, 7, 1), 1);
	assert_int_equal(cached(f, 8, 1), 0);
	assert_false(resident(f, 5));
	f->at[5 * f->page] = 1;
	assert_true(resident(f, 5));
	assert_false(resident(f, 4));
	assert_false(resident(f, 9));
	file_end(f);
}

static void resident_pages_of_a_guest_memfd_are_initialised(void **state)
{
	struct file f = gmem_make();

	(void)state;
	resident_means_initialised(&f);
}

static void resident_pages_of_a_memfd_are_initialised(void **state)
{
	struct file f = memfd_make(0);

	(void)state;
	resident_means_initialised(&f);
}

static void allocated_page_is_a_hole_until_it_is_touched(void **state)
{
	struct file f = memfd_make(0);

	(void)state;
	relied_on_by("lib/memory_run.c: state_in_memfd()");
	allocate(&f, 0, PAGES);
	assert_int_equal(promise_errno(lseek(f.fd, 0, SEEK_DATA)), ENXIO);
	f.at[6 * f.page] = 1;
	assert_int_equal(lseek(f.fd, 0, SEEK_DATA), 6 * f.page);
	assert_int_equal(lseek(f.fd, (off_t)(6 * f.page), SEEK_HOLE), 7 * f.page);
	file_end(&f);
}

static int see_all(void *arg)
{
	const struct file *f = arg;
	unsigned char vector[PAGES];

	assert_int_equal(syscall(SYS_faccessat2, f->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS), -1);
	assert_int_equal(errno, EACCES);
	pages_resident(f->fd, PAGES, vector);
	for (size_t i = 0; i < PAGES; i++)
		if (!(vector[i] & 1))
			return NOT_TOLD;
	return 0;
}

static void mincore_lies_to_a_foreign_user(void **state)
{
	struct file f = gmem_make();
	int r;

	(void)state;
	relied_on_by("lib/memory_run.c: may_see()");
	f.at[0] = 1;
	assert_false(resident(&f, 1));
	r = gt_as_user(GT_NOBODY, see_all, &f);
	file_end(&f);
	if (r == NOT_TOLD)
		gt_skip("mincore() tells this user the truth: the library says less than it could");
	assert_int_equal(r, 0);
}

/* A memfd has permissions for all: there is no user whom mincore() would lie to. */
static int may_write(void *arg)
{
	const struct file *f = arg;

	return syscall(SYS_faccessat2, f->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) == 0 ? 0 : errno;
}

static void any_user_may_look_at_a_memfd(void **state)
{
	struct file f = memfd_make(0);

	(void)state;
	relied_on_by("lib/sys.c: gmemi_sys_may_see()");
	assert_int_equal(gt_as_user(GT_NOBODY, may_write, &f), 0);
	file_end(&f);
}

static int64_t allocated_in(const struct file *f)
{
	struct stat about;

	assert_int_equal(fstat(f->fd, &about), 0);
	assert_int_equal(about.st_size, f->size);
	return (int64_t)about.st_blocks * 512;
}

static void blocks_tell_of_huge_pages(void **state)
{
	struct file f = memfd_make(MFD_HUGETLB | 21u << 26);
	struct stat about;

	(void)state;
	relied_on_by("lib/memory_run.c: state_in_hugetlb(); lib/memory_import.c: find_page_size()");
	assert_int_equal(fstat(f.fd, &about), 0);
	assert_int_equal(about.st_blksize, HUGE);
	assert_int_equal(allocated_in(&f), 0);
	f.at[0] = 1;
	assert_int_equal(allocated_in(&f), HUGE);
	punch(&f, 0, 1);
	assert_int_equal(allocated_in(&f), 0);
	assert_int_equal(f.at[0], 0);
	file_end(&f);
}

/* --- filling --- */

static void populating_keeps_content(struct file *f)
{
	relied_on_by("lib/fill.c: gmemi_fill_prepare_mapped()");
	allocate(f, 2, 6);
	f->at[3 * f->page + 5] = 0x33;
	f->at[12 * f->page] = 0x44;
	allocate(f, 0, PAGES);
	populate(f, 0, PAGES);
	assert_int_equal(f->at[3 * f->page + 5], 0x33);
	assert_int_equal(f->at[12 * f->page], 0x44);
	f->at[3 * f->page + 5] = f->at[12 * f->page] = 0;
	for (size_t i = 0; i < f->size; i++)
		assert_int_equal(f->at[i], 0);
	file_end(f);
}

static void populating_a_guest_memfd_keeps_content(void **state)
{
	struct file f = gmem_make();

	(void)state;
	populating_keeps_content(&f);
}

static void populating_a_memfd_keeps_content(void **state)
{
	struct file f = memfd_make(0);

	(void)state;
	populating_keeps_content(&f);
}

static int content_of(const struct file *f)
{
	int fd = memfd_create("content", MFD_CLOEXEC);
	unsigned char page[4096];

	assert_true(fd >= 0);
	for (size_t i = 0; i < f->size; i += sizeof(page)) {
		memset(page, (int)(1 + i / sizeof(page)), sizeof(page));
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	return fd;
}

static void assert_content(const struct file *f, size_t from, size_t to, size_t shift)
{
	for (size_t i = 0; i < f->size; i++)
		assert_int_equal(f->at[i], i >= from && i < to ? 1 + (i - shift) / 4096 : 0);
}

static void pread_fills_a_guest_memfd(void **state)
{
	struct file f = gmem_make();
	int fd = content_of(&f);

	(void)state;
	relied_on_by("lib/fill_read.c: read_to()");
	assert_int_equal(pread(fd, f.at, f.size, 0), f.size);
	assert_content(&f, 0, f.size, 0);
	close(fd);
	file_end(&f);
}

static void splice_goes_where_it_is_told(void **state)
{
	struct file f = memfd_make(0);
	off_t in = 0, out = (off_t)(3 * f.page + 100);
	const ssize_t length = 5000;
	int fd = content_of(&f), ends[2];

	(void)state;
	relied_on_by("lib/fill_splice.c");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(splice(fd, &in, ends[1], NULL, (size_t)length, 0), length);
	for (ssize_t done = 0, r; done < length; done += r) { /* page by page, perhaps */
		r = splice(ends[0], NULL, f.fd, &out, (size_t)(length - done), 0);
		assert_true(r > 0);
	}
	assert_int_equal(in, length);
	assert_int_equal(out, 3 * f.page + 100 + (size_t)length);
	assert_content(&f, 3 * f.page + 100, 3 * f.page + 100 + (size_t)length, 3 * f.page + 100);
	assert_int_equal(lseek(f.fd, 0, SEEK_CUR), 0); /* neither file's own offset has moved */
	close(ends[0]);
	close(ends[1]);
	close(fd);
	file_end(&f);
}

/* --- placing --- */

#define MPOL_BIND 2
#define MPOL_F_ADDR 2

static int policy_at(void *address)
{
	int mode = -1;

	assert_int_equal(syscall(SYS_get_mempolicy, &mode, NULL, 0, address, MPOL_F_ADDR), 0);
	return mode;
}

static int bind_to_node_0(void *address, size_t length)
{
	unsigned long mask = 1;
	int error = promise_errno(syscall(SYS_mbind, address, length, MPOL_BIND, &mask, sizeof(mask) * 8, 0));

	if (error == ENOSYS)
		gt_skip("this kernel has no NUMA policies");
	return error;
}

static void policy_of_a_memfd_is_the_files(void **state)
{
	struct file f = memfd_make(0);
	unsigned char *other = promise_map(f.fd, f.size);

	(void)state;
	relied_on_by("lib/memory_nodes.c: set()");
	assert_int_equal(bind_to_node_0(f.at + f.page, f.page), 0);
	assert_int_equal(policy_at(other + f.page), MPOL_BIND);
	assert_int_equal(policy_at(other), 0);
	munmap(other, f.size);
	file_end(&f);
}

static void policy_of_huge_pages_is_the_mappings(void **state)
{
	struct file f = memfd_make(MFD_HUGETLB | 21u << 26);
	unsigned char *other = promise_map(f.fd, f.size);
	bool kept;

	(void)state;
	relied_on_by("lib/memory_nodes.c: check_honoured()");
	assert_int_equal(bind_to_node_0(f.at, f.size), 0);
	kept = policy_at(other) == MPOL_BIND;
	munmap(other, f.size);
	file_end(&f);
	if (kept)
		gt_skip("this kernel keeps the policy of huge pages: the library could use that");
}

#define GUEST_MEMFD_MAGIC 0x474d454d

static void policy_of_a_guest_memfd_is_the_files_if_it_has_a_file_system(void **state)
{
	struct file f = gmem_make();
	unsigned char *other = promise_map(f.fd, f.size);
	struct statfs about;
	bool kept;

	(void)state;
	relied_on_by("lib/memory_nodes.c: check_honoured()");
	assert_int_equal(fstatfs(f.fd, &about), 0);
	assert_int_equal(bind_to_node_0(f.at, f.page), 0);
	kept = policy_at(other) == MPOL_BIND;
	munmap(other, f.size);
	file_end(&f);
	assert_int_equal(kept, about.f_type == GUEST_MEMFD_MAGIC);
}

/* --- importing --- */

static void sealed_file_cannot_be_cut(void **state)
{
	struct file f = memfd_make(MFD_ALLOW_SEALING);

	(void)state;
	relied_on_by("lib/memory_import.c: check_seals()");
	f.at[f.size - 1] = 1;
	assert_int_equal(fcntl(f.fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(fcntl(f.fd, F_GET_SEALS), F_SEAL_SHRINK);
	assert_int_equal(promise_errno(ftruncate(f.fd, (off_t)f.page)), EPERM);
	assert_int_equal(f.at[f.size - 1], 1);
	assert_int_equal(ftruncate(f.fd, (off_t)(2 * f.size)), 0);
	assert_int_equal(fcntl(f.fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	assert_int_equal(promise_errno(fcntl(f.fd, F_ADD_SEALS, F_SEAL_WRITE)), EPERM);
	file_end(&f);
}

#define GMEM GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(punching_a_guest_memfd_frees, GMEM),
	GT(punching_a_memfd_frees, GT_NEEDS_NOTHING),
	GT(resident_pages_of_a_guest_memfd_are_initialised, GMEM),
	GT(resident_pages_of_a_memfd_are_initialised, GT_NEEDS_NOTHING),
	GT(allocated_page_is_a_hole_until_it_is_touched, GT_NEEDS_NOTHING),
	GT(mincore_lies_to_a_foreign_user, GMEM | GT_NEEDS_ORDINARY_USER),
	GT(any_user_may_look_at_a_memfd, GT_NEEDS_ORDINARY_USER),
	GT(blocks_tell_of_huge_pages, GT_NEEDS_HUGETLB_2M),
	GT(populating_a_guest_memfd_keeps_content, GMEM),
	GT(populating_a_memfd_keeps_content, GT_NEEDS_NOTHING),
	GT(pread_fills_a_guest_memfd, GMEM),
	GT(splice_goes_where_it_is_told, GT_NEEDS_NOTHING),
	GT(policy_of_a_memfd_is_the_files, GT_NEEDS_NOTHING),
	GT(policy_of_huge_pages_is_the_mappings, GT_NEEDS_HUGETLB_2M),
	GT(policy_of_a_guest_memfd_is_the_files_if_it_has_a_file_system, GMEM),
	GT(sealed_file_cannot_be_cut, GT_NEEDS_NOTHING),
};

GT_MAIN("promises_memory", tests)
