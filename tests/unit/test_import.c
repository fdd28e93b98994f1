/* SPDX-License-Identifier: MIT */
/* gmem_import(): which files are taken, which are not and why, and that nothing of a file changes. Needs and
 * guest_memfds are in test_import_needs.c. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "files.h"
#include "handles.h"
#include "refusal.h"

#define PAGES 8
#define SEAL_FUTURE_WRITE 0x10 /* F_SEAL_FUTURE_WRITE: not in every libc */
#define MEMFD_SECRET 447

static struct gmem_vm *vm;

/* What is taken */

static void check_taken(int fd, uint64_t flags)
{
	struct gmem *mem = imported(vm, fd, 0, 0, flags);
	struct gmem_info info = info_of(mem);

	assert_int_equal(info.length, PAGES * page());
	assert_int_equal(info.page_size, page());
	assert_int_equal(info.need, GMEM_NEED_MAPPABLE);
	assert_int_equal(info.backing, GMEM_BACKING_MEMFD);
	assert_int_equal(info.mechanism, GMEM_MECH_MEMFD);
	assert_int_equal(info.populated + info.skipped + info.slots + info.in_place, 0);
	assert_int_equal(gmem_get_fd(mem, GMEM_FD_SHARED_HALF), -ENOENT);
	assert_int_equal(gmem_get_fd(mem, GMEM_FD_PAGE_MAP), -ENOENT);
	gmem_destroy(mem);
}

static void a_memfd_that_cannot_shrink_is_taken(void **state)
{
	static const int seals[] = { F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_SEAL,
				     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

	(void)state;
	vm = open_vm(-1);
	for (size_t i = 0; i < sizeof(seals) / sizeof(seals[0]); i++) {
		int fd = memfd_of(PAGES * page(), 0, seals[i]);

		check_taken(fd, 0);
		close(fd);
	}
	gmem_vm_close(vm);
}

static void a_file_that_may_shrink_takes_a_word_of_the_caller(void **state)
{
	int fds[] = { memfd_of(PAGES * page(), 0, 0), memfd_of(PAGES * page(), 0, F_SEAL_GROW),
		      memfd_of(PAGES * page(), WITHOUT_SEALS, 0) };

	(void)state;
	vm = open_vm(-1);
	for (size_t i = 0; i < 3; i++) {
		refused(vm, fds[i], 0, 0, 0, -EINVAL, "GMEM_IMPORT_UNSEALED");
		check_taken(fds[i], GMEM_IMPORT_UNSEALED);
		close(fds[i]);
	}
	gmem_vm_close(vm);
}

static void a_file_on_tmpfs_is_taken(void **state)
{
	int fd = tmpfs_file(PAGES * page());

	(void)state;
	vm = open_vm(-1);
	refused(vm, fd, 0, 0, 0, -EINVAL, "F_SEAL_SHRINK");
	check_taken(fd, GMEM_IMPORT_UNSEALED);
	close(fd);
	gmem_vm_close(vm);
}

/* Its own fd, and nothing in common with the caller's but the file. */
static void the_fd_may_be_closed_at_once(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK), own;
	struct gmem *mem;

	(void)state;
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, 0, 0);
	own = gmem_get_fd(mem, GMEM_FD_MEMORY);
	assert_true(own > 2 && own != fd);
	assert_int_equal(fcntl(own, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(pwrite(own, "x", 1, 0), 1);
	assert_int_equal(gmem_populate(mem, 1, 1, "y", NULL, NULL), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void nothing_of_the_file_changes(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	struct stat before, after;
	struct gmem *mem;
	char text[8] = "";
	void *address;

	(void)state;
	assert_int_equal(pwrite(fd, "content", 8, (off_t)(3 * page())), 8);
	assert_int_equal(lseek(fd, 7, SEEK_SET), 7);
	assert_int_equal(fstat(fd, &before), 0);
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, 0, 0);
	assert_int_equal(gmem_map(mem, 0, PAGES * page(), &address, NULL), 0);
	assert_string_equal((char *)address + 3 * page(), "content");
	gmem_destroy(mem);
	gmem_vm_close(vm);
	assert_int_equal(fstat(fd, &after), 0);
	assert_true(after.st_size == before.st_size && after.st_blocks == before.st_blocks);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 7);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK);
	assert_int_equal(pread(fd, text, 8, (off_t)(3 * page())), 8);
	assert_string_equal(text, "content");
	close(fd);
}

