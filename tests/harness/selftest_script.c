/* SPDX-License-Identifier: MIT */
/* The stand-in kernel: calls that a test scripts, and its userfaultfd. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"
#include "wrap.h"

#include "../../lib/uapi/userfaultfd.h"

#define PAGE RAW_PAGE

static long one_if_fine(long fd)
{
	if (fd < 0)
		return fd;
	close((int)fd);
	return 1;
}

/* Scripts */

static void script_counts_its_calls(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("7.3"));
	long results[5];

	(void)state;
	fakekvm_script("KVM_CREATE_GUEST_MEMFD", ENOMEM, 2, 1);
	for (int i = 0; i < 5; i++) {
		results[i] = raw_guest_memfd(vm, PAGE, RAW_SHARED);
		if (results[i] >= 0)
			close((int)results[i]);
	}
	assert_true(results[0] >= 0 && results[3] >= 0 && results[4] >= 0);
	assert_int_equal(results[1], -ENOMEM);
	assert_int_equal(results[2], -ENOMEM);
	assert_int_equal(fakekvm_calls("KVM_CREATE_GUEST_MEMFD"), 5);
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -EFAULT);
	fakekvm_script("probe:KVM_CREATE_GUEST_MEMFD", EPERM, 0, 0);
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -EPERM);
	close(vm);
}

/* Bytes that are allocated now and were not `before`. A fake guest_memfd does not tell; the memfd that it is does. */
static uint64_t allocated_beyond(int file, uint64_t before)
{
	struct stat about;

	assert_int_equal(__real_fstat(file, &about), 0);
	return (uint64_t)about.st_blocks * 512 - before;
}

static void script_stops_file_calls_half_way(void **state)
{
	static char data[4 * PAGE];
	int vm = fakekvm_vm(fakekvm_preset("future-upstream"));
	int file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED | KVMI_GUEST_MEMFD_BIT2);

	(void)state;
	fakekvm_script_partial("pwrite", PAGE, 0, 1, 0);
	assert_int_equal(pwrite(file, data, sizeof(data), 0), PAGE);
	fakekvm_script("pwrite", ENOSPC, 1, 0);
	assert_int_equal(raw_result(pwrite(file, data, sizeof(data), 0)), -ENOSPC);
	fakekvm_script_partial("fallocate", 2 * PAGE, EINTR, 1, 0);
	assert_int_equal(raw_result(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE)), -EINTR);
	assert_int_equal(allocated_beyond(file, PAGE), PAGE); /* page 0 was there already */
	fakekvm_script("lseek", ENXIO, 0, 0);
	assert_int_equal(raw_result(lseek(file, 0, SEEK_CUR)), -ENXIO);
	fakekvm_script("mmap", ENOMEM, 1, 0);
	assert_int_equal(raw_can_map(file, PROT_READ, MAP_SHARED), -ENOMEM);
	assert_int_equal(raw_can_map(file, PROT_READ, MAP_SHARED), 0);
	close(file);
	close(vm);
}

static void script_stops_mapping_calls(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("7.3")), file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED);
	unsigned char vector[4];
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	(void)state;
	assert_ptr_not_equal(at, MAP_FAILED);
	fakekvm_script_partial("madvise", PAGE, EFAULT, 1, 0);
	assert_int_equal(raw_result(madvise(at, 4 * PAGE, 23)), -EFAULT);
	assert_int_equal(mincore(at, 4 * PAGE, vector), 0);
	assert_int_equal(vector[0] + 2 * vector[1] + 4 * vector[2] + 8 * vector[3], 1);
	fakekvm_script("mincore", EAGAIN, 1, 0);
	assert_int_equal(raw_result(mincore(at + PAGE, PAGE, vector)), -EAGAIN);
	munmap(at, PAGE);
	fakekvm_script("madvise", EIO, 1, 0);
	assert_int_equal(raw_result(madvise(at, PAGE, 23)), -ENOMEM); /* the kernel's answer: not ours any more */
	assert_int_equal(raw_result(madvise(at + PAGE, PAGE, 23)), -EIO); /* the rest is */
	munmap(at + PAGE, 3 * PAGE);
	close(file);
	close(vm);
}

