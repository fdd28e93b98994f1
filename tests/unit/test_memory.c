/* SPDX-License-Identifier: MIT */
/* Memory: what is made for which needs, and that its files keep their size. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"

#define HUGE_2M (UINT64_C(2) << 20)
#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int try_make(struct gmem_vm *vm, uint64_t length, uint64_t need, enum gmem_backing backing, struct gmem **mem)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };

	*mem = NULL;
	return gmem_create(vm, length, mem, &opts);
}

static struct gmem *make(struct gmem_vm *vm, uint64_t length, uint64_t need, enum gmem_backing backing)
{
	struct gmem *mem;

	assert_int_equal(try_make(vm, length, need, backing, &mem), 0);
	assert_non_null(mem);
	return mem;
}

static void refused(uint64_t need, enum gmem_backing backing, const char *word, const char *other)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem;

	assert_int_equal(try_make(vm, 1u << 30, need, backing, &mem), -EOPNOTSUPP);
	assert_null(mem);
	if (!strstr(gmem_last_error(), word) || !strstr(gmem_last_error(), other))
		fail_msg("neither \"%s\" nor \"%s\" may lack: %s", word, other, gmem_last_error());
	gmem_vm_close(vm);
}

/* What is made */

static void without_a_vm_memory_is_a_memfd(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = NULL;
	struct gmem_info info;

	(void)state;
	assert_int_equal(gmem_create(vm, 4 * page(), &mem, NULL), 0);
	info = info_of(mem);
	assert_int_equal(info.length, 4 * page());
	assert_int_equal(info.page_size, page());
	assert_int_equal(info.need, GMEM_NEED_MAPPABLE);
	assert_int_equal(info.backing, GMEM_BACKING_MEMFD);
	assert_int_equal(info.mechanism, GMEM_MECH_MEMFD);
	assert_int_equal(info.populated + info.skipped + info.populate_mechanism + info.slots + info.in_place +
				 info.prefault_mechanism,
			 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void a_struct_of_zeros_means_the_same_as_none(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make(vm, page(), 0, GMEM_BACKING_AUTO);

	(void)state;
	assert_int_equal(info_of(mem).need, GMEM_NEED_MAPPABLE);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void new_memory_is_zeros_that_cost_nothing(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make(vm, 64 * page(), 0, GMEM_BACKING_MEMFD);
	struct stat about;
	const unsigned char *bytes;
	void *address;

	(void)state;
	assert_int_equal(gmem_map(mem, 0, 64 * page(), &address, NULL), 0);
	assert_int_equal(fstat(gmem_get_fd(mem, GMEM_FD_MEMORY), &about), 0);
	assert_int_equal(about.st_size, 64 * page());
	assert_int_equal(about.st_blocks, 0);
	bytes = address;
	assert_true(bytes[0] == 0 && memcmp(bytes, bytes + 1, 64 * page() - 1) == 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void a_memfd_bears_the_name_that_was_given(void **state)
{
	char name[201], link[64], path[300];
	struct gmem_create_opts opts = { .size = sizeof(opts), .name = name };
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem;
	ssize_t length;

	(void)state;
	memset(name, 'n', 200);
	name[200] = '\0';
	assert_int_equal(gmem_create(vm, page(), &mem, &opts), 0);
	name[0] = 'x'; /* it was copied */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", gmem_get_fd(mem, GMEM_FD_MEMORY));
	length = readlink(link, path, sizeof(path) - 1);
	assert_true(length > 200);
	path[length] = '\0';
	assert_int_equal(strspn(strchr(path, ':') + 1, "n"), 200);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void a_name_that_is_too_long_is_refused(void **state)
{
	char name[202];
	struct gmem_create_opts opts = { .size = sizeof(opts), .name = name };
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = NULL;

	(void)state;
	memset(name, 'n', 201);
	name[201] = '\0';
	assert_int_equal(gmem_create(vm, page(), &mem, &opts), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "opts->name"));
	assert_null(mem);
	gmem_vm_close(vm);
}

/* The stand-in lets everybody open /dev/kvm, as not every machine does. */
static void needs_that_nothing_serves_are_named(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	refused(GMEM_NEED_PRIVATE, GMEM_BACKING_AUTO, "guest_memfd: open libgmem's VM with a VM fd",
		"a memfd cannot be private");
	refused(GMEM_NEED_HIDDEN | GMEM_NEED_MAPPABLE, GMEM_BACKING_AUTO, "guest_memfd", "direct map");
	refused(GMEM_NEED_HUGE_2M | GMEM_NEED_PRIVATE, GMEM_BACKING_AUTO, "guest_memfd", "a memfd cannot be private");
}

static void a_named_backing_is_never_replaced(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	refused(0, GMEM_BACKING_GUEST_MEMFD, "guest_memfd", "open libgmem's VM with a VM fd");
	refused(GMEM_NEED_HUGE_2M, GMEM_BACKING_MEMFD, "memfd", "pages of the ordinary size");
	refused(GMEM_NEED_PRIVATE, GMEM_BACKING_MEMFD, "memfd", "cannot be private");
	refused(GMEM_NEED_PRIVATE, GMEM_BACKING_HUGETLB, "hugetlb", "cannot be private");
}

static void what_is_withheld_says_so_by_its_code(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.18");
	struct gmem_vm *vm;
	struct gmem *mem;

	(void)state;
	config.device_error = EACCES;
	fakekvm_enable(&config);
	vm = open_vm(-1);
	assert_int_equal(try_make(vm, page(), 0, GMEM_BACKING_GUEST_MEMFD, &mem), -EACCES);
	assert_non_null(strstr(gmem_last_error(), "/dev/kvm"));
	gmem_vm_close(vm);
}

static void what_could_never_serve_does_not_decide_the_code(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.18");

	(void)state;
	config.device_error = EACCES;
	fakekvm_enable(&config);
	refused(GMEM_NEED_HIDDEN | GMEM_NEED_HUGE_2M, GMEM_BACKING_AUTO, "a guest_memfd has no huge pages", "direct map");
}

static void huge_pages_are_used_or_their_lack_is_named(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	const char *missing = gt_missing(GT_NEEDS_HUGETLB_2M);
	struct gmem *mem;
	int r = try_make(vm, HUGE_2M, 0, GMEM_BACKING_HUGETLB, &mem);

	(void)state;
	if (missing) {
		assert_true(r == -ENOMEM || r == -EOPNOTSUPP); /* none is free, or this kernel has none */
		assert_non_null(strstr(gmem_last_error(), "hugetlb_2m"));
	} else {
		assert_int_equal(r, 0);
		assert_int_equal(info_of(mem).page_size, HUGE_2M);
		assert_int_equal(info_of(mem).backing, GMEM_BACKING_HUGETLB);
		assert_int_equal(info_of(mem).mechanism, GMEM_MECH_HUGETLB);
	}
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void a_vm_with_guest_memfd_gets_one(void **state)
{
	int fd = fakekvm_vm(fakekvm_preset("6.18"));
	struct gmem_vm *vm = open_vm(fd);
	struct gmem *mem = make(vm, page(), 0, GMEM_BACKING_AUTO), *other = make(vm, page(), 0, GMEM_BACKING_MEMFD);

	(void)state;
	assert_int_equal(info_of(mem).backing, GMEM_BACKING_GUEST_MEMFD);
	assert_int_equal(info_of(mem).mechanism, GMEM_MECH_GUEST_MEMFD);
	assert_int_equal(info_of(other).backing, GMEM_BACKING_MEMFD);
	gmem_destroy(mem);
	gmem_destroy(other);
	gmem_vm_close(vm);
	close(fd);
}

/* Files */

static void assert_sealed(int fd, off_t size)
{
	struct stat about;

	assert_true(fd >= 3);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	errno = 0;
	assert_int_equal(ftruncate(fd, size * 2), -1);
	assert_int_equal(errno, EPERM);
	errno = 0;
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fstat(fd, &about), 0);
	assert_int_equal(about.st_size, size);
}

static void a_memfd_keeps_its_size(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make(vm, 4 * page(), 0, GMEM_BACKING_MEMFD);

	(void)state;
	assert_sealed(gmem_get_fd(mem, GMEM_FD_MEMORY), (off_t)(4 * page()));
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void files_that_memory_lacks_are_not_lent(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make(vm, page(), 0, GMEM_BACKING_MEMFD);
	int fd = gmem_get_fd(mem, GMEM_FD_MEMORY);

	(void)state;
	assert_int_equal(gmem_get_fd(mem, GMEM_FD_MEMORY), fd); /* lent: no new one each time */
	assert_int_equal(gmem_get_fd(mem, GMEM_FD_SHARED_HALF), -ENOENT);
	assert_int_equal(gmem_get_fd(mem, GMEM_FD_PAGE_MAP), -ENOENT);
	assert_non_null(strstr(gmem_last_error(), "GMEM_NEED_LAZY"));
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void check_lazy_memory(struct gmem_vm *vm)
{
	struct gmem *mem = make(vm, 33 * page(), GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE, GMEM_BACKING_MEMFD);
	uint64_t words[2] = { 1, 1 };
	int fd = gmem_get_fd(mem, GMEM_FD_PAGE_MAP);

	assert_sealed(fd, 16);
	assert_int_equal(pread(fd, words, 16, 0), 16);
	assert_int_equal(words[0] | words[1], 0);
	assert_int_not_equal(fd, gmem_get_fd(mem, GMEM_FD_MEMORY));
	assert_int_equal(info_of(mem).need, GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE);
	gmem_destroy(mem);
}

static void lazy_memory_has_a_sealed_page_map(void **state)
{
	struct gmem_vm *vm;

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	vm = open_vm(-1);
	check_lazy_memory(vm);
	gmem_vm_close(vm);
}

static void lazy_memory_is_made_on_the_real_kernel_too(void **state)
{
	struct gmem_vm *vm = open_vm(-1);

	(void)state;
	check_lazy_memory(vm);
	gmem_vm_close(vm);
}

static void without_userfaultfd_nothing_is_lazy(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.18");

	(void)state;
	config.uffd_device_error = ENOENT;
	config.uffd_syscall_error = ENOSYS;
	fakekvm_enable(&config);
	refused(GMEM_NEED_LAZY, GMEM_BACKING_AUTO, "memfd", "uffd");
}

/* A guest's faults are taken by KVM; an endpoint for those of the process alone does not hear them. */
static void a_vm_is_lazy_only_where_faults_of_the_kernel_are_heard(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.1");
	struct gmem_vm *vm;
	struct gmem *mem;
	int fd;

	(void)state;
	config.uffd_device_error = EACCES;
	config.uffd_syscall_error = EPERM;
	fd = fakekvm_vm(&config);
	vm = open_vm(fd);
	assert_int_equal(try_make(vm, page(), GMEM_NEED_LAZY, GMEM_BACKING_AUTO, &mem), -EPERM);
	assert_non_null(strstr(gmem_last_error(), "uffd_kernel_faults"));
	gmem_vm_close(vm);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(without_a_vm_memory_is_a_memfd, GT_NEEDS_NOTHING),
	GT(a_struct_of_zeros_means_the_same_as_none, GT_NEEDS_NOTHING),
	GT(new_memory_is_zeros_that_cost_nothing, GT_NEEDS_NOTHING),
	GT(a_memfd_bears_the_name_that_was_given, GT_NEEDS_NOTHING),
	GT(a_name_that_is_too_long_is_refused, GT_NEEDS_NOTHING),
	GT(needs_that_nothing_serves_are_named, GT_NEEDS_NOTHING),
	GT(a_named_backing_is_never_replaced, GT_NEEDS_NOTHING),
	GT(what_is_withheld_says_so_by_its_code, GT_NEEDS_NOTHING),
	GT(what_could_never_serve_does_not_decide_the_code, GT_NEEDS_NOTHING),
	GT(huge_pages_are_used_or_their_lack_is_named, GT_NEEDS_NOTHING),
	GT(a_vm_with_guest_memfd_gets_one, GT_NEEDS_NOTHING),
	GT(a_memfd_keeps_its_size, GT_NEEDS_NOTHING),
	GT(files_that_memory_lacks_are_not_lent, GT_NEEDS_NOTHING),
	GT(lazy_memory_has_a_sealed_page_map, GT_NEEDS_NOTHING),
	GT(lazy_memory_is_made_on_the_real_kernel_too, GT_NEEDS_UFFD_MINOR),
	GT(without_userfaultfd_nothing_is_lazy, GT_NEEDS_NOTHING),
	GT(a_vm_is_lazy_only_where_faults_of_the_kernel_are_heard, GT_NEEDS_NOTHING),
};

GT_MAIN("memory", tests)
