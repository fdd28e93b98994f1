/* SPDX-License-Identifier: MIT */
/* System calls: what fds are like, which interruptions are gone on with, and what becomes of answers that cannot be. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "inject.h"
#include "sys.h"
#include "uapi/kvm.h"

#define FAKE_VM 100   /* where children put a VM, clear of the numbers that are looked at */
#define NO_ERRNO (-5) /* an errno that no kernel sets */
#define TMPFS_MAGIC 0x01021994

static size_t page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int memfd_of_a_page(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)page()), 0);
	return fd;
}

/* Everything that makes an fd. */

static int make_by_open(void)
{
	return gmemi_sys_open("/dev/null", O_RDWR);
}

static int make_by_dup(void)
{
	return gmemi_sys_dup(FAKE_VM);
}

static int make_memfd(void)
{
	return gmemi_sys_memfd("test", 0);
}

static int make_guest_memfd(void)
{
	return gmemi_sys_guest_memfd(FAKE_VM, page(), 0);
}

static int make_uffd(void)
{
	return gmemi_sys_userfaultfd(-1, 0);
}

static int make_uffd_by_device(void)
{
	int device = gmemi_sys_open("/dev/userfaultfd", O_RDWR), fd;

	fd = device < 0 ? device : gmemi_sys_userfaultfd(device, 0);
	gmemi_sys_close(device);
	return fd;
}

static int (*const makers[])(void) = {
	make_by_open, make_by_dup, make_memfd, make_guest_memfd, make_uffd, make_uffd_by_device
};

#define MAKERS (sizeof(makers) / sizeof(makers[0]))

/* The stand-in kernel answers, so that every way works on every machine. */
static void put_fake_vm(void)
{
	int vm = fakekvm_vm(fakekvm_preset("6.18"));

	assert_true(dup2(vm, FAKE_VM) == FAKE_VM);
	close(vm);
}

static int count_bad_fds(void *arg)
{
	const int *closed = arg;
	int bad = 0;

	put_fake_vm();
	for (int fd = 0; fd < 3; fd++)
		if (closed[fd])
			close(fd);
	for (size_t i = 0; i < MAKERS; i++) {
		int fd = makers[i]();

		bad += fd < 3 || fcntl(fd, F_GETFD) != FD_CLOEXEC;
		gmemi_sys_close(fd);
	}
	for (int fd = 0; fd < 3; fd++)
		bad += closed[fd] && fcntl(fd, F_GETFD) != -1; /* nothing stayed behind there */
	return bad;
}

static void fds_are_close_on_exec(void **state)
{
	int closed[3] = { 0, 0, 0 };

	(void)state;
	assert_int_equal(gt_in_child(count_bad_fds, closed), 0);
}

static void fds_keep_clear_of_the_standard_ones(void **state)
{
	(void)state;
	for (int which = 1; which < 8; which++) {
		int closed[3] = { which & 1, which & 2, which & 4 };

		assert_int_equal(gt_in_child(count_bad_fds, closed), 0);
	}
}

/* What failed half-way leaves no fd: with fd 0 closed, a new one has to be moved up. */
static int fail_to_move_up(void *arg)
{
	int bad = 0, fd;

	(void)arg;
	put_fake_vm();
	close(0);
	for (size_t i = 0; i < MAKERS; i++)
		for (unsigned long nth = 1; nth < 8; nth++) {
			inject_arm(nth, EMFILE);
			fd = makers[i]();
			inject_disarm();
			bad += inject_fired() && strcmp(inject_where(), "close") && fd >= 0;
			gmemi_sys_close(fd);
			bad += fcntl(0, F_GETFD) != -1;
		}
	return bad;
}

static void an_fd_that_cannot_be_moved_up_is_closed(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(fail_to_move_up, NULL), 0);
}

static void an_fd_that_stays_open_on_exec_is_closed(void **state)
{
	struct gt_snapshot *before;
	int vm = fakekvm_vm(fakekvm_preset("6.18"));

	(void)state;
	before = gt_snapshot();
	inject_arm(2, EINVAL);
	assert_int_equal(gmemi_sys_guest_memfd(vm, page(), 0), -EINVAL);
	inject_disarm();
	assert_string_equal(inject_where(), "fcntl");
	gt_assert_nothing_leaked(before);
	close(vm);
}

