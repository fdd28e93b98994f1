/* SPDX-License-Identifier: MIT */
/* The kernel of tests/vm/future: every feature that it was booted with is there, and every other one is not. Here those of
 * the file and its mappings; test_future_guest.c has those in which a guest runs. */
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../../lib/uapi/mman.h"
#include "../../lib/uapi/userfaultfd.h"
#include "future.h"
#include "gt.h"

#define CAP_GUEST_MEMFD 234ul
#define CAP_GUEST_MEMFD_FLAGS 244ul
#define CAP_MEMORY_ATTRIBUTES 233ul
#define FILL 0x5a

static const void *volatile nowhere = (void *)8; /* so that the compiler does not see it */

static bool all_are(const unsigned char *at, int value, size_t size)
{
	return at[0] == value && memcmp(at, at + 1, size - 1) == 0;
}

static uint64_t flags_expected(bool private_vm)
{
	uint64_t shared = KVMI_GUEST_MEMFD_INIT_SHARED | future_flag_write();

	if (future_has(FUTURE_BEFORE_618))
		return 0;
	return KVMI_GUEST_MEMFD_MMAP | future_flag_hidden() | (private_vm && !future_has(FUTURE_ATTRIBUTES2) ? 0 : shared);
}

static void check_flags(int vm, uint64_t expected)
{
	assert_int_equal(raw_cap(vm, CAP_GUEST_MEMFD_FLAGS), expected);
	for (unsigned int bit = 0; bit < 8; bit++) {
		int file = raw_guest_memfd(vm, RAW_PAGE, UINT64_C(1) << bit);

		assert_true(expected >> bit & 1 ? file >= 0 : file == -EINVAL);
		if (file >= 0)
			close(file);
	}
	close(vm);
}

static void creation_flags(void **state)
{
	uint64_t plain = flags_expected(false), of_private = flags_expected(true);

	(void)state;
	check_flags(guest_vm(), plain);
	check_flags(future_private_vm(), of_private);
}

static void binding_to_a_plain_vm(void **state)
{
	bool before = future_has(FUTURE_BEFORE_618);
	int vm = guest_vm(), file = raw_guest_memfd(vm, RAW_PAGE, 0), other = future_private_vm();

	(void)state;
	assert_true(file >= 0);
	assert_int_equal(raw_cap(vm, CAP_GUEST_MEMFD), !before);
	assert_int_equal(raw_slot_flags(vm, KVMI_MEM_GUEST_MEMFD), before ? -EINVAL : -EBADF);
	assert_int_equal(raw_cap(other, CAP_GUEST_MEMFD), 1);
	assert_int_equal(raw_slot_flags(other, KVMI_MEM_GUEST_MEMFD), -EBADF);
	close(other);
	close(file);
	close(vm);
}

static void check_registration(const struct future_memory *memory, uint64_t mode, bool expected)
{
	int uffd = future_register(memory, mode);

	assert_true(expected ? uffd >= 0 : uffd == -EINVAL);
	if (uffd >= 0)
		close(uffd);
}

static void userfaultfd_registers(void **state)
{
	bool minor = future_has(FUTURE_MINOR), missing = future_has(FUTURE_MISSING);
	struct future_memory memory;

	(void)state;
	future_need_mapping();
	memory = future_memory(1, 0);
	check_registration(&memory, UFFDI_REGISTER_MINOR, minor);
	check_registration(&memory, UFFDI_REGISTER_MISSING, missing);
	check_registration(&memory, UFFDI_REGISTER_MINOR | UFFDI_REGISTER_MISSING, minor && missing);
	check_registration(&memory, UFFDI_REGISTER_WP, false);
	future_memory_end(&memory);
}

static void userfaultfd_refuses_hidden_files(void **state)
{
	struct future_memory memory = { .size = RAW_PAGE };

	(void)state;
	future_need_mapping();
	memory.vm = guest_vm();
	memory.file = raw_guest_memfd(memory.vm, RAW_PAGE, KVMI_GUEST_MEMFD_MMAP);
	memory.at = memory.second = mmap(NULL, RAW_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file, 0);
	assert_true(memory.at != MAP_FAILED);
	check_registration(&memory, UFFDI_REGISTER_MINOR, false);
	check_registration(&memory, UFFDI_REGISTER_MISSING, false);
	munmap(memory.at, RAW_PAGE);
	close(memory.file);
	close(memory.vm);
}

