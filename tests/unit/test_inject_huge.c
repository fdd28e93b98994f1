/* SPDX-License-Identifier: MIT */
/* Zeros for huge pages that have no file here, where the kernel makes none by itself, with every call failing in turn. */
#include "gt.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "faults.h"
#include "handles.h"
#include "inject.h"
#include "peers.h"
#include "points.h"
#include "uapi/userfaultfd.h"

#define HUGE (UINT64_C(2) << 20)

struct huge {
	struct gmem_vm *vm;
	struct gmem_uffd *uffd;
	unsigned char *at;
};

/* As its owner has it: watched, and sent. */
static int watch(void *at)
{
	struct uffdi_register range = { .start = (uintptr_t)at, .length = HUGE, .mode = UFFDI_REGISTER_MISSING };
	int fd = new_uffd(UINT64_C(1) << UFFDI_BIT_MISSING_HUGETLBFS);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDI_REGISTER, &range), 0);
	return fd;
}

static struct huge make_huge(void)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .page_size = HUGE };
	struct huge huge = { 0 };
	int fd;

	huge.at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	assert_ptr_not_equal(huge.at, MAP_FAILED);
	fd = watch(huge.at);
	assert_int_equal(gmem_vm_open(-1, &huge.vm, NULL), 0);
	assert_int_equal(gmem_uffd_import(huge.vm, fd, &huge.uffd, NULL), 0);
	close(fd);
	opts.hva = (uintptr_t)huge.at;
	assert_int_equal(gmem_uffd_register(huge.uffd, NULL, 0, HUGE, &opts), 0);
	return huge;
}

/* Whoever waits gets zeros or goes on waiting: a failure changes nothing, and the next call makes it good. */
static int zero_it(void *arg)
{
	struct toucher toucher;
	uint64_t done = UINT64_MAX;
	struct huge huge;
	int r;

	(void)arg;
	inject_pause();
	huge = make_huge();
	touch_begin(&toucher, huge.at + HUGE - page(), READ);
	expect_event(huge.uffd, GMEM_FAULT_PAGE, NULL, 0, HUGE);
	inject_resume();
	r = gmem_uffd_resolve(huge.uffd, NULL, 0, HUGE, GMEM_RESOLVE_ZERO, NULL, &done);
	inject_pause();
	assert_int_equal(done, r == 0 ? HUGE : 0);
	assert_int_equal(counted(huge.uffd).remaining, r == 0 ? 0 : HUGE);
	if (r)
		assert_int_equal(gmem_uffd_resolve(huge.uffd, NULL, 0, HUGE, GMEM_RESOLVE_ZERO, NULL, NULL), 0);
	assert_int_equal(gmem_uffd_resolve(huge.uffd, NULL, 0, HUGE, GMEM_RESOLVE_WAKE, NULL, NULL), 0);
	assert_int_equal(touch_end(&toucher), 0);
	assert_bytes(huge.at, 0, HUGE);
	gmem_uffd_destroy(huge.uffd);
	gmem_vm_close(huge.vm);
	munmap(huge.at, HUGE);
	inject_resume();
	return r;
}

static void zeros(void **state)
{
	(void)state;
	want_huge_pages(1);
	assert_true(each(zero_it, NULL) >= 2); /* the mapping of zeros, and the copy of them */
}

static const struct gt_test tests[] = {
	GT(zeros, GT_NEEDS_UFFD | GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("inject_huge", tests)
