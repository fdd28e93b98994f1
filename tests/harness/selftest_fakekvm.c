/* SPDX-License-Identifier: MIT */
/* The stand-in kernel, held against what its presets promise. selftest_kernel.c holds it against a real one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "inject.h"
#include "raw.h"

#include "../../lib/uapi/userfaultfd.h"

#define PAGE RAW_PAGE

/* Presets. A row is what one of them says to every probe; 1 for a result that is not an error. */
struct expectation {
	const char *preset;
	long device;                                /* open("/dev/kvm") */
	long region2, create, attributes, populate; /* EFAULT probes on the VM */
	long gmem_slot, userfault_slot;             /* flag probes */
	long flags_cap;                             /* KVM_CAP_GUEST_MEMFD_FLAGS on the VM */
	long shared;                                /* creating MMAP|INIT_SHARED */
	long encrypt;                               /* KVM_MEMORY_ENCRYPT_OP(NULL) */
	long pre_fault, apf;                        /* EFAULT probes on the vCPU */
	uint64_t uffd_features;
};

/* Answers of a probe, for narrow columns. */
#define KNOWN (-EFAULT)
#define FINE (-EBADF)
#define TTY (-ENOTTY)
#define INVAL (-EINVAL)

/* clang-format off */
static const struct expectation expectations[] = {
	{ "none",               -ENOENT, TTY,   TTY,   TTY,   TTY,   TTY,   TTY,   0,  TTY,   TTY,   INVAL, INVAL, 0x1ffff },
	{ "forbidden",          -EACCES, KNOWN, KNOWN, TTY,   TTY,   FINE,  INVAL, 3,  1,     TTY,   KNOWN, INVAL, 0 },
	{ "6.1",                1,       TTY,   TTY,   TTY,   TTY,   TTY,   TTY,   0,  TTY,   TTY,   INVAL, INVAL, 0x1fff },
	{ "6.12",               1,       KNOWN, KNOWN, KNOWN, TTY,   INVAL, INVAL, 0,  INVAL, TTY,   KNOWN, INVAL, 0x1ffff },
	{ "6.18",               1,       KNOWN, KNOWN, TTY,   TTY,   FINE,  INVAL, 3,  1,     TTY,   KNOWN, INVAL, 0x1ffff },
	{ "7.3",                1,       KNOWN, KNOWN, TTY,   TTY,   FINE,  INVAL, 3,  1,     TTY,   KNOWN, INVAL, 0x7ffff },
	{ "sw-protected",       1,       KNOWN, KNOWN, KNOWN, TTY,   FINE,  INVAL, 1,  INVAL, TTY,   KNOWN, INVAL, 0x7ffff },
	{ "snp",                1,       KNOWN, KNOWN, KNOWN, TTY,   FINE,  INVAL, 1,  INVAL, 0,     KNOWN, INVAL, 0x7ffff },
	{ "tdx",                1,       KNOWN, KNOWN, KNOWN, TTY,   FINE,  INVAL, 1,  INVAL, KNOWN, KNOWN, INVAL, 0x7ffff },
	{ "future-upstream",    1,       KNOWN, KNOWN, TTY,   TTY,   FINE,  FINE,  7,  1,     TTY,   KNOWN, INVAL, 0x7ffff },
	{ "future-firecracker", 1,       KNOWN, KNOWN, TTY,   TTY,   FINE,  FINE,  15, 1,     TTY,   KNOWN, KNOWN, 0x1ffff },
	{ "arm64",              1,       KNOWN, KNOWN, INVAL, INVAL, FINE,  INVAL, 3,  1,     INVAL, INVAL, INVAL, 0x7ffff },
};
/* clang-format on */

static long one_if_fine(long fd)
{
	if (fd < 0)
		return fd;
	close((int)fd);
	return 1;
}

static uint64_t uffd_features(void)
{
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		return 0;
	assert_int_equal(ioctl(fd, (unsigned long)UFFDI_API, &api), 0);
	close(fd);
	return api.features;
}