/* Without the operation the request itself is refused. */
static long copy_to(int uffd, const void *to, const void *from)
{
	struct uffdi_copy copy = { .to = (uintptr_t)to, .from = (uintptr_t)from, .length = RAW_PAGE };

	return raw_result(ioctl(uffd, (unsigned long)UFFDI_COPY, &copy));
}

static long resolve(int uffd, unsigned long request, const void *at)
{
	struct uffdi_resolve what = { .start = (uintptr_t)at, .length = RAW_PAGE };

	return raw_result(ioctl(uffd, request, &what));
}

static void minor_faults(void **state)
{
	struct future_memory memory;
	struct future_handler *handler;
	unsigned char source[RAW_PAGE] = { 1 };
	int uffd;

	(void)state;
	if (!future_has(FUTURE_MINOR))
		gt_skip("this kernel has no minor faults of guest_memfd");
	memory = future_memory(4, 0);
	memset(memory.second, 1, RAW_PAGE);
	uffd = future_register(&memory, UFFDI_REGISTER_MINOR);
	assert_true(uffd >= 0);
	handler = future_handler(uffd, &memory, false, FILL);
	assert_int_equal(*(volatile unsigned char *)memory.at, FILL);
	assert_int_equal(future_handler_end(handler) & UFFDI_FAULT_MINOR, UFFDI_FAULT_MINOR);
	assert_int_equal(resolve(uffd, UFFDI_CONTINUE, memory.at + RAW_PAGE), -EFAULT);
	assert_int_equal(resolve(uffd, UFFDI_CONTINUE, memory.at), -EEXIST);
	/* A page that is not there is not asked about: it becomes zeros. */
	assert_int_equal(*(volatile unsigned char *)(memory.at + RAW_PAGE), 0);
	/* Only allocated: there, and no old data in it. */
	assert_int_equal(raw_result(fallocate(memory.file, FALLOC_FL_KEEP_SIZE, 2 * RAW_PAGE, RAW_PAGE)), 0);
	assert_int_equal(resolve(uffd, UFFDI_CONTINUE, memory.at + 2 * RAW_PAGE), 0);
	assert_true(all_are(memory.at + 2 * RAW_PAGE, 0, RAW_PAGE));
	if (!future_has(FUTURE_MISSING))
		assert_int_equal(copy_to(uffd, memory.at + 3 * RAW_PAGE, source), -EINVAL);
	close(uffd);
	future_memory_end(&memory);
}

static void missing_faults(void **state)
{
	struct future_memory memory;
	struct future_handler *handler;
	unsigned char source[RAW_PAGE] = { 1 };
	int uffd;

	(void)state;
	if (!future_has(FUTURE_MISSING))
		gt_skip("this kernel has no missing faults of guest_memfd");
	memory = future_memory(4, 0);
	uffd = future_register(&memory, UFFDI_REGISTER_MISSING);
	assert_true(uffd >= 0);
	handler = future_handler(uffd, &memory, true, FILL);
	assert_int_equal(*(volatile unsigned char *)memory.at, FILL);
	assert_int_equal(future_handler_end(handler) & UFFDI_FAULT_MINOR, 0);
	assert_true(all_are(memory.second, FILL, RAW_PAGE));
	assert_int_equal(copy_to(uffd, memory.at, source), -EEXIST);
	memory.second[RAW_PAGE] = FILL;
	assert_int_equal(copy_to(uffd, memory.at + RAW_PAGE, source), -EEXIST);
	assert_int_equal(memory.second[RAW_PAGE], FILL);
	assert_int_equal(copy_to(uffd, memory.at + 2 * RAW_PAGE, (void *)8), -EFAULT);
	assert_int_equal(resolve(uffd, UFFDI_ZEROPAGE, memory.at + 2 * RAW_PAGE), 0);
	assert_true(all_are(memory.second + 2 * RAW_PAGE, 0, RAW_PAGE));
	if (!future_has(FUTURE_MINOR))
		assert_int_equal(resolve(uffd, UFFDI_CONTINUE, memory.at + RAW_PAGE), -EINVAL);
	close(uffd);
	future_memory_end(&memory);
}