static void memories_of_one_file_share_it(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	struct gmem *one, *other, *made;
	void *address;

	(void)state;
	vm = open_vm(-1);
	one = imported(vm, fd, 0, 0, 0);
	other = imported(vm, gmem_get_fd(one, GMEM_FD_MEMORY), 2 * page(), 0, 0);
	assert_int_equal(gmem_populate(one, page(), 5, "text", NULL, NULL), 0);
	gmem_destroy(one);
	assert_int_equal(gmem_map(other, 0, 2 * page(), &address, NULL), 0);
	assert_string_equal((char *)address + page(), "text");
	gmem_destroy(other);
	made = make_pages(vm, PAGES);
	gmem_destroy(imported(vm, gmem_get_fd(made, GMEM_FD_MEMORY), 0, 0, 0));
	gmem_destroy(made);
	gmem_vm_close(vm);
	close(fd);
}

static void imported_memory_can_be_bound(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK), vm_fd = fakekvm_vm(fakekvm_preset("6.18"));
	struct fakekvm_slot slot;
	struct gmem *mem;
	void *address;

	(void)state;
	vm = open_vm(vm_fd);
	mem = imported(vm, fd, 0, 0, 0);
	assert_int_equal(gmem_bind(mem, 3, 16 * page(), page(), 2 * page(), NULL), 0);
	assert_int_equal(fakekvm_slots(vm_fd, &slot, 1), 1);
	assert_int_equal(gmem_map(mem, page(), 2 * page(), &address, NULL), 0);
	assert_int_equal(slot.hva, (uintptr_t)address);
	assert_int_equal(slot.file, 0);
	gmem_destroy(mem);
	assert_int_equal(fakekvm_slots(vm_fd, &slot, 1), 0);
	gmem_vm_close(vm);
	close(vm_fd);
	close(fd);
}

/* Lengths */

static void lengths_within_the_file_are_taken(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	for (uint64_t pages = 1; pages <= PAGES; pages++) {
		struct gmem *mem = imported(vm, fd, pages * page(), 0, 0);
		void *address = UNTOUCHED;

		assert_int_equal(info_of(mem).length, pages * page());
		assert_int_equal(gmem_map(mem, 0, (pages + 1) * page(), &address, NULL), -EINVAL);
		gmem_destroy(mem);
	}
	gmem_vm_close(vm);
	close(fd);
}

static void other_lengths_are_refused(void **state)
{
	const uint64_t lengths[] = { 1, page() - 1, page() + 1, (PAGES + 1) * page(), UINT64_C(1) << 62, UINT64_C(1) << 63,
				     -page(), UINT64_MAX };
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		refused(vm, fd, lengths[i], 0, 0, -EINVAL, "length");
	gmem_vm_close(vm);
	close(fd);
}

