/* SPDX-License-Identifier: MIT */
/* The stand-in kernel, held against what its presets promise; and, where there is a real KVM with guest_memfd, against that. */
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

#include "../../lib/uapi/kvm.h"
#include "../../lib/uapi/userfaultfd.h"

#define PAGE 4096ul
#define NOWHERE ((void *)8)
#define CREATE_VM 0xae01ul
#define CREATE_VCPU 0xae41ul
#define SHARED 3ul /* MMAP | INIT_SHARED */
#define MODES(missing_minor) (missing_minor)

/* 0 or more, or a negative errno. */
static long said(long result)
{
	return result < 0 ? -errno : result;
}

static long known(int fd, unsigned long request)
{
	return said(ioctl(fd, request, NOWHERE));
}

static long cap(int fd, unsigned long number)
{
	return said(ioctl(fd, (unsigned long)KVMI_CHECK_EXTENSION, number));
}

static int make(int vm, uint64_t size, uint64_t flags)
{
	struct kvmi_create_guest_memfd create = { .size = size, .flags = flags };

	return (int)said(ioctl(vm, (unsigned long)KVMI_CREATE_GUEST_MEMFD, &create));
}

struct bind {
	uint32_t slot, flags;
	uint64_t gpa, size, hva;
	int file;
	uint64_t offset;
};

static long set(int vm, struct bind b)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = b.slot,
		.flags = b.flags,
		.guest_phys_addr = b.gpa,
		.memory_size = b.size,
		.userspace_addr = b.hva,
		.guest_memfd = (uint32_t)b.file,
		.guest_memfd_offset = b.offset,
	};

	return said(ioctl(vm, (unsigned long)KVMI_SET_USER_MEMORY_REGION2, &region));
}

#define SET(vm, ...) set(vm, (struct bind){ __VA_ARGS__ })

/* What a slot with these flags and a fd that is not open says: EBADF = the flags are fine. */
static long flags_probe(int vm, uint32_t flags)
{
	return SET(vm, .slot = 7, .flags = flags, .size = PAGE, .file = -1);
}

