/* SPDX-License-Identifier: MIT */
/* The stand-in and the real kernel, asked the same questions: those that every kernel with a mappable guest_memfd (6.18 and
 * later) answers alike. Where the answers differ it is the stand-in that is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define PAGE RAW_PAGE
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE: not in every libc */

#ifdef __aarch64__
#define PRESET "arm64"
#else
#define PRESET "6.18"
#endif

#define CAP_MULTI_ADDRESS_SPACE 118

static long ask_once(int vm, long (*ask)(int vm, const void *arg), const void *arg)
{
	long result;

	assert_true(vm >= 0);
	result = ask(vm, arg);
	close(vm);
	return result;
}

static long flags_of_files(int vm, const void *arg)
{
	(void)arg;
	return raw_cap(vm, KVMI_CAP_GUEST_MEMFD_FLAGS);
}

static long address_spaces(int vm, const void *arg)
{
	(void)arg;
	return raw_cap(vm, CAP_MULTI_ADDRESS_SPACE);
}

/* Asks the stand-in, then the kernel. How many address spaces there are depends on how the kernel was built. */
static void same(const char *name, long (*ask)(int vm, const void *arg), const void *arg)
{
	struct fakekvm_config config = *fakekvm_preset(PRESET);
	long spaces = ask_once(raw_vm(0), address_spaces, NULL), fake, real;

	if (ask_once(raw_vm(0), flags_of_files, NULL) != (long)RAW_SHARED)
		gt_skip("this kernel's guest_memfd has more than mmap: it carries patches");
	config.address_spaces = spaces > 1 ? (uint32_t)spaces : 1;
	fake = ask_once(fakekvm_vm(&config), ask, arg);
	fakekvm_disable();
	real = ask_once(raw_vm(0), ask, arg);
	if (fake != real)
		fail_msg("%s: the stand-in says %ld, the kernel %ld", name, fake, real);
}

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Creation, and mappings of what was created */

struct creation {
	const char *name;
	uint64_t size, flags;
	int protection, map_flags;
};

static const struct creation creations[] = {
	{ "mappable", PAGE, RAW_SHARED, PROT_READ | PROT_WRITE, MAP_SHARED },
	{ "read-only", PAGE, RAW_SHARED, PROT_READ, MAP_SHARED },
	{ "private mapping", PAGE, RAW_SHARED, PROT_READ, MAP_PRIVATE },
	{ "executable", PAGE, RAW_SHARED, PROT_READ | PROT_EXEC, MAP_SHARED },
	{ "not mappable", PAGE, 0, PROT_READ, MAP_SHARED },
	{ "not mappable, private", PAGE, 0, PROT_READ, MAP_PRIVATE },
	{ "hidden", PAGE, KVMI_GUEST_MEMFD_MMAP, PROT_READ, MAP_SHARED },
	{ "shared only", PAGE, KVMI_GUEST_MEMFD_INIT_SHARED, PROT_READ, MAP_SHARED },
	{ "unknown flag", PAGE, UINT64_C(1) << 40, PROT_READ, MAP_SHARED },
	{ "odd size", PAGE + 1, RAW_SHARED, PROT_READ, MAP_SHARED },
	{ "no size", 0, RAW_SHARED, PROT_READ, MAP_SHARED },
	{ "negative size", UINT64_C(1) << 63, RAW_SHARED, PROT_READ, MAP_SHARED },
	{ "enormous size", UINT64_C(1) << 62, RAW_SHARED, PROT_READ, MAP_SHARED },
};

static long create_and_map(int vm, const void *arg)
{
	const struct creation *c = arg;
	int file = raw_guest_memfd(vm, c->size, c->flags);
	long result;

	if (file < 0)
		return file - 1000; /* not to be taken for mmap()'s */
	result = raw_can_map(file, c->protection, c->map_flags);
	result += fcntl(file, F_GETFD) * 100;
	close(file);
	return result;
}

static void creation_is_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(creations); i++)
		same(creations[i].name, create_and_map, &creations[i]);
}

/* Calls on a file of four pages */

static char buffer[PAGE];