static void write_is_absent(int file, const unsigned char *source)
{
	assert_int_equal(raw_result(lseek(file, 0, SEEK_CUR)), -ESPIPE);
	assert_int_equal(raw_result(write(file, source, RAW_PAGE)), -EINVAL);
	assert_int_equal(raw_result(pwrite(file, source, RAW_PAGE, 0)), -ESPIPE);
}

static void write_works(const struct future_memory *memory, const unsigned char *source)
{
	assert_int_equal(raw_result(lseek(memory->file, 0, SEEK_CUR)), 0);
	assert_int_equal(raw_result(pwrite(memory->file, source, 3 * RAW_PAGE, RAW_PAGE)), 3 * RAW_PAGE);
	assert_true(all_are(memory->at, 0, RAW_PAGE));
	assert_true(all_are(memory->at + RAW_PAGE, FILL, 3 * RAW_PAGE));
	memory->at[RAW_PAGE] = 0;
	assert_int_equal(raw_result(pwrite(memory->file, source, RAW_PAGE, RAW_PAGE)), RAW_PAGE);
	assert_int_equal(memory->at[RAW_PAGE], FILL);
	assert_int_equal(raw_result(pwrite(memory->file, source, 1, 1)), -EINVAL);
	assert_int_equal(raw_result(pwrite(memory->file, source, 1, 0)), -EINVAL);
	assert_int_equal(raw_result(pwrite(memory->file, source, RAW_PAGE, (off_t)memory->size)), -EINVAL);
	assert_int_equal(raw_result(pwrite(memory->file, source, 2 * RAW_PAGE, (off_t)(memory->size - RAW_PAGE))), RAW_PAGE);
	assert_int_equal(raw_result(pwrite(memory->file, nowhere, RAW_PAGE, 0)), -EFAULT);
	assert_int_equal(raw_result(write(memory->file, source, RAW_PAGE)), RAW_PAGE);
	assert_int_equal(raw_result(lseek(memory->file, 0, SEEK_CUR)), RAW_PAGE);
	assert_int_equal(raw_result(read(memory->file, memory->at, RAW_PAGE)), -EINVAL);
}

static void writing(void **state)
{
	static unsigned char source[3 * RAW_PAGE];
	struct future_memory memory, without;

	(void)state;
	future_need_mapping();
	memset(source, FILL, sizeof(source));
	memory = future_memory(5, future_flag_write());
	without = future_memory(1, 0);
	if (future_has(FUTURE_WRITE)) {
		write_works(&memory, source);
		assert_int_equal(raw_result(pwrite(without.file, source, 1, 1)), -ENODEV);
		assert_int_equal(raw_result(lseek(without.file, 0, SEEK_CUR)), 0);
	} else {
		write_is_absent(memory.file, source);
	}
	future_memory_end(&without);
	future_memory_end(&memory);
}