/* What mapping a new file with these flags says. */
static long map_new(int vm, uint64_t flags, int protection, int map_flags)
{
	int fd = make(vm, PAGE, flags);
	void *at;

	if (fd < 0)
		return fd;
	at = mmap(NULL, PAGE, protection, map_flags, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		return -errno;
	munmap(at, PAGE);
	return 0;
}

/* Presets. A row is what one of them says to every probe; 1 for a result that is not an error. */
struct expectation {
	const char *preset;
	long device;				   /* open("/dev/kvm") */
	long region2, create, attributes, populate; /* EFAULT probes on the VM */
	long gmem_slot, userfault_slot;		   /* flag probes */
	long flags_cap;				   /* KVM_CAP_GUEST_MEMFD_FLAGS on the VM */
	long shared;				   /* creating MMAP|INIT_SHARED */
	long encrypt;				   /* KVM_MEMORY_ENCRYPT_OP(NULL) */
	long pre_fault, apf;			   /* EFAULT probes on the vCPU */
	uint64_t uffd_features;
};

/* clang-format off */
static const struct expectation expectations[] = {
/*	  preset		device	  region2  create   attrib.  populate  gmem	userfault flags shared  encrypt  prefault apf	   uffd */
	{ "none",		-ENOENT,  -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, 0,  -ENOTTY, -ENOTTY, -EINVAL, -EINVAL, 0x1ffff },
	{ "forbidden",		-EACCES,  -EFAULT, -EFAULT, -ENOTTY, -ENOTTY, -EBADF,  -EINVAL, 3,  1,	     -ENOTTY, -EFAULT, -EINVAL, 0 },
	{ "6.1",		1,	  -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, -ENOTTY, 0,  -ENOTTY, -ENOTTY, -EINVAL, -EINVAL, 0x1fff },
	{ "6.12",		1,	  -EFAULT, -EFAULT, -EFAULT, -ENOTTY, -EINVAL, -EINVAL, 0,  -EINVAL, -ENOTTY, -EFAULT, -EINVAL, 0x1ffff },
	{ "6.18",		1,	  -EFAULT, -EFAULT, -ENOTTY, -ENOTTY, -EBADF,  -EINVAL, 3,  1,	     -ENOTTY, -EFAULT, -EINVAL, 0x1ffff },
	{ "7.3",		1,	  -EFAULT, -EFAULT, -ENOTTY, -ENOTTY, -EBADF,  -EINVAL, 3,  1,	     -ENOTTY, -EFAULT, -EINVAL, 0x7ffff },
	{ "sw-protected",	1,	  -EFAULT, -EFAULT, -EFAULT, -ENOTTY, -EBADF,  -EINVAL, 1,  -EINVAL, -ENOTTY, -EFAULT, -EINVAL, 0x7ffff },
	{ "snp",		1,	  -EFAULT, -EFAULT, -EFAULT, -ENOTTY, -EBADF,  -EINVAL, 1,  -EINVAL, 0,	     -EFAULT, -EINVAL, 0x7ffff },
	{ "tdx",		1,	  -EFAULT, -EFAULT, -EFAULT, -ENOTTY, -EBADF,  -EINVAL, 1,  -EINVAL, -EFAULT, -EFAULT, -EINVAL, 0x7ffff },
	{ "future-upstream",	1,	  -EFAULT, -EFAULT, -ENOTTY, -ENOTTY, -EBADF,  -EBADF,	7,  1,	     -ENOTTY, -EFAULT, -EINVAL, 0x7ffff },
	{ "future-firecracker", 1,	  -EFAULT, -EFAULT, -ENOTTY, -ENOTTY, -EBADF,  -EBADF,	15, 1,	     -ENOTTY, -EFAULT, -EFAULT, 0x1ffff },
	{ "arm64",		1,	  -EFAULT, -EFAULT, -EINVAL, -EINVAL, -EBADF,  -EINVAL, 3,  1,	     -EINVAL, -EINVAL, -EINVAL, 0x7ffff },
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
	assert_int_equal(known(vm, KVMI_SET_USER_MEMORY_REGION), -EFAULT);
	assert_int_equal(known(vm, KVMI_SET_USER_MEMORY_REGION2), e->region2);
	assert_int_equal(known(vm, KVMI_CREATE_GUEST_MEMFD), e->create);
	assert_int_equal(known(vm, KVMI_SET_MEMORY_ATTRIBUTES), e->attributes);
	assert_int_equal(known(vm, KVMI_GUEST_MEMFD_POPULATE), e->populate);
	assert_int_equal(flags_probe(vm, KVMI_MEM_GUEST_MEMFD), e->gmem_slot);
	assert_int_equal(flags_probe(vm, KVMI_MEM_GUEST_MEMFD | KVMI_MEM_USERFAULT), e->userfault_slot);
	assert_int_equal(cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS), e->flags_cap);
	assert_int_equal(one_if_fine(make(vm, PAGE, SHARED)), e->shared);
	assert_int_equal(said(ioctl(vm, (unsigned long)KVMI_MEMORY_ENCRYPT_OP, NULL)), e->encrypt);
	assert_int_equal(fakekvm_slots(vm, NULL, 0), 0);
}

static void check_preset(const struct expectation *e)
{
	int vm, vcpu;

	fakekvm_enable(fakekvm_preset(e->preset));
	assert_int_equal(one_if_fine(said(open("/dev/kvm", O_RDWR | O_CLOEXEC))), e->device);
	vm = fakekvm_vm(NULL);
	vcpu = fakekvm_vcpu(vm);
	check_vm(e, vm);
	assert_int_equal(known(vcpu, KVMI_SET_SIGNAL_MASK), -EFAULT);
	assert_int_equal(known(vcpu, KVMI_PRE_FAULT_MEMORY), e->pre_fault);
	assert_int_equal(known(vcpu, 0x4020aed6), e->apf);
	assert_int_equal(known(vcpu, KVMI_MAP_MEMORY_V1), -EINVAL);
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
	assert_int_equal(known(vm, KVMI_CREATE_GUEST_MEMFD), -EFAULT);
	fakekvm_disable();
	assert_int_equal(known(vm, KVMI_CREATE_GUEST_MEMFD), -ENOTTY); /* a memfd's answer */
	assert_int_equal(fstat(vm, &about), 0);
	close(vm);
}