static void a_part_of_a_page_at_the_end_is_left_out_or_refused(void **state)
{
	int fd = memfd_of(2 * page() + 100, 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	refused(vm, fd, 0, 0, 0, -EINVAL, "multiples of the page size");
	refused(vm, fd, 3 * page(), 0, 0, -EINVAL, "beyond the end");
	gmem_destroy(imported(vm, fd, 2 * page(), 0, 0));
	gmem_vm_close(vm);
	close(fd);
}

static void a_file_without_length_is_refused(void **state)
{
	int fd = memfd_of(0, 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	refused(vm, fd, 0, 0, 0, -EINVAL, "the length is 0");
	refused(vm, fd, page(), 0, 0, -EINVAL, "beyond the end");
	gmem_vm_close(vm);
	close(fd);
}

/* The caller has vouched that it would not be; what does not touch the memory is safe all the same. */
static void a_file_cut_short_later_reads_as_absent(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, 0);
	struct gmem_run run = { .size = sizeof(run) };
	uint64_t done = 0;
	struct gmem *mem;

	(void)state;
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, 0, GMEM_IMPORT_UNSEALED);
	assert_int_equal(gmem_populate(mem, 2 * page(), 5, "text", NULL, NULL), 0);
	assert_int_equal(ftruncate(fd, (off_t)page()), 0);
	assert_int_equal(gmem_query_run(mem, 2 * page(), &run), 0);
	assert_int_equal(run.state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
	assert_int_equal(run.length, (PAGES - 2) * page());
	assert_int_equal(gmem_discard(mem, 0, PAGES * page(), &done, NULL), 0);
	assert_int_equal(done, PAGES * page());
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(fd);
}

/* What is not taken */

static void what_is_no_memory_is_refused(void **state)
{
	int fds[10], count = 0, ends[2];

	(void)state;
	vm = open_vm(-1);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fds[count++] = ends[0];
	fds[count++] = ends[1];
	fds[count++] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[count++] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[count++] = open("/dev/null", O_RDWR | O_CLOEXEC);
	fds[count++] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[count++] = eventfd(0, EFD_CLOEXEC);
	fds[count++] = epoll_create1(EPOLL_CLOEXEC);
	fds[count++] = open("/proc/version", O_RDONLY | O_CLOEXEC);
	fds[count++] = open("/proc/self/comm", O_RDWR | O_CLOEXEC); /* a regular file, of 0 bytes */
	for (int i = 0; i < count; i++) {
		assert_true(fds[i] >= 0);
		refused(vm, fds[i], page(), 0, 0, -EINVAL, "is no guest_memfd, memfd, or file on tmpfs or hugetlbfs");
		refused(vm, fds[i], page(), 0, GMEM_IMPORT_UNSEALED, -EINVAL, "is no guest_memfd");
		close(fds[i]);
	}
	refused(vm, fds[0], page(), 0, 0, -EBADF, "fstat");
	refused(vm, -1, page(), 0, 0, -EBADF, "fstat");
	gmem_vm_close(vm);
}

/* Pages that even the kernel cannot reach serve no guest. */
static void secret_memory_is_refused(void **state)
{
	int fd = (int)syscall(MEMFD_SECRET, 0);

	(void)state;
	if (fd < 0)
		gt_skip("no memfd_secret() here: %s", strerror(errno));
	assert_int_equal(ftruncate(fd, (off_t)page()), 0);
	vm = open_vm(-1);
	refused(vm, fd, 0, 0, GMEM_IMPORT_UNSEALED, -EINVAL, "is no guest_memfd");
	gmem_vm_close(vm);
	close(fd);
}

/* pwrite() to such a file goes to its end, wherever it should go. */
static void a_file_that_appends_is_refused(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK), again = reopened(fd, O_RDWR | O_APPEND);

	(void)state;
	vm = open_vm(-1);
	refused(vm, again, 0, 0, 0, -EINVAL, "O_APPEND");
	gmem_vm_close(vm);
	close(again);
	close(fd);
}

static void a_file_that_is_made_to_append_is_not_filled(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	unsigned char *content = buffer(page(), 'a');
	struct gmem *mem;
	uint64_t done = 77;

	(void)state;
	vm = open_vm(-1);
	mem = imported(vm, fd, 0, 0, 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0); /* the same open file */
	bad("gmem_populate", gmem_populate(mem, 0, page(), content, &done, NULL), -EBADFD, "O_APPEND");
	assert_int_equal(done, 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), PAGES * page());
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(gmem_populate(mem, 0, page(), content, &done, NULL), 0);
	assert_only(mem, PAGES * page(), 0, content, page());
	gmem_destroy(mem);
	gmem_vm_close(vm);
	free(content);
	close(fd);
}

static void a_file_must_be_open_for_reading_and_writing(void **state)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_PATH };
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	for (size_t i = 0; i < 3; i++) {
		int again = reopened(fd, flags[i]);

		refused(vm, again, 0, 0, 0, -EINVAL, "is not open for reading and writing");
		close(again);
	}
	gmem_vm_close(vm);
	close(fd);
}