static void check_vm(const struct expectation *e, int vm)
{
	assert_int_equal(raw_known(vm, KVMI_SET_USER_MEMORY_REGION), -EFAULT);
	assert_int_equal(raw_known(vm, KVMI_SET_USER_MEMORY_REGION2), e->region2);
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), e->create);
	assert_int_equal(raw_known(vm, KVMI_SET_MEMORY_ATTRIBUTES), e->attributes);
	assert_int_equal(raw_known(vm, KVMI_GUEST_MEMFD_POPULATE), e->populate);
	assert_int_equal(raw_slot_flags(vm, KVMI_MEM_GUEST_MEMFD), e->gmem_slot);
	assert_int_equal(raw_slot_flags(vm, KVMI_MEM_GUEST_MEMFD | KVMI_MEM_USERFAULT), e->userfault_slot);
	assert_int_equal(raw_cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS), e->flags_cap);
	assert_int_equal(one_if_fine(raw_guest_memfd(vm, PAGE, RAW_SHARED)), e->shared);
	assert_int_equal(raw_result(ioctl(vm, (unsigned long)KVMI_MEMORY_ENCRYPT_OP, NULL)), e->encrypt);
	assert_int_equal(fakekvm_slots(vm, NULL, 0), 0);
}

static void check_preset(const struct expectation *e)
{
	int vm, vcpu;

	fakekvm_enable(fakekvm_preset(e->preset));
	assert_int_equal(one_if_fine(raw_result(open("/dev/kvm", O_RDWR | O_CLOEXEC))), e->device);
	vm = fakekvm_vm(NULL);
	vcpu = fakekvm_vcpu(vm);
	check_vm(e, vm);
	assert_int_equal(raw_known(vcpu, KVMI_SET_SIGNAL_MASK), -EFAULT);
	assert_int_equal(raw_known(vcpu, KVMI_PRE_FAULT_MEMORY), e->pre_fault);
	assert_int_equal(raw_known(vcpu, 0x4020aed6), e->apf);
	assert_int_equal(raw_known(vcpu, KVMI_MAP_MEMORY_V1), -EINVAL);
	assert_int_equal(uffd_features(), e->uffd_features);
	close(vcpu);
	close(vm);
}

static void presets_answer_as_promised(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++) {
		print_message("  preset %s\n", expectations[i].preset);
		check_preset(&expectations[i]);
	}
}

static void disabled_it_is_not_there(void **state)
{
	struct stat about;
	int vm = fakekvm_vm(fakekvm_preset("6.18"));

	(void)state;
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -EFAULT);
	fakekvm_disable();
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -ENOTTY); /* a memfd's answer */
	assert_int_equal(fstat(vm, &about), 0);
	close(vm);
}

static void fds_survive_duplication(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("6.18")), copy = fcntl(vm, F_DUPFD_CLOEXEC, 100), file;

	(void)state;
	assert_true(fcntl(vm, F_GETFD) & FD_CLOEXEC);
	close(vm);
	file = raw_guest_memfd(copy, PAGE, RAW_SHARED);
	assert_true(file >= 0);
	assert_int_equal(fcntl(file, F_GETFD), 0); /* guest_memfds come without close-on-exec */
	close(file);
	close(copy);
}

static int ask_as_child(void *vm)
{
	return (int)-raw_cap(*(int *)vm, KVMI_CAP_GUEST_MEMFD);
}

static void vm_answers_its_maker_only(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("7.3");
	int vm = fakekvm_vm(&config), foreign;

	(void)state;
	assert_int_equal(gt_in_child(ask_as_child, &vm), EIO);
	config.foreign = true;
	foreign = fakekvm_vm(&config);
	assert_int_equal(raw_cap(foreign, KVMI_CAP_GUEST_MEMFD), -EIO);
	assert_int_equal(raw_known(foreign, 0x12345678), -EIO); /* before anything else */
	assert_int_equal(raw_cap(vm, KVMI_CAP_GUEST_MEMFD), 1);
	close(foreign);
	close(vm);
}