static void fds_survive_duplication(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("6.18")), copy = fcntl(vm, F_DUPFD_CLOEXEC, 100), file;

	(void)state;
	assert_true(fcntl(vm, F_GETFD) & FD_CLOEXEC);
	close(vm);
	file = make(copy, PAGE, SHARED);
	assert_true(file >= 0);
	assert_int_equal(fcntl(file, F_GETFD), 0); /* guest_memfds come without close-on-exec */
	close(file);
	close(copy);
}

static int ask_as_child(void *vm)
{
	return (int)-cap(*(int *)vm, KVMI_CAP_GUEST_MEMFD);
}

static void vm_answers_its_maker_only(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("7.3");
	int vm = fakekvm_vm(&config), foreign;

	(void)state;
	assert_int_equal(gt_in_child(ask_as_child, &vm), EIO);
	config.foreign = true;
	foreign = fakekvm_vm(&config);
	assert_int_equal(cap(foreign, KVMI_CAP_GUEST_MEMFD), -EIO);
	assert_int_equal(known(foreign, 0x12345678), -EIO); /* before anything else */
	assert_int_equal(cap(vm, KVMI_CAP_GUEST_MEMFD), 1);
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
	assert_int_equal(cap(kvm, KVMI_CAP_VM_TYPES), 0x1d);
	assert_int_equal(cap(kvm, KVMI_CAP_GUEST_MEMFD_FLAGS), 3);
	assert_int_equal(said(ioctl(kvm, CREATE_VM, 0ul)), -EINVAL);
	vm = (int)said(ioctl(kvm, CREATE_VM, (unsigned long)KVMI_VM_TYPE_SNP));
	assert_int_equal(cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS), 1);
	vcpu = (int)said(ioctl(vm, CREATE_VCPU, 0ul));
	assert_int_equal(known(vcpu, KVMI_SET_SIGNAL_MASK), -EFAULT);
	close(vcpu);
	close(vm);
	close(kvm);
}

/* Questions that every kernel since 6.18 answers alike: asked of the stand-in and of the real one. */

static long q_mmap(int vm) { return map_new(vm, SHARED, PROT_READ | PROT_WRITE, MAP_SHARED); }
static long q_mmap_private(int vm) { return map_new(vm, SHARED, PROT_READ, MAP_PRIVATE); }
static long q_mmap_exec(int vm) { return map_new(vm, SHARED, PROT_READ | PROT_EXEC, MAP_SHARED); }
static long q_mmap_without_flag(int vm) { return map_new(vm, 0, PROT_READ, MAP_SHARED); }
static long q_mmap_init_shared_only(int vm) { return map_new(vm, 2, PROT_READ, MAP_SHARED); }
static long q_flag_unknown(int vm) { return make(vm, PAGE, UINT64_C(1) << 40); }
static long q_size_odd(int vm) { return make(vm, PAGE + 1, SHARED); }
static long q_size_zero(int vm) { return make(vm, 0, SHARED); }
static long q_size_negative(int vm) { return make(vm, UINT64_C(1) << 63, SHARED); }
static long q_size_enormous(int vm) { return one_if_fine(make(vm, UINT64_C(1) << 62, SHARED)); }

/* For questions about a file of four pages: asks, closes. */
static long of_file(int vm, uint64_t flags, long (*ask)(int file))
{
	int file = make(vm, 4 * PAGE, flags);
	long result;

	if (file < 0)
		return file;
	result = ask(file);
	close(file);
	return result;
}

static char buffer[PAGE];