static long do_lseek(int file)
{
	return lseek(file, 0, SEEK_CUR);
}

static long do_pwrite(int file)
{
	return pwrite(file, buffer, PAGE, 0);
}

static long do_pwrite_odd(int file)
{
	return pwrite(file, buffer, 1, 1);
}

static long do_pread(int file)
{
	return pread(file, buffer, PAGE, 0);
}

static long do_read(int file)
{
	return read(file, buffer, PAGE);
}

static long do_truncate(int file)
{
	return ftruncate(file, 4 * PAGE);
}

static long do_get_seals(int file)
{
	return fcntl(file, F_GET_SEALS);
}

static long do_add_seals(int file)
{
	return fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK);
}

static long do_unknown_ioctl(int file)
{
	return ioctl(file, 0x12345678ul, 8ul);
}

static long do_stat(int file)
{
	struct stat about;

	if (fstat(file, &about))
		return -1;
	return (long)about.st_mode * 100000 + (long)about.st_blocks * 10000 + (long)(about.st_size / (off_t)PAGE);
}

static const struct {
	const char *name;
	long (*call)(int file);
} file_calls[] = {
	{ "lseek", do_lseek },
	{ "pwrite", do_pwrite },
	{ "pwrite of a byte", do_pwrite_odd },
	{ "pread", do_pread },
	{ "read", do_read },
	{ "ftruncate", do_truncate },
	{ "F_GET_SEALS", do_get_seals },
	{ "F_ADD_SEALS", do_add_seals },
	{ "unknown ioctl", do_unknown_ioctl },
	{ "fstat", do_stat },
};

static long call_file(int vm, const void *arg)
{
	int file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED);
	long result;

	if (file < 0)
		return file;
	result = raw_result((*(long (*const *)(int))arg)(file));
	close(file);
	return result;
}

static void file_calls_are_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(file_calls); i++)
		same(file_calls[i].name, call_file, &file_calls[i].call);
}

struct allocation {
	const char *name;
	uint64_t flags;
	int mode;
	off_t offset, length;
};

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)
#define PAGES(n) ((off_t)(n) * (off_t)PAGE)

static const struct allocation allocations[] = {
	{ "allocate", RAW_SHARED, KEEP, PAGES(1), PAGES(1) },
	{ "allocate, not mappable", 0, KEEP, PAGES(1), PAGES(1) },
	{ "allocate at an odd offset", RAW_SHARED, KEEP, 1, PAGES(1) },
	{ "allocate an odd length", RAW_SHARED, KEEP, 0, 1 },
	{ "allocate beyond the end", RAW_SHARED, KEEP, PAGES(3), PAGES(2) },
	{ "allocate at a negative offset", RAW_SHARED, KEEP, PAGES(-1), PAGES(1) },
	{ "allocate nothing", RAW_SHARED, KEEP, 0, 0 },
	{ "allocate and grow", RAW_SHARED, 0, 0, PAGES(1) },
	{ "zero", RAW_SHARED, KEEP | FALLOC_FL_ZERO_RANGE, 0, PAGES(1) },
	{ "punch", RAW_SHARED, PUNCH, 0, PAGES(4) },
	{ "punch at an odd offset", RAW_SHARED, PUNCH, 1, PAGES(1) },
	{ "punch beyond the end", RAW_SHARED, PUNCH, PAGES(8), PAGES(1) },
};

static long allocate(int vm, const void *arg)
{
	const struct allocation *a = arg;
	int file = raw_guest_memfd(vm, 4 * PAGE, a->flags);
	long result = raw_result(fallocate(file, a->mode, a->offset, a->length));

	close(file);
	return result;
}

static void allocation_is_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(allocations); i++)
		same(allocations[i].name, allocate, &allocations[i]);
}

/* Advice on two pages, the first of which has content if the host may touch it */

struct advice {
	const char *name;
	uint64_t flags;
	int advice;
};

