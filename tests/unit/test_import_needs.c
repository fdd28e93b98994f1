/* SPDX-License-Identifier: MIT */
/* gmem_import() with needs, and of guest_memfds: those of the stand-in on kernels of every age, and the kernel's own. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "files.h"
#include "handles.h"
#include "raw.h"
#include "refusal.h"

#define PAGES 8
#define HUGE (UINT64_C(2) << 20)
#define FILE_MAPPABLE KVMI_GUEST_MEMFD_MMAP

static struct gmem_vm *vm;

static void needs_that_a_memfd_does_not_meet_are_named(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	refused(vm, fd, 0, GMEM_NEED_HIDDEN, 0, -EOPNOTSUPP, "direct map");
	refused(vm, fd, 0, GMEM_NEED_MAPPABLE | GMEM_NEED_HIDDEN, 0, -EOPNOTSUPP, "direct map");
	refused(vm, fd, 0, GMEM_NEED_PRIVATE, 0, -EOPNOTSUPP, "cannot be private");
	refused(vm, fd, 0, GMEM_NEED_HUGE_2M, 0, -EOPNOTSUPP, "pages of 0x");
	refused(vm, fd, 0, GMEM_NEED_HUGE_1G, 0, -EOPNOTSUPP, "pages of 0x");
	gmem_vm_close(vm);
	close(fd);
}

static void lazy_memory_begins_with_an_empty_page_map(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	struct gmem_run run = { .size = sizeof(run) };
	struct gmem *mem;

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	fakekvm_enable(fakekvm_preset("6.18"));
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, GMEM_NEED_LAZY, 0);
	assert_true(gmem_get_fd(mem, GMEM_FD_PAGE_MAP) > 2);
	assert_int_equal(gmem_query_run(mem, 0, &run), 0);
	assert_int_equal(run.state, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED); /* there, and no pager knows what it is */
	assert_int_equal(run.length, page());
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(fd);
}

static void a_file_on_huge_pages_brings_their_size(void **state)
{
	int fd = memfd_of(HUGE, MFD_HUGETLB | 21u << 26, F_SEAL_SHRINK);
	struct gmem_info info;
	struct gmem *mem;

	(void)state;
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, 0, 0);
	info = info_of(mem);
	assert_int_equal(info.backing, GMEM_BACKING_HUGETLB);
	assert_int_equal(info.mechanism, GMEM_MECH_HUGETLB);
	assert_int_equal(info.length, HUGE);
	assert_int_equal(info.page_size, HUGE);
	assert_int_equal(info.need, GMEM_NEED_MAPPABLE | GMEM_NEED_HUGE_2M);
	assert_int_equal(gmem_populate(mem, 5, 5, "text", NULL, NULL), 0);
	gmem_destroy(mem);
	gmem_destroy(imported(vm, fd, HUGE, GMEM_NEED_HUGE_2M, 0));
	refused(vm, fd, page(), 0, 0, -EINVAL, "multiples of the page size");
	refused(vm, fd, 0, GMEM_NEED_HUGE_1G, 0, -EOPNOTSUPP, "pages of 0x200000 bytes");
	gmem_vm_close(vm);
	close(fd);
}

/* guest_memfd */

static const char *const presets[] = { "6.18", "7.3", "arm64", "future-upstream", "future-firecracker" };
#define PRESETS (sizeof(presets) / sizeof(presets[0]))

static int enter(const char *preset)
{
	int fd = fakekvm_vm(fakekvm_preset(preset));

	vm = open_vm(fd);
	return fd;
}

static int guest_memfd(int vm_fd, uint64_t flags)
{
	int fd = raw_guest_memfd(vm_fd, PAGES * page(), flags);

	assert_true(fd >= 0);
	return fd;
}

static void leave(int vm_fd)
{
	gmem_vm_close(vm);
	close(vm_fd);
	fakekvm_disable();
}

/* The guest's faults are KVM's, and hearing of those takes privilege. */
static void what_is_withheld_says_so_by_its_code(void **state)
{
	int vm_fd = enter("forbidden"), fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	refused(vm, fd, 0, GMEM_NEED_LAZY, 0, -EPERM, "unprivileged_userfaultfd");
	gmem_destroy(imported(vm, fd, 0, 0, 0));
	close(fd);
	leave(vm_fd);
}