static void a_file_sealed_against_writing_is_refused(void **state)
{
	static const int seals[] = { F_SEAL_WRITE, SEAL_FUTURE_WRITE };

	(void)state;
	vm = open_vm(-1);
	for (size_t i = 0; i < 2; i++) {
		int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK | seals[i]);

		refused(vm, fd, 0, 0, 0, -EINVAL, "sealed against writing");
		refused(vm, fd, 0, 0, GMEM_IMPORT_UNSEALED, -EINVAL, "sealed against writing");
		close(fd);
	}
	gmem_vm_close(vm);
}

static void bad_arguments_are_refused(void **state)
{
	struct gmem_import_opts opts = { .size = 7 };
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);
	struct gmem *mem = UNTOUCHED;

	(void)state;
	vm = open_vm(-1);
	bad("gmem_import", gmem_import(NULL, fd, 0, &mem, NULL), -EINVAL, "the VM is NULL");
	bad("gmem_import", gmem_import(vm, fd, 0, NULL, NULL), -EINVAL, "mem is NULL");
	bad("gmem_import", gmem_import(vm, fd, 0, &mem, &opts), -EINVAL, "opts->size");
	opts.size = 4097;
	bad("gmem_import", gmem_import(vm, fd, 0, &mem, &opts), -E2BIG, "opts->size");
	assert_ptr_equal(mem, UNTOUCHED);
	refused(vm, fd, 0, 0, GMEM_IMPORT_UNSEALED << 1, -E2BIG, "opts->flags");
	refused(vm, fd, 0, UINT64_C(1) << 40, 0, -E2BIG, "need");
	refused(vm, fd, 0, GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G, 0, -EINVAL, "exclude");
	gmem_vm_close(vm);
	close(fd);
}

static int import_in_child(void *fd)
{
	struct gmem *mem = UNTOUCHED;
	int r = gmem_import(vm, *(int *)fd, 0, &mem, NULL);

	return r == -ESTALE && mem == UNTOUCHED ? 0 : 1;
}

static void after_a_fork_the_vm_is_stale(void **state)
{
	int fd = memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	(void)state;
	vm = open_vm(-1);
	assert_int_equal(gt_in_child(import_in_child, &fd), 0);
	gmem_vm_close(vm);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(a_memfd_that_cannot_shrink_is_taken, GT_NEEDS_NOTHING),
	GT(a_file_that_may_shrink_takes_a_word_of_the_caller, GT_NEEDS_NOTHING),
	GT(a_file_on_tmpfs_is_taken, GT_NEEDS_NOTHING),
	GT(the_fd_may_be_closed_at_once, GT_NEEDS_NOTHING),
	GT(nothing_of_the_file_changes, GT_NEEDS_NOTHING),
	GT(memories_of_one_file_share_it, GT_NEEDS_NOTHING),
	GT(imported_memory_can_be_bound, GT_NEEDS_NOTHING),
	GT(lengths_within_the_file_are_taken, GT_NEEDS_NOTHING),
	GT(other_lengths_are_refused, GT_NEEDS_NOTHING),
	GT(a_part_of_a_page_at_the_end_is_left_out_or_refused, GT_NEEDS_NOTHING),
	GT(a_file_without_length_is_refused, GT_NEEDS_NOTHING),
	GT(a_file_cut_short_later_reads_as_absent, GT_NEEDS_NOTHING),
	GT(what_is_no_memory_is_refused, GT_NEEDS_NOTHING),
	GT(secret_memory_is_refused, GT_NEEDS_NOTHING),
	GT(a_file_must_be_open_for_reading_and_writing, GT_NEEDS_NOTHING),
	GT(a_file_that_appends_is_refused, GT_NEEDS_NOTHING),
	GT(a_file_that_is_made_to_append_is_not_filled, GT_NEEDS_NOTHING),
	GT(a_file_sealed_against_writing_is_refused, GT_NEEDS_NOTHING),
	GT(bad_arguments_are_refused, GT_NEEDS_NOTHING),
	GT(after_a_fork_the_vm_is_stale, GT_NEEDS_NOTHING),
};

GT_MAIN("import", tests)