static void device_makes_vms_and_vcpus(void **state)
{
	int kvm, vm, vcpu;

	(void)state;
	fakekvm_enable(fakekvm_preset("snp"));
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_int_equal(ioctl(kvm, (unsigned long)KVMI_GET_API_VERSION, 0), KVMI_API_VERSION);
	assert_int_equal(raw_cap(kvm, KVMI_CAP_VM_TYPES), 0x1d);
	assert_int_equal(raw_cap(kvm, KVMI_CAP_GUEST_MEMFD_FLAGS), 3);
	assert_int_equal(raw_result(ioctl(kvm, RAW_CREATE_VM, 0ul)), -EINVAL);
	vm = (int)raw_result(ioctl(kvm, RAW_CREATE_VM, (unsigned long)KVMI_VM_TYPE_SNP));
	assert_int_equal(raw_cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS), 1);
	vcpu = raw_vcpu(vm);
	assert_int_equal(raw_known(vcpu, KVMI_SET_SIGNAL_MASK), -EFAULT);
	close(vcpu);
	close(vm);
	close(kvm);
}

/* guest_memfd */

static void write_needs_its_flag(void **state)
{
	static char data[2 * PAGE];
	int vm = fakekvm_vm(fakekvm_preset("future-upstream"));
	int plain = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED);
	int file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED | KVMI_GUEST_MEMFD_BIT2);

	(void)state;
	assert_int_equal(lseek(plain, 0, SEEK_CUR), 0);
	assert_int_equal(raw_result(pwrite(plain, data, 1, 0)), -ENODEV);
	assert_int_equal(raw_result(pwrite(file, data, 1, 0)), -EINVAL);
	assert_int_equal(raw_result(pwrite(file, data, PAGE, 4 * PAGE)), -EINVAL);
	memset(data, 7, sizeof(data));
	assert_int_equal(pwrite(file, data, sizeof(data), PAGE), sizeof(data));
	assert_int_equal(pwrite(file, data, sizeof(data), PAGE), sizeof(data)); /* writing again is fine there */
	close(plain);
	close(file);
	close(vm);
}

/* What was written has left the direct map, and cannot be written again. */
static void hidden_pages_are_written_once(void **state)
{
	static char data[4 * PAGE];
	int vm = fakekvm_vm(fakekvm_preset("future-firecracker"));
	int file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED | KVMI_GUEST_MEMFD_BIT2 | KVMI_GUEST_MEMFD_BIT3);

	(void)state;
	assert_int_equal(pwrite(file, data, PAGE, 2 * PAGE), PAGE);
	assert_int_equal(raw_result(pwrite(file, data, PAGE, 2 * PAGE)), -EEXIST);
	assert_int_equal(pwrite(file, data, sizeof(data), 0), 2 * PAGE); /* up to it */
	close(file);
	close(vm);
}

static long magic_of(const char *preset)
{
	int vm = fakekvm_vm(fakekvm_preset(preset)), file = raw_guest_memfd(vm, PAGE, RAW_SHARED);
	struct statfs about;

	assert_int_equal(fstatfs(file, &about), 0);
	close(file);
	close(vm);
	return (long)about.f_type;
}

static void file_system_has_a_magic(void **state)
{
	(void)state;
	assert_int_equal(magic_of("6.18"), 0x09041934);
	assert_int_equal(magic_of("7.3"), 0x474d454d);
}

static void mapping_holds_data(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("7.3")), file = raw_guest_memfd(vm, 2 * PAGE, RAW_SHARED);
	char *one = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	char *other = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, PAGE);

	(void)state;
	strcpy(one + PAGE, "the same page");
	assert_string_equal(other, "the same page");
	assert_int_equal(fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, PAGE, PAGE), 0);
	assert_string_equal(other, "");
	munmap(one, 2 * PAGE);
	munmap(other, PAGE);
	close(file);
	close(vm);
}

static long overlap_on(const char *preset)
{
	int vm = fakekvm_vm(fakekvm_preset(preset)), file = raw_guest_memfd(vm, 2 * PAGE, RAW_SHARED);
	struct raw_slot slot = { .flags = 4, .size = 2 * PAGE, .file = file };
	struct fakekvm_slot slots[2];
	long result;

	assert_int_equal(raw_set_slot(vm, &slot), 0);
	slot = (struct raw_slot){ .slot = 1, .flags = 4, .gpa = 8 * PAGE, .size = PAGE, .file = file, .offset = PAGE };
	result = raw_set_slot(vm, &slot);
	assert_int_equal(fakekvm_slots(vm, slots, 2), 1);
	assert_int_equal(slots[0].size, 2 * PAGE);
	assert_int_not_equal(slots[0].file, 0);
	close(file);
	close(vm);
	return result;
}