static void write_first_page(int fd, const char *text)
{
	char *at = mmap(NULL, page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	strcpy(at, text);
	munmap(at, page());
}

static void check_taken(int fd)
{
	struct gmem *mem = imported(vm, fd, 0, 0, 0);
	struct gmem_info info = info_of(mem);
	void *address;

	assert_int_equal(info.length, PAGES * page());
	assert_int_equal(info.page_size, page());
	assert_int_equal(info.need, GMEM_NEED_MAPPABLE);
	assert_int_equal(info.backing, GMEM_BACKING_GUEST_MEMFD);
	assert_int_equal(info.mechanism, GMEM_MECH_GUEST_MEMFD);
	assert_int_equal(fcntl(gmem_get_fd(mem, GMEM_FD_MEMORY), F_GETFD), FD_CLOEXEC);
	assert_int_equal(gmem_map(mem, 0, PAGES * page(), &address, NULL), 0);
	assert_string_equal(address, "from elsewhere");
	assert_int_equal(gmem_populate(mem, 3 * page() + 1, 5, "text", NULL, NULL), 0);
	assert_string_equal((char *)address + 3 * page() + 1, "text");
	gmem_destroy(mem);
}

/* Known by its file system's magic or by its name, and no seals asked for. */
static void a_guest_memfd_is_taken_on_every_kernel(void **state)
{
	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		int vm_fd = enter(presets[i]), fd = guest_memfd(vm_fd, RAW_SHARED);

		write_first_page(fd, "from elsewhere");
		check_taken(fd);
		close(fd);
		leave(vm_fd);
	}
}

/* Nobody has a VM but the one who made it: a pager only has the file. */
static void a_guest_memfd_is_taken_without_a_vm(void **state)
{
	int vm_fd = fakekvm_vm(fakekvm_preset("6.18")), fd = guest_memfd(vm_fd, RAW_SHARED);

	(void)state;
	write_first_page(fd, "from elsewhere");
	vm = open_vm(-1);
	check_taken(fd);
	close(fd);
	leave(vm_fd);
}

static void only_the_first_page_is_touched(void **state)
{
	int vm_fd = enter("7.3"), fd = guest_memfd(vm_fd, RAW_SHARED);
	struct gmem *mem = imported(vm, fd, 0, 0, 0);
	struct gmem_run run = { .size = sizeof(run) };

	(void)state;
	assert_int_equal(gmem_query_run(mem, 0, &run), 0);
	assert_int_equal(run.length, page());
	assert_int_equal(gmem_query_run(mem, page(), &run), 0);
	assert_int_equal(run.state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
	assert_int_equal(run.length, (PAGES - 1) * page());
	gmem_destroy(mem);
	close(fd);
	leave(vm_fd);
}

static void lengths_of_a_guest_memfd(void **state)
{
	int vm_fd = enter("6.18"), fd = guest_memfd(vm_fd, RAW_SHARED);
	struct gmem *mem;

	(void)state;
	mem = imported(vm, fd, 3 * page(), 0, 0);
	assert_int_equal(info_of(mem).length, 3 * page());
	gmem_destroy(mem);
	refused(vm, fd, (PAGES + 1) * page(), 0, 0, -EINVAL, "beyond the end");
	refused(vm, fd, 1, 0, 0, -EINVAL, "multiples of the page size");
	refused(vm, fd, UINT64_C(1) << 62, 0, 0, -EINVAL, "beyond the end");
	close(fd);
	leave(vm_fd);
}

static void a_file_that_the_host_cannot_use_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		int vm_fd = enter(presets[i]), hidden = guest_memfd(vm_fd, FILE_MAPPABLE), closed = guest_memfd(vm_fd, 0);

		refused(vm, hidden, 0, 0, 0, -EOPNOTSUPP, "its pages are private");
		refused(vm, closed, 0, 0, 0, -EOPNOTSUPP, "it cannot be mapped");
		refused(vm, closed, 0, GMEM_NEED_MAPPABLE, 0, -EOPNOTSUPP, "it cannot be mapped");
		close(closed);
		close(hidden);
		leave(vm_fd);
	}
}