static const struct advice advices[] = {
	{ "populate", RAW_SHARED, POPULATE_WRITE },
	{ "populate, hidden", KVMI_GUEST_MEMFD_MMAP, POPULATE_WRITE },
	{ "MADV_DONTNEED", RAW_SHARED, MADV_DONTNEED },
	{ "MADV_REMOVE", RAW_SHARED, MADV_REMOVE },
	{ "MADV_FREE", RAW_SHARED, MADV_FREE },
	{ "MADV_WIPEONFORK", RAW_SHARED, MADV_WIPEONFORK },
	{ "MADV_DONTFORK", RAW_SHARED, MADV_DONTFORK },
};

/* In decimal digits: pages that are there before, pages that are there after, each as a bit. */
static long residents(void *at)
{
	unsigned char vector[2];

	assert_int_equal(mincore(at, 2 * PAGE, vector), 0);
	return (vector[0] & 1) + (vector[1] & 1) * 2;
}

static long advise(int vm, const void *arg)
{
	const struct advice *a = arg;
	int file = raw_guest_memfd(vm, 4 * PAGE, a->flags);
	char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	long before, result;

	assert_ptr_not_equal(at, MAP_FAILED);
	if (a->flags == RAW_SHARED)
		at[0] = 1;
	before = residents(at);
	result = raw_result(madvise(at, 2 * PAGE, a->advice));
	result = result * 100 + before * 10 + residents(at);
	munmap(at, 2 * PAGE);
	close(file);
	return result;
}

static void advice_is_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(advices); i++)
		same(advices[i].name, advise, &advices[i]);
}

/* Memslots: one case is a memslot set after another one, or after none */

#define GMEM KVMI_MEM_GUEST_MEMFD
#define LOG KVMI_MEM_LOG_DIRTY_PAGES
#define READONLY KVMI_MEM_READONLY

enum first { NOTHING, BOUND, PLAIN }; /* slot 0, one page at page 16: page 0 of a file of four, or hva page 16 */
enum file { THE_FILE, NO_FILE, OTHER_FILE };

struct slot_case {
	const char *name;
	enum first first;
	enum file file;
	struct raw_slot then;
};