static void file_range_is_bound_once(void **state)
{
	(void)state;
	assert_int_equal(overlap_on("6.18"), -EINVAL);
	assert_int_equal(overlap_on("7.3"), -EEXIST);
}

static void arm64_binds_mappable_files_only(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("arm64")), file = raw_guest_memfd(vm, PAGE, 0);
	struct raw_slot slot = { .flags = 4, .size = PAGE, .file = file };

	(void)state;
	assert_int_equal(raw_set_slot(vm, &slot), -EINVAL);
	close(file);
	close(vm);
}

static void pre_fault_goes_on_where_it_stopped(void **state)
{
	struct {
		uint64_t gpa, size, flags, padding[5];
	} range = { .gpa = PAGE, .size = 3 * PAGE };
	struct raw_slot slot = { .size = 8 * PAGE };
	int vm = fakekvm_vm(fakekvm_preset("7.3")), vcpu = fakekvm_vcpu(vm);

	(void)state;
	assert_int_equal(raw_set_slot(vm, &slot), 0);
	fakekvm_script_partial("KVM_PRE_FAULT_MEMORY", PAGE, 0, 1, 0);
	assert_int_equal(ioctl(vcpu, (unsigned long)KVMI_PRE_FAULT_MEMORY, &range), 0);
	assert_int_equal(range.gpa, 2 * PAGE);
	assert_int_equal(range.size, 2 * PAGE);
	assert_int_equal(ioctl(vcpu, (unsigned long)KVMI_PRE_FAULT_MEMORY, &range), 0);
	assert_int_equal(range.size, 0);
	range.gpa = 8 * PAGE;
	range.size = PAGE;
	assert_int_equal(raw_result(ioctl(vcpu, (unsigned long)KVMI_PRE_FAULT_MEMORY, &range)), -ENOENT);
	close(vcpu);
	close(vm);
}

/* Threads, and the injector in front */

static void *churn(void *arg)
{
	int vm = *(int *)arg;

	for (int i = 0; i < 100; i++) {
		int file = raw_guest_memfd(vm, PAGE, RAW_SHARED);
		long mapped = raw_can_map(file, PROT_READ, MAP_SHARED);

		close(file);
		if (mapped)
			return arg;
	}
	return NULL;
}

static void threads_share_a_vm(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("7.3"));
	pthread_t threads[4];
	void *failed;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, &vm), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(fakekvm_calls("KVM_CREATE_GUEST_MEMFD"), 400);
	close(vm);
}

static void injector_comes_first(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("7.3"));

	(void)state;
	inject_arm(2, EPERM);
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -EFAULT);
	assert_int_equal(raw_known(vm, KVMI_CREATE_GUEST_MEMFD), -EPERM);
	assert_int_equal(inject_disarm(), 2);
	assert_int_equal(fakekvm_calls("probe:KVM_CREATE_GUEST_MEMFD"), 1);
	close(vm);
}

static const struct gt_test tests[] = {
	GT(presets_answer_as_promised, GT_NEEDS_NOTHING),
	GT(disabled_it_is_not_there, GT_NEEDS_NOTHING),
	GT(fds_survive_duplication, GT_NEEDS_NOTHING),
	GT(vm_answers_its_maker_only, GT_NEEDS_NOTHING),
	GT(device_makes_vms_and_vcpus, GT_NEEDS_NOTHING),
	GT(write_needs_its_flag, GT_NEEDS_NOTHING),
	GT(hidden_pages_are_written_once, GT_NEEDS_NOTHING),
	GT(file_system_has_a_magic, GT_NEEDS_NOTHING),
	GT(mapping_holds_data, GT_NEEDS_NOTHING),
	GT(file_range_is_bound_once, GT_NEEDS_NOTHING),
	GT(arm64_binds_mappable_files_only, GT_NEEDS_NOTHING),
	GT(pre_fault_goes_on_where_it_stopped, GT_NEEDS_NOTHING),
	GT(threads_share_a_vm, GT_NEEDS_NOTHING),
	GT(injector_comes_first, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_fakekvm", tests)