/* Private and shared pages in one file: a second file, which other kernels take for that, does not come with this one. */
static void private_memory_takes_a_file_that_converts_in_place(void **state)
{
	static const char *const others[] = { "6.18", "7.3", "sw-protected", "snp", "tdx" };
	int vm_fd = enter("future-upstream"), fd = guest_memfd(vm_fd, 0);
	struct gmem *mem = imported(vm, fd, 0, GMEM_NEED_PRIVATE, 0);
	void *address;

	(void)state;
	assert_int_equal(info_of(mem).need, GMEM_NEED_PRIVATE);
	assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), -EOPNOTSUPP);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, PAGES * page(), NULL), 0);
	gmem_destroy(mem);
	close(fd);
	leave(vm_fd);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		vm_fd = enter(others[i]);
		fd = guest_memfd(vm_fd, 0);
		refused(vm, fd, 0, GMEM_NEED_PRIVATE, 0, -EOPNOTSUPP, "attributes_file");
		close(fd);
		leave(vm_fd);
	}
}

static void needs_that_a_guest_memfd_does_not_meet_are_named(void **state)
{
	int vm_fd = enter("7.3"), fd = guest_memfd(vm_fd, RAW_SHARED);

	(void)state;
	refused(vm, fd, 0, GMEM_NEED_HUGE_2M, 0, -EOPNOTSUPP, "pages of 0x");
	refused(vm, fd, 0, GMEM_NEED_HIDDEN, 0, -EOPNOTSUPP, "direct map");
	refused(vm, fd, 0, GMEM_NEED_LAZY, 0, -EOPNOTSUPP, "uffd_guest_memfd"); /* no userfaults on it in 7.3 */
	close(fd);
	leave(vm_fd);
}

static void lazy_guest_memfds_have_a_page_map(void **state)
{
	int vm_fd = enter("future-upstream"), fd = guest_memfd(vm_fd, RAW_SHARED);
	struct gmem *mem = imported(vm, fd, 0, GMEM_NEED_LAZY, 0);

	(void)state;
	assert_true(gmem_get_fd(mem, GMEM_FD_PAGE_MAP) > 2);
	gmem_destroy(mem);
	close(fd);
	leave(vm_fd);
}

/* A chroot without /proc is no reason to call the file something else. */
static void failures_of_the_trial_pass_through(void **state)
{
	int vm_fd = enter("6.18"), fd = guest_memfd(vm_fd, RAW_SHARED);

	(void)state;
	fakekvm_script("readlink", ENOENT, 1, 0);
	refused(vm, fd, 0, 0, 0, -ENOENT, "/proc");
	fakekvm_script("mmap", ENOMEM, 1, 0);
	refused(vm, fd, 0, 0, 0, -ENOMEM, "mmap()");
	fakekvm_script("madvise", EHWPOISON, 1, 0);
	refused(vm, fd, 0, 0, 0, -EHWPOISON, "MADV_POPULATE_WRITE");
	gmem_destroy(imported(vm, fd, 0, 0, 0));
	close(fd);
	leave(vm_fd);
}

/* Of which KVM judges when it is bound. */
static void bind_to_another_vm(int (*new_vm)(void))
{
	int own = new_vm(), other = new_vm(), fd = guest_memfd(own, RAW_SHARED);
	struct gmem *mem;

	vm = open_vm(own);
	mem = imported(vm, fd, 0, 0, 0);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, PAGES * page(), NULL), 0);
	assert_int_equal(info_of(mem).slots, 1);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	vm = open_vm(other);
	mem = imported(vm, fd, 0, 0, 0);
	assert_int_equal(gmem_populate(mem, 1, 5, "text", NULL, NULL), 0);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, PAGES * page(), NULL), -EINVAL);
	assert_int_equal(info_of(mem).slots, 0);
	gmem_destroy(mem);
	close(fd);
	close(own);
	leave(other);
}

static int fake_vm(void)
{
	return fakekvm_vm(fakekvm_preset("7.3"));
}