static int reach_the_limit(void *arg)
{
	struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };

	(void)arg;
	if (setrlimit(RLIMIT_NOFILE, &none))
		return 1;
	return gmemi_sys_memfd("test", 0) != -EMFILE || gmemi_sys_dup(0) >= 0 || gmemi_sys_open("/dev/null", O_RDWR) != -EMFILE;
}

static void without_fds_the_code_is_that_of_the_kernel(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(reach_the_limit, NULL), 0);
}

/* Interruptions */

/* The same calls for all questions about interruptions and impossible answers. */
static int64_t call(const char *name, int fd, void *map)
{
	char byte = 'x';
	void *at;

	if (strcmp(name, "open") == 0)
		return gmemi_sys_open("/dev/null", O_RDWR);
	if (strcmp(name, "ftruncate") == 0)
		return gmemi_sys_resize(fd, page());
	if (strcmp(name, "fstatfs") == 0)
		return gmemi_sys_magic(fd);
	if (strcmp(name, "pwrite") == 0)
		return gmemi_sys_pwrite(fd, &byte, 1, 0);
	if (strcmp(name, "madvise") == 0)
		return gmemi_sys_advise(map, page(), MADV_NORMAL);
	if (strcmp(name, "read") == 0)
		return gmemi_sys_read(fd, &byte, 1);
	if (strcmp(name, "pread") == 0)
		return gmemi_sys_pread(fd, &byte, 1, 0);
	if (strcmp(name, "fallocate") == 0)
		return gmemi_sys_fallocate(fd, 0, 0, page());
	if (strcmp(name, "ioctl") == 0)
		return gmemi_sys_ioctl_value(fd, KVMI_GET_API_VERSION, 0);
	if (strcmp(name, "lseek") == 0)
		return gmemi_sys_seek(fd, 0, SEEK_SET);
	if (strcmp(name, "mincore") == 0)
		return gmemi_sys_resident(map, page(), (unsigned char *)&byte);
	if (strcmp(name, "mmap") == 0)
		return gmemi_sys_map(NULL, page(), PROT_READ, MAP_SHARED, fd, 0, &at);
	if (strcmp(name, "memfd_create") == 0)
		return gmemi_sys_memfd("test", 0);
	if (strcmp(name, "syscall") == 0)
		return gmemi_sys_userfaultfd(-1, 0);
	assert_string_equal(name, "fcntl");
	return gmemi_sys_dup(fd);
}

static int64_t call_with(const char *name, int error, unsigned long *points)
{
	int fd = memfd_of_a_page();
	void *map = mmap(NULL, page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int64_t r;

	assert_ptr_not_equal(map, MAP_FAILED);
	inject_arm(1, error);
	r = call(name, fd, map);
	*points = inject_disarm();
	assert_true(inject_fired());
	assert_string_equal(inject_where(), name);
	munmap(map, page());
	close(fd);
	return r;
}

static void bounded_work_is_gone_on_with_after_a_signal(void **state)
{
	static const char *const names[] = { "open", "ftruncate", "fstatfs", "pwrite", "madvise" };
	unsigned long points;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t r = call_with(names[i], EINTR, &points);

		assert_true(r >= 0);
		assert_int_equal(points, 2);
		if (strcmp(names[i], "open") == 0)
			gmemi_sys_close((int)r);
	}
}

/* Reads may wait for somebody; fallocate() of a memfd begins anew and would never end. */
static void other_calls_say_that_a_signal_came(void **state)
{
	static const char *const names[] = { "read", "pread", "fallocate", "ioctl" };
	unsigned long points;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(call_with(names[i], EINTR, &points), -EINTR);
		assert_int_equal(points, 1);
	}
}