/* By get_user_pages(), in contrast to what goes through the page tables. */
static long read_by_pages(const void *at)
{
	unsigned char to[RAW_PAGE];
	struct iovec local = { to, sizeof(to) }, remote = { (void *)(uintptr_t)at, RAW_PAGE };

	return raw_result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

static void hidden_pages_can_be_written(const struct future_memory *memory)
{
	static unsigned char source[RAW_PAGE];

	memset(source, FILL, sizeof(source));
	assert_int_equal(raw_result(pwrite(memory->file, source, RAW_PAGE, 0)), -EEXIST);
	assert_int_equal(raw_result(pwrite(memory->file, source, RAW_PAGE, RAW_PAGE)), RAW_PAGE);
	assert_true(all_are(memory->at + RAW_PAGE, FILL, RAW_PAGE));
	assert_int_equal(raw_result(pwrite(memory->file, source, RAW_PAGE, RAW_PAGE)), -EEXIST);
}

static void outside_the_direct_map(void **state)
{
	struct future_memory memory;

	(void)state;
	future_need_mapping();
	if (!future_flag_hidden())
		gt_skip("this kernel keeps guest_memfd in the direct map");
	memory = future_memory(4, future_flag_hidden() | future_flag_write());
	memset(memory.at, FILL, RAW_PAGE);
	assert_true(all_are(memory.second, FILL, RAW_PAGE));
	assert_int_equal(read_by_pages(memory.at), -EFAULT);
	assert_int_equal(raw_result(madvise(memory.at, RAW_PAGE, MMANI_MADV_POPULATE_WRITE)), -EINVAL);
	if (future_flag_write())
		hidden_pages_can_be_written(&memory);
	/* What goes back is ordinary memory again. */
	assert_int_equal(raw_result(fallocate(memory.file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, RAW_PAGE)), 0);
	assert_true(all_are(memory.at, 0, RAW_PAGE));
	future_memory_end(&memory);
	memory = future_memory(1, 0);
	memory.at[0] = 1;
	assert_int_equal(read_by_pages(memory.at), RAW_PAGE);
	future_memory_end(&memory);
}

static int populate_elsewhere(void *argument)
{
	static const unsigned char source[RAW_PAGE] = { 1 };

	long result = future_populate(*(const int *)argument, 2 * RAW_PAGE, RAW_PAGE, source);

	return (int)(result < 0 ? -result : 100 + result);
}

static void check_populate(int vm, int file)
{
	static unsigned char source[2 * RAW_PAGE];
	bool zero = future_has(FUTURE_POPULATE_ZERO);
	int by_another;

	assert_int_equal(future_set_private(vm, file, 4 * RAW_PAGE, false), 0);
	assert_int_equal(future_populate(vm, 0, RAW_PAGE, source), -EINVAL);
	assert_int_equal(future_set_private(vm, file, 4 * RAW_PAGE, true), 0);
	assert_int_equal(future_populate(vm, 0, 0, source), -EINVAL);
	assert_int_equal(future_populate(vm, 0, RAW_PAGE, (void *)8), -EINVAL);
	assert_int_equal(future_populate(vm, 0, 2 * RAW_PAGE, source), zero ? 0 : 2);
	assert_int_equal(future_populate(vm, 0, RAW_PAGE, source), -EEXIST);
	assert_int_equal(future_populate(vm, 5 * RAW_PAGE, RAW_PAGE, source), -EINVAL);
	/* To the end of the slot; a count says so, 0 would not. */
	assert_int_equal(future_populate(vm, 3 * RAW_PAGE, 2 * RAW_PAGE, NULL), zero ? -EINVAL : 1);
	by_another = gt_in_child(populate_elsewhere, &vm);
	assert_int_equal(by_another, future_has(FUTURE_POPULATE_OWNER) ? EIO : zero ? 100 : 101);
}

static void populating(void **state)
{
	bool there = future_has(FUTURE_POPULATE);
	int vm = future_private_vm(), file = raw_guest_memfd(vm, 4 * RAW_PAGE, 0);
	struct raw_slot slot = { .slot = 1, .flags = KVMI_MEM_GUEST_MEMFD, .size = 4 * RAW_PAGE, .file = file };
	unsigned char *shared = mmap(NULL, 4 * RAW_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(file >= 0 && shared != MAP_FAILED);
	slot.hva = (uintptr_t)shared;
	assert_int_equal(raw_set_slot(vm, &slot), 0);
	assert_int_equal(raw_known(vm, KVMI_GUEST_MEMFD_POPULATE), there ? -EFAULT : -ENOTTY);
	if (there)
		check_populate(vm, file);
	munmap(shared, 4 * RAW_PAGE);
	close(file);
	close(vm);
}

static void attributes_of(int vm, int file, bool of_file, bool private_vm)
{
	bool of_vm = private_vm && !of_file;

	assert_int_equal(raw_known(file, KVMI_SET_MEMORY_ATTRIBUTES2), of_file ? -EFAULT : -ENOTTY);
	assert_int_equal(raw_known(vm, KVMI_SET_MEMORY_ATTRIBUTES), of_file ? -ENOTTY : -EFAULT);
	assert_int_equal(raw_cap(vm, CAP_MEMORY_ATTRIBUTES), of_vm ? KVMI_MEMORY_ATTRIBUTE_PRIVATE : 0);
	assert_int_equal(future_set_private(vm, file, RAW_PAGE, true), private_vm ? 0 : -EINVAL);
	close(file);
	close(vm);
}

static void attributes_of_the_vm_or_of_the_file(void **state)
{
	bool of_file = future_has(FUTURE_ATTRIBUTES2);
	int plain = guest_vm(), other = future_private_vm();

	(void)state;
	attributes_of(plain, raw_guest_memfd(plain, RAW_PAGE, 0), of_file, false);
	attributes_of(other, raw_guest_memfd(other, RAW_PAGE, 0), of_file, true);
}

/* By a system call, which says what a signal would. */
static long look_at(const void *at)
{
	int ends[2];
	long result;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	result = raw_result(write(ends[1], at, 1));
	close(ends[0]);
	close(ends[1]);
	return result;
}

/* Somebody who holds a page is in the way; the offset says of which. */
static void pinned_page_is_in_the_way(int file, unsigned char *at)
{
	struct kvmi_memory_attributes2 convert = { .size = 2 * RAW_PAGE, .attributes = KVMI_MEMORY_ATTRIBUTE_PRIVATE };
	struct iovec page = { at + RAW_PAGE, RAW_PAGE };
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(raw_result(vmsplice(ends[1], &page, 1, 0)), RAW_PAGE);
	assert_int_equal(raw_result(ioctl(file, (unsigned long)KVMI_SET_MEMORY_ATTRIBUTES2, &convert)), -EAGAIN);
	assert_int_equal(convert.error_offset, RAW_PAGE);
	assert_int_equal(look_at(at), 1);
	close(ends[0]);
	close(ends[1]);
}

static void conversion_in_place(void **state)
{
	struct kvmi_memory_attributes2 wrong = { .size = RAW_PAGE, .attributes = 1 };
	int vm, file;
	unsigned char *at;

	(void)state;
	if (!future_has(FUTURE_ATTRIBUTES2))
		gt_skip("this kernel has no attributes of the file");
	vm = future_private_vm();
	file = raw_guest_memfd(vm, 2 * RAW_PAGE, RAW_SHARED);
	at = mmap(NULL, 2 * RAW_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	assert_true(at != MAP_FAILED);
	assert_int_equal(raw_result(ioctl(file, (unsigned long)KVMI_SET_MEMORY_ATTRIBUTES2, &wrong)), -EINVAL);
	assert_int_equal(future_set_private(vm, file, 3 * RAW_PAGE, true), -EINVAL);
	memset(at, FILL, 2 * RAW_PAGE);
	pinned_page_is_in_the_way(file, at);
	assert_int_equal(future_set_private(vm, file, RAW_PAGE, true), 0);
	assert_int_equal(future_set_private(vm, file, RAW_PAGE, true), 0);
	assert_int_equal(look_at(at), -EFAULT);
	assert_int_equal(look_at(at + RAW_PAGE), 1);
	assert_int_equal(future_set_private(vm, file, RAW_PAGE, false), 0);
	assert_true(all_are(at, FILL, 2 * RAW_PAGE));
	munmap(at, 2 * RAW_PAGE);
	close(file);
	close(vm);
}

static const struct gt_test tests[] = {
	GT(creation_flags, GT_NEEDS_KVM),
	GT(binding_to_a_plain_vm, GT_NEEDS_KVM),
	GT(userfaultfd_registers, GT_NEEDS_KVM | GT_NEEDS_UFFD),
	GT(userfaultfd_refuses_hidden_files, GT_NEEDS_KVM | GT_NEEDS_UFFD),
	GT(minor_faults, GT_NEEDS_KVM | GT_NEEDS_UFFD),
	GT(missing_faults, GT_NEEDS_KVM | GT_NEEDS_UFFD),
	GT(writing, GT_NEEDS_KVM),
	GT(outside_the_direct_map, GT_NEEDS_KVM),
	GT(populating, GT_NEEDS_KVM),
	GT(attributes_of_the_vm_or_of_the_file, GT_NEEDS_KVM),
	GT(conversion_in_place, GT_NEEDS_KVM),
};

GT_MAIN("future", tests)