static int real_vm(void)
{
	return raw_vm(0);
}

static void a_file_of_another_vm_cannot_be_bound(void **state)
{
	(void)state;
	bind_to_another_vm(fake_vm);
}

/* The kernel's own */

static void a_real_file_of_another_vm_cannot_be_bound(void **state)
{
	(void)state;
	bind_to_another_vm(real_vm);
}

static void a_real_guest_memfd_is_taken(void **state)
{
	int vm_fd = raw_vm(0), fd = guest_memfd(vm_fd, RAW_SHARED);

	(void)state;
	write_first_page(fd, "from elsewhere");
	vm = open_vm(vm_fd);
	check_taken(fd);
	gmem_vm_close(vm);
	vm = open_vm(-1);
	check_taken(fd);
	refused(vm, fd, (PAGES + 1) * page(), 0, 0, -EINVAL, "beyond the end");
	refused(vm, vm_fd, page(), 0, 0, -EINVAL, "is no guest_memfd");
	close(fd);
	leave(vm_fd);
}

static void a_real_file_that_the_host_cannot_use_is_refused(void **state)
{
	int vm_fd = raw_vm(0), hidden = guest_memfd(vm_fd, FILE_MAPPABLE), closed = guest_memfd(vm_fd, 0);

	(void)state;
	vm = open_vm(vm_fd);
	refused(vm, hidden, 0, 0, 0, -EOPNOTSUPP, "its pages are private");
	refused(vm, closed, 0, 0, 0, -EOPNOTSUPP, "it cannot be mapped");
	close(closed);
	close(hidden);
	leave(vm_fd);
}

/* In a child without privilege, which inherited nothing but the fd. */
static int take_as_nobody(void *fd)
{
	vm = open_vm(-1);
	check_taken(*(int *)fd);
	gmem_vm_close(vm);
	return 0;
}

static void another_user_takes_a_real_guest_memfd(void **state)
{
	int vm_fd = raw_vm(0), fd = guest_memfd(vm_fd, RAW_SHARED);

	(void)state;
	write_first_page(fd, "from elsewhere");
	assert_int_equal(gt_as_user(GT_NOBODY, take_as_nobody, &fd), 0);
	close(fd);
	close(vm_fd);
}

static const struct gt_test tests[] = {
	GT(needs_that_a_memfd_does_not_meet_are_named, GT_NEEDS_NOTHING),
	GT(lazy_memory_begins_with_an_empty_page_map, GT_NEEDS_NOTHING),
	GT(what_is_withheld_says_so_by_its_code, GT_NEEDS_NOTHING),
	GT(a_file_on_huge_pages_brings_their_size, GT_NEEDS_HUGETLB_2M),
	GT(a_guest_memfd_is_taken_on_every_kernel, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_is_taken_without_a_vm, GT_NEEDS_NOTHING),
	GT(only_the_first_page_is_touched, GT_NEEDS_NOTHING),
	GT(lengths_of_a_guest_memfd, GT_NEEDS_NOTHING),
	GT(a_file_that_the_host_cannot_use_is_refused, GT_NEEDS_NOTHING),
	GT(private_memory_takes_a_file_that_converts_in_place, GT_NEEDS_NOTHING),
	GT(needs_that_a_guest_memfd_does_not_meet_are_named, GT_NEEDS_NOTHING),
	GT(lazy_guest_memfds_have_a_page_map, GT_NEEDS_NOTHING),
	GT(failures_of_the_trial_pass_through, GT_NEEDS_NOTHING),
	GT(a_file_of_another_vm_cannot_be_bound, GT_NEEDS_NOTHING),
	GT(a_real_file_of_another_vm_cannot_be_bound, GT_NEEDS_GUEST_MEMFD),
	GT(a_real_guest_memfd_is_taken, GT_NEEDS_GUEST_MEMFD),
	GT(a_real_file_that_the_host_cannot_use_is_refused, GT_NEEDS_GUEST_MEMFD),
	GT(another_user_takes_a_real_guest_memfd, GT_NEEDS_GUEST_MEMFD | GT_NEEDS_ORDINARY_USER),
};

GT_MAIN("import_needs", tests)