static void advice_says_what_went_wrong(void **state)
{
	int fd = memfd_of_a_page(), ends[2];

	(void)state;
	assert_int_equal(gmemi_sys_fadvise(fd, 0, page(), POSIX_FADV_WILLNEED), 0);
	assert_int_equal(gmemi_sys_fadvise(fd, 0, page(), 12345), -EINVAL);
	inject_arm(1, ENOMEM);
	assert_int_equal(gmemi_sys_fadvise(fd, 0, page(), POSIX_FADV_WILLNEED), -ENOMEM);
	assert_int_equal(inject_disarm(), 1);
	assert_int_equal(gmemi_sys_pipe(ends), 0);
	assert_int_equal(gmemi_sys_fadvise(ends[0], 0, page(), POSIX_FADV_WILLNEED), -ESPIPE);
	close(ends[0]);
	close(ends[1]);
	close(fd);
	assert_int_equal(gmemi_sys_fadvise(fd, 0, page(), POSIX_FADV_WILLNEED), -EBADF);
}

static void closing_happens_once_whatever_the_kernel_says(void **state)
{
	int fd = memfd_of_a_page();

	(void)state;
	inject_arm(1, EINTR);
	gmemi_sys_close(fd);
	assert_int_equal(inject_disarm(), 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	inject_arm(0, 0);
	gmemi_sys_close(-1);
	gmemi_sys_close(-EMFILE);
	assert_int_equal(inject_disarm(), 0);
}

/* Answers that cannot be */

static void codes_of_the_kernel_pass_untouched(void **state)
{
	static const int codes[] = { EPERM, ENOSYS, ENOSPC, EXDEV, 4095 };
	unsigned long points;

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		assert_int_equal(call_with("ftruncate", codes[i], &points), -codes[i]);
		assert_int_equal(call_with("fcntl", codes[i], &points), -codes[i]);
		assert_int_equal(call_with("pread", codes[i], &points), -codes[i]);
	}
}

static void a_failure_without_an_errno_is_an_io_error(void **state)
{
	static const char *const names[] = { "open",    "ftruncate", "fstatfs",      "pwrite",  "madvise",
					     "read",    "pread",     "fallocate",    "ioctl",   "lseek",
					     "mincore", "mmap",      "memfd_create", "syscall", "fcntl" };
	unsigned long points;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(call_with(names[i], NO_ERRNO, &points), -EIO);
}

/* The stand-in's scripts take a negative errno for a positive answer. */
static void more_than_was_asked_for_is_an_io_error(void **state)
{
	const struct fakekvm_config *config = fakekvm_preset("future-firecracker");
	int vm = fakekvm_vm(config), fd = gmemi_sys_guest_memfd(vm, page(), 3 | config->gmem_write);
	unsigned char present;
	void *map;

	(void)state;
	assert_int_equal(gmemi_sys_map(NULL, page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &map), 0);
	fakekvm_script("pwrite", -(int)page() - 1, 1, 0);
	assert_int_equal(gmemi_sys_pwrite(fd, map, page(), 0), -EIO);
	fakekvm_script("fallocate", -1, 1, 0);
	assert_int_equal(gmemi_sys_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, page()), -EIO);
	fakekvm_script("madvise", -1, 1, 0);
	assert_int_equal(gmemi_sys_advise(map, page(), MADV_NORMAL), -EIO);
	fakekvm_script("mincore", -1, 1, 0);
	assert_int_equal(gmemi_sys_resident(map, page(), &present), -EIO);
	gmemi_sys_unmap(map, page());
	gmemi_sys_close(fd);
	close(vm);
}

static void a_memslot_call_that_answers_a_number_is_an_io_error(void **state)
{
	int vm_fd = fakekvm_vm(fakekvm_preset("6.1"));
	struct gmem_vm *vm;
	struct gmem *mem;

	(void)state;
	assert_int_equal(gmem_vm_open(vm_fd, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, page(), &mem, NULL), 0);
	fakekvm_script("KVM_SET_USER_MEMORY_REGION", -7, 1, 0);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, page(), NULL), -EIO);
	assert_non_null(strstr(gmem_last_error(), "KVM_SET_USER_MEMORY_REGION"));
	assert_int_equal(gmem_bind(mem, 0, 0, 0, page(), NULL), 0);
	fakekvm_script("KVM_SET_USER_MEMORY_REGION", -7, 1, 0);
	assert_int_equal(gmem_unbind(mem, 0), -EIO);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(vm_fd);
}