static long f_lseek(int file) { return said(lseek(file, 0, SEEK_CUR)); }
static long f_pwrite(int file) { return said(pwrite(file, buffer, PAGE, 0)); }
static long f_pread(int file) { return said(pread(file, buffer, PAGE, 0)); }
static long f_read(int file) { return said(read(file, buffer, PAGE)); }
static long f_truncate(int file) { return said(ftruncate(file, 4 * PAGE)); }
static long f_seals(int file) { return said(fcntl(file, F_GET_SEALS)); }
static long f_seal(int file) { return said(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK)); }
static long f_allocate(int file) { return said(fallocate(file, FALLOC_FL_KEEP_SIZE, PAGE, PAGE)); }
static long f_allocate_odd(int file) { return said(fallocate(file, FALLOC_FL_KEEP_SIZE, 1, PAGE)); }
static long f_allocate_beyond(int file) { return said(fallocate(file, FALLOC_FL_KEEP_SIZE, PAGE, 4 * PAGE)); }
static long f_allocate_growing(int file) { return said(fallocate(file, 0, 0, PAGE)); }
static long f_punch(int file) { return said(fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, PAGE)); }
static long f_punch_beyond(int file) { return said(fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 8 * PAGE, PAGE)); }
static long f_unknown(int file) { return known(file, 0x12345678); }
static long f_attributes2(int file) { return known(file, KVMI_SET_MEMORY_ATTRIBUTES2); }

static long f_mode(int file)
{
	struct stat about;

	return fstat(file, &about) ? -errno : (long)about.st_mode;
}

static long f_size(int file)
{
	struct stat about;

	return fstat(file, &about) ? -errno : (long)about.st_size + (long)about.st_blocks;
}

/* 10000 times what the advice says, and what was in memory before and after it: pages 0 and 1 of which page 0 was written. */
static long advise(int file, int advice)
{
	unsigned char before[2], after[2];
	char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	long result;

	assert_ptr_not_equal(at, MAP_FAILED);
	at[0] = 1;
	assert_int_equal(mincore(at, 2 * PAGE, before), 0);
	result = said(madvise(at, 2 * PAGE, advice));
	assert_int_equal(mincore(at, 2 * PAGE, after), 0);
	munmap(at, 2 * PAGE);
	return result * 10000 + (before[0] & 1) * 1000 + (before[1] & 1) * 100 + (after[0] & 1) * 10 + (after[1] & 1);
}

static long f_populate(int file) { return advise(file, 23); }
static long f_dont_need(int file) { return advise(file, MADV_DONTNEED); }
static long f_remove(int file) { return advise(file, MADV_REMOVE); }
static long f_free(int file) { return advise(file, MADV_FREE); }

static long f_populate_hidden(int file)
{
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	long result = said(madvise(at, PAGE, 23));

	munmap(at, PAGE);
	return result;
}

/* Slot 0: page 0 of a file at gpa 64 K. Then something else. */
static long after_bound(int vm, struct bind then)
{
	int file = make(vm, 4 * PAGE, SHARED);
	long result = SET(vm, .flags = 4, .gpa = 16 * PAGE, .size = PAGE, .file = file);

	if (result == 0) {
		then.file = file;
		result = set(vm, then);
	}
	close(file);
	return result;
}

#define AFTER_BOUND(vm, ...) after_bound(vm, (struct bind){ __VA_ARGS__ })

/* Slot 0: plain, one page at gpa 64 K. */
static long after_plain(int vm, struct bind then)
{
	long result = SET(vm, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE);

	return result ? result : set(vm, then);
}

#define AFTER_PLAIN(vm, ...) after_plain(vm, (struct bind){ __VA_ARGS__ })

