/* SPDX-License-Identifier: MIT */
/* gmem_set_nodes(): the policy is the file's, as the kernel tells through a mapping that the library knows nothing of. */
#include <gmem.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "huge.h"
#include "promise.h"

#define MPOL_DEFAULT 0
#define MPOL_BIND 2
#define MPOL_INTERLEAVE 3
#define MPOL_PREFERRED_MANY 5
#define MPOL_F_ADDR 2
#define MASK_WORDS 16

struct file {
	struct gmem_vm *vm;
	struct gmem *mem;
	int vm_fd;
	uint64_t page, length;
	unsigned char *at; /* a mapping of the test's own */
};

static const uint64_t node_0 = 1;

/* Where there are no policies, there is nothing to test. */
static void require_policies(void)
{
	int mode;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) && errno == ENOSYS)
		gt_skip("this kernel has no NUMA policies");
}

static struct file file_make(uint32_t backing, uint64_t length)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };
	struct gmem_info info = { .size = sizeof(info) };
	struct file f = { .vm_fd = -1, .length = length };

	require_policies();
	if (backing == GMEM_BACKING_GUEST_MEMFD)
		f.vm_fd = guest_vm();
	assert_int_equal(gmem_vm_open(f.vm_fd, &f.vm, NULL), 0);
	assert_int_equal(gmem_create(f.vm, length, &f.mem, &opts), 0);
	assert_int_equal(gmem_query(f.mem, &info), 0);
	f.page = info.page_size;
	f.at = promise_map(gmem_get_fd(f.mem, GMEM_FD_MEMORY), length);
	return f;
}

static void file_end(struct file *f)
{
	munmap(f->at, f->length);
	gmem_destroy(f->mem);
	gmem_vm_close(f->vm);
	if (f->vm_fd >= 0)
		close(f->vm_fd);
}

static int set(struct file *f, uint64_t offset, uint64_t length, uint32_t policy)
{
	struct gmem_set_nodes_opts opts = { .size = sizeof(opts), .policy = policy };

	return gmem_set_nodes(f->mem, offset, length, &node_0, 1, &opts);
}

static void assert_policy(const struct file *f, uint64_t offset, int mode, unsigned long nodes)
{
	unsigned long mask[MASK_WORDS] = { 0 };
	int found = -1;

	assert_int_equal(syscall(SYS_get_mempolicy, &found, mask, sizeof(mask) * 8, f->at + offset, MPOL_F_ADDR), 0);
	assert_int_equal(found & 0xff, mode);
	assert_int_equal(mask[0], nodes);
}

/* On the whole file, then on one page, then no more. */
static void kept(struct file *f)
{
	uint64_t done;

	assert_policy(f, 0, MPOL_DEFAULT, 0);
	if (set(f, 0, f->length, GMEM_NODES_BIND))
		fail_msg("%s", gmem_last_error());
	assert_policy(f, 0, MPOL_BIND, 1);
	assert_policy(f, f->length - 1, MPOL_BIND, 1);
	assert_int_equal(gmem_populate(f->mem, 8, 8, "libgmem", &done, NULL), 0);
	assert_string_equal(f->at + 8, "libgmem");
	assert_int_equal(set(f, f->page, f->page, GMEM_NODES_INTERLEAVE), 0);
	assert_policy(f, 0, MPOL_BIND, 1);
	assert_policy(f, f->page, MPOL_INTERLEAVE, 1);
	assert_int_equal(gmem_set_nodes(f->mem, 0, f->length, NULL, 0, NULL), 0);
	assert_policy(f, 0, MPOL_DEFAULT, 0);
	assert_policy(f, f->page, MPOL_DEFAULT, 0);
}

static void memfd_keeps_it(void **state)
{
	struct file f = file_make(GMEM_BACKING_MEMFD, 16 * promise_page());

	(void)state;
	kept(&f);
	file_end(&f);
}

static void hugetlb_says_no(void **state)
{
	struct file f = file_make(GMEM_BACKING_HUGETLB, HUGE_PAGE);

	(void)state;
	assert_int_equal(set(&f, 0, f.length, GMEM_NODES_BIND), -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), "huge pages"));
	assert_policy(&f, 0, MPOL_DEFAULT, 0);
	file_end(&f);
}

static void preferred(void **state)
{
	struct file f = file_make(GMEM_BACKING_MEMFD, 16 * promise_page());
	int r = set(&f, 0, f.length, GMEM_NODES_PREFER);

	(void)state;
	if (r == 0)
		assert_policy(&f, 0, MPOL_PREFERRED_MANY, 1);
	file_end(&f);
	if (r == -EINVAL)
		gt_skip("no MPOL_PREFERRED_MANY before kernel 5.15");
	assert_int_equal(r, 0);
}

/* A kernel that would take the policy and forget it is found out. */
static void guest_memfd_keeps_it_or_says_no(void **state)
{
	struct file f = file_make(GMEM_BACKING_GUEST_MEMFD, 16 * promise_page());
	int numa = gmem_vm_probe(f.vm, GMEM_FEATURE_GUEST_MEMFD_NUMA, NULL);

	(void)state;
	if (numa == GMEM_PRESENT) {
		kept(&f);
	} else {
		assert_int_equal(set(&f, 0, f.length, GMEM_NODES_BIND), -EOPNOTSUPP);
		assert_non_null(strstr(gmem_last_error(), "guest_memfd"));
		assert_policy(&f, 0, MPOL_DEFAULT, 0);
	}
	file_end(&f);
}

static void node_that_is_not_there(void **state)
{
	struct file f = file_make(GMEM_BACKING_MEMFD, 16 * promise_page());
	const uint64_t far[MASK_WORDS] = { [MASK_WORDS - 1] = UINT64_C(1) << 63 };

	(void)state;
	assert_int_equal(gmem_set_nodes(f.mem, 0, f.length, far, MASK_WORDS, NULL), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "mbind"));
	assert_policy(&f, 0, MPOL_DEFAULT, 0);
	file_end(&f);
}

static int look_from_child(void *arg)
{
	assert_policy(arg, 0, MPOL_BIND, 1);
	return 0;
}

static void another_process_sees_it(void **state)
{
	struct file f = file_make(GMEM_BACKING_MEMFD, 16 * promise_page());

	(void)state;
	assert_int_equal(set(&f, 0, f.length, GMEM_NODES_BIND), 0);
	assert_int_equal(gt_in_child(look_from_child, &f), 0);
	file_end(&f);
}

static const struct gt_test tests[] = {
	GT(memfd_keeps_it, GT_NEEDS_NOTHING),
	GT(hugetlb_says_no, GT_NEEDS_HUGETLB_2M),
	GT(preferred, GT_NEEDS_NOTHING),
	GT(guest_memfd_keeps_it_or_says_no, GT_NEEDS_GUEST_MEMFD),
	GT(node_that_is_not_there, GT_NEEDS_NOTHING),
	GT(another_process_sees_it, GT_NEEDS_NOTHING),
};

GT_MAIN("nodes", tests)