static void devices_can_be_forbidden(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("7.3"));
	fakekvm_script("open:/dev/kvm", EMFILE, 1, 0);
	assert_int_equal(raw_vm(0), -EMFILE);
	fakekvm_script("userfaultfd", ENOSYS, 1, 0);
	assert_int_equal(raw_result(syscall(SYS_userfaultfd, O_CLOEXEC)), -ENOSYS);
	fakekvm_enable(fakekvm_preset("forbidden"));
	assert_int_equal(raw_result(open("/dev/userfaultfd", O_RDWR)), -EACCES);
	assert_int_equal(raw_result(syscall(SYS_userfaultfd, O_CLOEXEC)), -EPERM);
	assert_int_equal(one_if_fine(raw_result(syscall(SYS_userfaultfd, O_CLOEXEC | UFFDI_USER_MODE_ONLY))), 1);
}

/* userfaultfd */

static long api(int uffd, uint64_t features, struct uffdi_api *answer)
{
	*answer = (struct uffdi_api){ .api = UFFDI_API_VERSION, .features = features, .ioctls = 99 };
	return raw_result(ioctl(uffd, (unsigned long)UFFDI_API, answer));
}

static int uffd_of_device(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int uffd = (int)raw_result(ioctl(device, (unsigned long)UFFDI_NEW, (unsigned long)(O_CLOEXEC | O_NONBLOCK)));

	close(device);
	return uffd;
}

static void handshake_succeeds_once(void **state)
{
	struct uffdi_api answer;
	int uffd;

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	uffd = uffd_of_device();
	assert_int_equal(api(uffd, UINT64_C(1) << 17, &answer), -EINVAL);
	assert_int_equal(answer.api + answer.features + answer.ioctls, 0);
	assert_int_equal(api(uffd, UINT64_C(1) << UFFDI_BIT_WP_ASYNC, &answer), 0);
	assert_int_equal(answer.features, 0x1ffff);
	assert_int_equal(answer.ioctls, UINT64_C(0x8000000000000003));
	assert_int_equal(api(uffd, 0, &answer), -EINVAL);
	close(uffd);
}

static void fork_events_need_privilege(void **state)
{
	struct uffdi_api answer;
	int uffd;

	(void)state;
	fakekvm_enable(fakekvm_preset("forbidden"));
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFDI_USER_MODE_ONLY);
	assert_int_equal(api(uffd, UINT64_C(1) << UFFDI_BIT_EVENT_FORK, &answer), -EPERM);
	assert_int_equal(api(uffd, 0, &answer), 0);
	close(uffd);
}

/* Bits: 1 minor faults, 2 missing faults, 4 asynchronous write protection can be had on a guest_memfd. */
static int registrable(const char *preset, uint64_t file_flags)
{
	static const uint64_t modes[] = { UFFDI_REGISTER_MINOR, UFFDI_REGISTER_MISSING, UFFDI_REGISTER_WP };
	int vm = fakekvm_vm(fakekvm_preset(preset)), file = raw_guest_memfd(vm, PAGE, file_flags), uffd = uffd_of_device();
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	struct uffdi_api answer;
	int result = 0;

	assert_int_equal(api(uffd, UINT64_C(1) << UFFDI_BIT_WP_ASYNC, &answer), 0);
	for (int i = 0; i < 3; i++) {
		struct uffdi_register range = { (uintptr_t)at, PAGE, modes[i], 0 };

		result |= ioctl(uffd, (unsigned long)UFFDI_REGISTER, &range) == 0 ? 1 << i : 0;
	}
	munmap(at, PAGE);
	close(uffd);
	close(file);
	close(vm);
	return result;
}

static void registration_depends_on_the_kernel(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("7.3")); /* userfaultfd's side of it; each VM below brings its own */
	assert_int_equal(registrable("7.3", RAW_SHARED), 4);
	assert_int_equal(registrable("future-upstream", RAW_SHARED), 7);
	assert_int_equal(registrable("future-upstream", KVMI_GUEST_MEMFD_MMAP), 4);
}

static const struct gt_test tests[] = {
	GT(script_counts_its_calls, GT_NEEDS_NOTHING),
	GT(script_stops_file_calls_half_way, GT_NEEDS_NOTHING),
	GT(script_stops_mapping_calls, GT_NEEDS_NOTHING),
	GT(devices_can_be_forbidden, GT_NEEDS_NOTHING),
	GT(handshake_succeeds_once, GT_NEEDS_NOTHING),
	GT(fork_events_need_privilege, GT_NEEDS_NOTHING),
	GT(registration_depends_on_the_kernel, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_script", tests)