static void half_a_transfer_is_told_as_such(void **state)
{
	int fd = memfd_of_a_page();
	char data[10] = "123456789";

	(void)state;
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(gmemi_sys_pwrite(fd, data, 10, 0), 5);
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(gmemi_sys_pread(fd, data, 10, 0), 5);
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(gmemi_sys_read(fd, data, 10), 5);
	inject_disarm();
	assert_memory_equal(data, "12345", 5);
	close(fd);
}

/* Plain behaviour */

static void what_no_address_space_holds_is_not_asked_of_the_kernel(void **state)
{
	void *at = &at;

	(void)state;
	inject_arm(0, 0);
	assert_int_equal(gmemi_sys_map(NULL, (uint64_t)PTRDIFF_MAX + 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &at),
			 -ENOMEM);
	assert_int_equal(inject_disarm(), 0);
	assert_ptr_equal(at, &at);
}

static void a_failed_mapping_leaves_the_result_alone(void **state)
{
	void *at = &at;

	(void)state;
	assert_int_equal(gmemi_sys_map(NULL, page(), PROT_READ, MAP_SHARED, -1, 0, &at), -EBADF);
	assert_ptr_equal(at, &at);
}

static void files_are_told_apart(void **state)
{
	int fd = memfd_of_a_page(), ends[2];
	char buffer[8];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(gmemi_sys_magic(fd), TMPFS_MAGIC);
	assert_int_equal(gmemi_sys_seek(fd, 0, SEEK_DATA), -ENXIO);
	assert_int_equal(gmemi_sys_seek(ends[0], 0, SEEK_CUR), -ESPIPE);
	assert_int_equal(gmemi_sys_ioctl_known(fd, KVMI_SET_USER_MEMORY_REGION), -ENOTTY);
	assert_int_equal(gmemi_sys_pread(fd, buffer, 8, page() - 4), 4);
	assert_int_equal(gmemi_sys_pread(fd, buffer, 8, page()), 0);
	assert_int_equal(gmemi_sys_page_size(), page());
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

static void seals_hold(void **state)
{
	int fd = memfd_of_a_page();

	(void)state;
	assert_int_equal(gmemi_sys_seal(fd, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(gmemi_sys_resize(fd, 0), -EPERM);
	assert_int_equal(gmemi_sys_resize(fd, 2 * page()), -EPERM);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(fds_are_close_on_exec, GT_NEEDS_NOTHING),
	GT(fds_keep_clear_of_the_standard_ones, GT_NEEDS_NOTHING),
	GT(an_fd_that_cannot_be_moved_up_is_closed, GT_NEEDS_NOTHING),
	GT(an_fd_that_stays_open_on_exec_is_closed, GT_NEEDS_NOTHING),
	GT(without_fds_the_code_is_that_of_the_kernel, GT_NEEDS_NOTHING),
	GT(bounded_work_is_gone_on_with_after_a_signal, GT_NEEDS_NOTHING),
	GT(other_calls_say_that_a_signal_came, GT_NEEDS_NOTHING),
	GT(advice_says_what_went_wrong, GT_NEEDS_NOTHING),
	GT(closing_happens_once_whatever_the_kernel_says, GT_NEEDS_NOTHING),
	GT(codes_of_the_kernel_pass_untouched, GT_NEEDS_NOTHING),
	GT(a_failure_without_an_errno_is_an_io_error, GT_NEEDS_NOTHING),
	GT(more_than_was_asked_for_is_an_io_error, GT_NEEDS_NOTHING),
	GT(a_memslot_call_that_answers_a_number_is_an_io_error, GT_NEEDS_NOTHING),
	GT(half_a_transfer_is_told_as_such, GT_NEEDS_NOTHING),
	GT(what_no_address_space_holds_is_not_asked_of_the_kernel, GT_NEEDS_NOTHING),
	GT(a_failed_mapping_leaves_the_result_alone, GT_NEEDS_NOTHING),
	GT(files_are_told_apart, GT_NEEDS_NOTHING),
	GT(seals_hold, GT_NEEDS_NOTHING),
};

GT_MAIN("sys", tests)