static long s_bind(int vm) { return AFTER_BOUND(vm, .slot = 1, .flags = 4, .gpa = 32 * PAGE, .size = PAGE, .offset = PAGE); }
static long s_gpa_overlap(int vm) { return AFTER_BOUND(vm, .slot = 1, .flags = 4, .gpa = 15 * PAGE, .size = 2 * PAGE, .offset = PAGE); }
static long s_other_space(int vm) { return AFTER_BOUND(vm, .slot = 0x10001, .flags = 4, .gpa = 16 * PAGE, .size = PAGE, .offset = PAGE); }
static long s_third_space(int vm) { return AFTER_BOUND(vm, .slot = 0x20001, .gpa = 16 * PAGE, .size = PAGE); }
static long s_beyond_file(int vm) { return AFTER_BOUND(vm, .slot = 1, .flags = 4, .size = 2 * PAGE, .offset = 3 * PAGE); }
static long s_again(int vm) { return AFTER_BOUND(vm, .flags = 4, .gpa = 16 * PAGE, .size = PAGE); }
static long s_bound_flags(int vm) { return AFTER_BOUND(vm, .flags = 5, .gpa = 16 * PAGE, .size = PAGE); }
static long s_bound_to_plain(int vm) { return AFTER_BOUND(vm, .gpa = 16 * PAGE, .size = PAGE); }
static long s_bound_move(int vm) { return AFTER_BOUND(vm, .flags = 4, .gpa = 17 * PAGE, .size = PAGE); }
static long s_bound_delete(int vm) { return AFTER_BOUND(vm, .flags = 4, .gpa = 16 * PAGE); }
static long s_bound_delete_plainly(int vm) { return AFTER_BOUND(vm, .size = 0); }
static long s_delete_none(int vm) { return SET(vm, .slot = 3, .size = 0); }
static long s_delete_twice(int vm) { return SET(vm, .size = PAGE, .hva = PAGE) + SET(vm, .size = 0) + SET(vm, .size = 0); }
static long s_bad_fd(int vm) { return flags_probe(vm, 4); }
static long s_bad_fd_read_only(int vm) { return flags_probe(vm, 6); }
static long s_bad_fd_logged(int vm) { return flags_probe(vm, 5); }
static long s_bad_flag(int vm) { return flags_probe(vm, 0x40); }
static long s_not_gmem(int vm) { return SET(vm, .flags = 4, .size = PAGE, .file = STDIN_FILENO); }
static long s_odd_gpa(int vm) { return SET(vm, .gpa = 1, .size = PAGE); }
static long s_odd_size(int vm) { return SET(vm, .size = PAGE + 1); }
static long s_odd_hva(int vm) { return SET(vm, .size = PAGE, .hva = 1); }
static long s_kernel_hva(int vm) { return SET(vm, .size = PAGE, .hva = UINT64_C(1) << 63); }
static long s_odd_offset(int vm) { return SET(vm, .flags = 4, .size = PAGE, .file = -1, .offset = 1); }
static long s_offset_wraps(int vm) { return SET(vm, .flags = 4, .size = PAGE, .file = -1, .offset = -PAGE + 1 - 1); }
static long s_gpa_wraps(int vm) { return SET(vm, .gpa = -PAGE, .size = 2 * PAGE); }
static long s_id_too_big(int vm) { return SET(vm, .slot = 32767, .size = PAGE); }
static long s_id_biggest(int vm) { return SET(vm, .slot = 32766, .size = PAGE); }
static long s_too_many_pages(int vm) { return SET(vm, .size = PAGE << 31); }
static long s_same(int vm) { return AFTER_PLAIN(vm, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE); }
static long s_log(int vm) { return AFTER_PLAIN(vm, .flags = 1, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE); }
static long s_to_read_only(int vm) { return AFTER_PLAIN(vm, .flags = 2, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE); }
static long s_move(int vm) { return AFTER_PLAIN(vm, .gpa = 17 * PAGE, .size = PAGE, .hva = 16 * PAGE); }
static long s_resize(int vm) { return AFTER_PLAIN(vm, .gpa = 16 * PAGE, .size = 2 * PAGE, .hva = 16 * PAGE); }
static long s_other_hva(int vm) { return AFTER_PLAIN(vm, .gpa = 16 * PAGE, .size = PAGE, .hva = 17 * PAGE); }
static long s_plain_to_bound(int vm) { return AFTER_PLAIN(vm, .flags = 4, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE, .file = -1); }
static long s_alias(int vm) { return AFTER_PLAIN(vm, .slot = 1, .gpa = 17 * PAGE, .size = PAGE, .hva = 16 * PAGE); }

static long s_v1_with_gmem(int vm)
{
	struct kvmi_userspace_memory_region2 region = { .flags = 4, .memory_size = PAGE };

	return said(ioctl(vm, (unsigned long)KVMI_SET_USER_MEMORY_REGION, &region));
}

static long s_file_of_other_vm(int vm)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), other = (int)said(ioctl(kvm, CREATE_VM, 0ul));
	int file = make(other, PAGE, SHARED);
	long result = SET(vm, .flags = 4, .size = PAGE, .file = file);

	close(file);
	close(other);
	close(kvm);
	return result;
}