static const struct slot_case slot_cases[] = {
	{ "bind", NOTHING, THE_FILE, { .flags = GMEM, .size = PAGE } },
	{ "another part", BOUND, THE_FILE, { .slot = 1, .flags = GMEM, .gpa = 32 * PAGE, .size = PAGE, .offset = PAGE } },
	{ "gpa overlaps", BOUND, THE_FILE, { .slot = 1, .flags = GMEM, .gpa = 15 * PAGE, .size = 2 * PAGE, .offset = PAGE } },
	{ "same gpa in the other space", PLAIN, THE_FILE, { .slot = 0x10001, .flags = GMEM, .gpa = 16 * PAGE, .size = PAGE } },
	{ "third space", NOTHING, THE_FILE, { .slot = 0x20001, .size = PAGE } },
	{ "beyond the file", BOUND, THE_FILE, { .slot = 1, .flags = GMEM, .size = 2 * PAGE, .offset = 3 * PAGE } },
	{ "bind again", BOUND, THE_FILE, { .flags = GMEM, .gpa = 16 * PAGE, .size = PAGE } },
	{ "log a bound one", BOUND, THE_FILE, { .flags = GMEM | LOG, .gpa = 16 * PAGE, .size = PAGE } },
	{ "bound to plain", BOUND, THE_FILE, { .gpa = 16 * PAGE, .size = PAGE } },
	{ "move a bound one", BOUND, THE_FILE, { .flags = GMEM, .gpa = 17 * PAGE, .size = PAGE } },
	{ "delete a bound one", BOUND, THE_FILE, { .flags = GMEM, .gpa = 16 * PAGE } },
	{ "delete a bound one without the flag", BOUND, THE_FILE, { .size = 0 } },
	{ "delete what is not there", PLAIN, THE_FILE, { .slot = 3, .size = 0 } },
	{ "delete a plain one", PLAIN, THE_FILE, { .size = 0 } },
	{ "no such fd", NOTHING, NO_FILE, { .flags = GMEM, .size = PAGE } },
	{ "no such fd, read-only", NOTHING, NO_FILE, { .flags = GMEM | READONLY, .size = PAGE } },
	{ "no such fd, logged", NOTHING, NO_FILE, { .flags = GMEM | LOG, .size = PAGE } },
	{ "unknown flag", NOTHING, NO_FILE, { .flags = GMEM | 0x40, .size = PAGE } },
	{ "fd of something else", NOTHING, OTHER_FILE, { .flags = GMEM, .size = PAGE } },
	{ "no such fd, size 0", NOTHING, NO_FILE, { .flags = GMEM } },
	{ "odd gpa", NOTHING, NO_FILE, { .gpa = 1, .size = PAGE } },
	{ "odd size", NOTHING, NO_FILE, { .size = PAGE + 1 } },
	{ "odd hva", NOTHING, NO_FILE, { .size = PAGE, .hva = 1 } },
	{ "kernel's hva", NOTHING, NO_FILE, { .size = PAGE, .hva = UINT64_C(1) << 63 } },
	{ "odd offset", NOTHING, NO_FILE, { .flags = GMEM, .size = PAGE, .offset = 1 } },
	{ "offset of a plain one", NOTHING, NO_FILE, { .size = PAGE, .offset = 1 } },
	{ "offset wraps", NOTHING, NO_FILE, { .flags = GMEM, .size = 2 * PAGE, .offset = -PAGE } },
	{ "gpa wraps", NOTHING, NO_FILE, { .gpa = -PAGE, .size = 2 * PAGE } },
	{ "id too big", NOTHING, NO_FILE, { .slot = 32767, .size = PAGE } },
	{ "one id too big on x86", NOTHING, NO_FILE, { .slot = 32764, .size = PAGE } },
	{ "biggest id on x86", NOTHING, NO_FILE, { .slot = 32763, .size = PAGE } },
	{ "too many pages", NOTHING, NO_FILE, { .size = PAGE << 31 } },
	{ "plain, the same again", PLAIN, NO_FILE, { .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "log", PLAIN, NO_FILE, { .flags = LOG, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "to read-only", PLAIN, NO_FILE, { .flags = READONLY, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "move", PLAIN, NO_FILE, { .gpa = 17 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "resize", PLAIN, NO_FILE, { .gpa = 16 * PAGE, .size = 2 * PAGE, .hva = 16 * PAGE } },
	{ "other hva", PLAIN, NO_FILE, { .gpa = 16 * PAGE, .size = PAGE, .hva = 17 * PAGE } },
	{ "plain to bound", PLAIN, THE_FILE, { .flags = GMEM, .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "alias", PLAIN, NO_FILE, { .slot = 1, .gpa = 17 * PAGE, .size = PAGE, .hva = 16 * PAGE } },
	{ "plain over bound", BOUND, NO_FILE, { .slot = 1, .gpa = 16 * PAGE, .size = PAGE } },
};

static long set_first(int vm, enum first first, int file)
{
	struct raw_slot slot = { .gpa = 16 * PAGE, .size = PAGE, .hva = 16 * PAGE, .file = file };

	slot.flags = first == BOUND ? GMEM : 0;
	return first == NOTHING ? 0 : raw_set_slot(vm, &slot);
}

static long set_both(int vm, const void *arg)
{
	const struct slot_case *c = arg;
	int file = raw_guest_memfd(vm, 4 * PAGE, RAW_SHARED);
	struct raw_slot then = c->then;
	long result;

	then.file = c->file == NO_FILE ? -1 : c->file == OTHER_FILE ? vm : file;
	result = set_first(vm, c->first, file);
	assert_int_equal(result, 0);
	result = raw_set_slot(vm, &then);
	close(file);
	return result;
}

static void memslots_are_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(slot_cases); i++)
		same(slot_cases[i].name, set_both, &slot_cases[i]);
}

static long bind_file_of_other_vm(int vm, const void *arg)
{
	int other = raw_vm(0), file = raw_guest_memfd(other, PAGE, RAW_SHARED);
	struct raw_slot slot = { .flags = GMEM, .size = PAGE, .file = file };
	long result = raw_set_slot(vm, &slot);

	(void)arg;
	close(file);
	close(other);
	return result;
}

static long older_call_with_file(int vm, const void *arg)
{
	struct kvmi_userspace_memory_region2 region = { .flags = GMEM, .memory_size = PAGE };

	(void)arg;
	return raw_result(ioctl(vm, (unsigned long)KVMI_SET_USER_MEMORY_REGION, &region));
}

static void odd_memslots_are_the_same(void **state)
{
	(void)state;
	same("file of another VM", bind_file_of_other_vm, NULL);
	same("KVM_SET_USER_MEMORY_REGION with a file", older_call_with_file, NULL);
}

/* Probes: an ioctl with a bad pointer, or a capability */

struct probe {
	const char *name;
	bool of_vcpu;
	unsigned long request;
	unsigned long cap;
};

static const struct probe probes[] = {
	{ "KVM_SET_USER_MEMORY_REGION", false, KVMI_SET_USER_MEMORY_REGION, 0 },
	{ "KVM_SET_USER_MEMORY_REGION2", false, KVMI_SET_USER_MEMORY_REGION2, 0 },
	{ "KVM_CREATE_GUEST_MEMFD", false, KVMI_CREATE_GUEST_MEMFD, 0 },
	{ "KVM_GUEST_MEMFD_POPULATE", false, KVMI_GUEST_MEMFD_POPULATE, 0 },
	{ "KVM_ARM_RMI_POPULATE", false, KVMI_ARM_RMI_POPULATE, 0 },
	{ "unknown on a VM", false, 0x12345678, 0 },
	{ "KVM_SET_SIGNAL_MASK", true, KVMI_SET_SIGNAL_MASK, 0 },
	{ "KVM_PRE_FAULT_MEMORY", true, KVMI_PRE_FAULT_MEMORY, 0 },
	{ "KVM_MAP_MEMORY", true, KVMI_MAP_MEMORY_V2, 0 },
	{ "KVM_MAP_MEMORY v1", true, KVMI_MAP_MEMORY_V1, 0 },
	{ "unknown on a vCPU", true, 0x12345678, 0 },
	{ "KVM_CAP_NR_MEMSLOTS", false, 0, KVMI_CAP_NR_MEMSLOTS },
	{ "KVM_CAP_USER_MEMORY2", false, 0, KVMI_CAP_USER_MEMORY2 },
	{ "KVM_CAP_MEMORY_FAULT_INFO", false, 0, KVMI_CAP_MEMORY_FAULT_INFO },
	{ "KVM_CAP_MEMORY_ATTRIBUTES", false, 0, KVMI_CAP_MEMORY_ATTRIBUTES },
	{ "KVM_CAP_GUEST_MEMFD", false, 0, KVMI_CAP_GUEST_MEMFD },
	{ "KVM_CAP_GUEST_MEMFD_FLAGS", false, 0, KVMI_CAP_GUEST_MEMFD_FLAGS },
	{ "KVM_CAP_MULTI_ADDRESS_SPACE", false, 0, CAP_MULTI_ADDRESS_SPACE },
	{ "unknown capability", false, 0, 99999 },
};

static long ask_probe(int vm, const void *arg)
{
	const struct probe *p = arg;
	long result;
	int vcpu;

	if (p->cap)
		return raw_cap(vm, p->cap);
	if (!p->of_vcpu)
		return raw_known(vm, p->request);
	vcpu = raw_vcpu(vm);
	result = raw_known(vcpu, p->request);
	close(vcpu);
	return result;
}

static void probes_are_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(probes); i++)
		same(probes[i].name, ask_probe, &probes[i]);
}

#define NEEDS (GT_NEEDS_GUEST_MEMFD | GT_NEEDS_VCPU)

static const struct gt_test tests[] = {
	GT(creation_is_the_same, NEEDS),
	GT(file_calls_are_the_same, NEEDS),
	GT(allocation_is_the_same, NEEDS),
	GT(advice_is_the_same, NEEDS),
	GT(memslots_are_the_same, NEEDS),
	GT(odd_memslots_are_the_same, NEEDS),
	GT(probes_are_the_same, NEEDS),
};

GT_MAIN("selftest_kernel", tests)