static long v_ask(int vm, unsigned long request)
{
	int vcpu = (int)said(ioctl(vm, CREATE_VCPU, 0ul));
	long result = known(vcpu, request);

	close(vcpu);
	return result;
}

static long v_signal_mask(int vm) { return v_ask(vm, KVMI_SET_SIGNAL_MASK); }
static long v_pre_fault(int vm) { return v_ask(vm, KVMI_PRE_FAULT_MEMORY); }
static long v_map_memory(int vm) { return v_ask(vm, KVMI_MAP_MEMORY_V2); }
static long v_unknown(int vm) { return v_ask(vm, 0x12345678); }
static long k_region(int vm) { return known(vm, KVMI_SET_USER_MEMORY_REGION); }
static long k_region2(int vm) { return known(vm, KVMI_SET_USER_MEMORY_REGION2); }
static long k_populate(int vm) { return known(vm, KVMI_GUEST_MEMFD_POPULATE); }
static long k_unknown(int vm) { return known(vm, 0x12345678); }
static long k_flags(int vm) { return cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS); }
static long k_slots(int vm) { return cap(vm, KVMI_CAP_NR_MEMSLOTS); }
static long k_no_cap(int vm) { return cap(vm, 99999); }

#define VM(fn) { #fn, fn, NULL, 0 }
#define FILE_OF(flags, fn) { #fn, NULL, fn, flags }

static const struct question {
	const char *name;
	long (*of_vm)(int vm);
	long (*of_file)(int file);
	uint64_t flags;
} questions[] = {
	VM(q_mmap), VM(q_mmap_private), VM(q_mmap_exec), VM(q_mmap_without_flag), VM(q_mmap_init_shared_only), VM(q_flag_unknown),
	VM(q_size_odd), VM(q_size_zero), VM(q_size_negative), VM(q_size_enormous),
	FILE_OF(SHARED, f_lseek), FILE_OF(SHARED, f_pwrite), FILE_OF(SHARED, f_pread), FILE_OF(SHARED, f_read),
	FILE_OF(SHARED, f_truncate), FILE_OF(SHARED, f_seals), FILE_OF(SHARED, f_seal), FILE_OF(0, f_allocate),
	FILE_OF(SHARED, f_allocate), FILE_OF(SHARED, f_allocate_odd), FILE_OF(SHARED, f_allocate_beyond),
	FILE_OF(SHARED, f_allocate_growing), FILE_OF(SHARED, f_punch), FILE_OF(SHARED, f_punch_beyond), FILE_OF(SHARED, f_unknown),
	FILE_OF(SHARED, f_attributes2), FILE_OF(SHARED, f_mode), FILE_OF(SHARED, f_size), FILE_OF(SHARED, f_populate),
	FILE_OF(SHARED, f_dont_need), FILE_OF(SHARED, f_remove), FILE_OF(SHARED, f_free), FILE_OF(1, f_populate_hidden),
	VM(s_bind), VM(s_gpa_overlap), VM(s_other_space), VM(s_third_space), VM(s_beyond_file), VM(s_again), VM(s_bound_flags),
	VM(s_bound_to_plain), VM(s_bound_move), VM(s_bound_delete), VM(s_bound_delete_plainly), VM(s_delete_none),
	VM(s_delete_twice), VM(s_bad_fd), VM(s_bad_fd_read_only), VM(s_bad_fd_logged), VM(s_bad_flag), VM(s_not_gmem), VM(s_odd_gpa),
	VM(s_odd_size), VM(s_odd_hva), VM(s_kernel_hva), VM(s_odd_offset), VM(s_offset_wraps), VM(s_gpa_wraps), VM(s_id_too_big),
	VM(s_id_biggest), VM(s_too_many_pages), VM(s_same), VM(s_log), VM(s_to_read_only), VM(s_move), VM(s_resize), VM(s_other_hva),
	VM(s_plain_to_bound), VM(s_alias), VM(s_v1_with_gmem), VM(s_file_of_other_vm),
	VM(v_signal_mask), VM(v_pre_fault), VM(v_map_memory), VM(v_unknown),
	VM(k_region), VM(k_region2), VM(k_populate), VM(k_unknown), VM(k_flags), VM(k_slots), VM(k_no_cap),
};
