/* SPDX-License-Identifier: MIT */
/* What a populate call leaves of its input, which may be shared with others: all as it was. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "handles.h"
#include "populate_input.h"

#define PAGES 64

static struct gmem_vm *vm;
static struct gmem *mem;

/* Holes and data in turn. */
static int set_up(void)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	make_vmless(&vm, &mem, PAGES * page(), NULL);
	assert_int_equal(ftruncate(fd, (off_t)(PAGES * page())), 0);
	for (uint64_t i = 0; i < PAGES; i += 8)
		assert_int_equal(pwrite(fd, "data", 4, (off_t)(i * page())), 4);
	return fd;
}

static void tear_down(int fd)
{
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(fd);
}

/* What came after the call began may be data that came after it was asked for: only reading tells. */
static void a_hole_ends_where_the_file_ended(void **state)
{
	struct gmemi_input input;
	int fd = set_up();

	(void)state;
	assert_int_equal(gmemi_input_from_fd(&input, fd, 0), 0);
	assert_int_equal(gmemi_input_hole(&input, 60 * page(), 100 * page()), 4 * page());
	assert_int_equal(ftruncate(fd, (off_t)(2 * PAGES * page())), 0);
	assert_int_equal(gmemi_input_hole(&input, 60 * page(), 100 * page()), 4 * page());
	assert_int_equal(gmemi_input_hole(&input, PAGES * page(), 100 * page()), 0);
	gmemi_input_end(&input);
	tear_down(fd);
}

static void no_file_has_a_hole_beyond_every_file(void **state)
{
	struct gmemi_input input;
	int fd = set_up();

	(void)state;
	assert_int_equal(gmemi_input_from_fd(&input, fd, INT64_MAX - page()), 0);
	assert_int_equal(gmemi_input_hole(&input, 2 * page(), page()), 0);
	gmemi_input_end(&input);
	tear_down(fd);
}

static int stop(void *user, uint64_t done, uint64_t length)
{
	(void)user;
	(void)done;
	(void)length;
	return 1;
}

static void the_files_offset_is_not_used_and_is_put_back(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = page(), .progress = stop };
	int fd = set_up();
	uint64_t done;

	(void)state;
	assert_int_equal(lseek(fd, 123, SEEK_SET), 123);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), fd, 0, &done, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), fd, 60 * page(), &done, NULL), -ENODATA);
	assert_int_equal(done, 4 * page());
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), fd, 5, &done, &opts), -ECANCELED);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
	assert_int_equal(gmem_populate_fd(mem, 1, PAGES * page(), fd, 0, &done, &opts), -EINVAL);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
	tear_down(fd);
}

/* Is the first byte free to be locked by another process? */
static int try_lock(void *arg)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	if (fcntl(*(int *)arg, F_GETLK, &lock))
		return 2;
	return lock.l_type == F_UNLCK;
}

/* Locks of fcntl() are the process's, and go when it closes any fd of the file: the library opens none. */
static void the_callers_locks_stay(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	int fd = set_up();

	(void)state;
	assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
	assert_int_equal(gt_in_child(try_lock, &fd), 0);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), fd, 0, NULL, NULL), 0);
	if (gt_in_child(try_lock, &fd) != 0)
		fail_msg("gmem_populate_fd() gave up the caller's lock on the file");
	tear_down(fd);
}

static void flags_of_the_fd_stay(void **state)
{
	int ends[2], fd = set_up(), flags = fcntl(fd, F_GETFL), pipe_flags;
	uint64_t done;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pipe_flags = fcntl(ends[0], F_GETFL);
	close(ends[1]);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), fd, 0, &done, NULL), 0);
	assert_int_equal(gmem_populate_fd(mem, 0, PAGES * page(), ends[0], 0, &done, NULL), -ENODATA);
	assert_int_equal(fcntl(fd, F_GETFL), flags);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(ends[0], F_GETFL), pipe_flags);
	close(ends[0]);
	tear_down(fd);
}

static void an_input_without_permissions_is_read_through_its_fd(void **state)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0), input = set_up();
	char data[4096] = "open before it was forbidden";
	void *address;

	(void)state;
	if (fd < 0)
		gt_skip("no file without a name can be made in /tmp: %s", strerror(errno));
	assert_int_equal(pwrite(fd, data, sizeof(data), 4096), sizeof(data));
	assert_int_equal(gmem_populate_fd(mem, 0, 8192, fd, 0, NULL, NULL), 0);
	assert_int_equal(gmem_map(mem, 0, PAGES * page(), &address, NULL), 0);
	assert_memory_equal((char *)address + 4096, data, sizeof(data));
	close(fd);
	tear_down(input);
}

static const struct gt_test tests[] = {
	GT(the_files_offset_is_not_used_and_is_put_back, GT_NEEDS_NOTHING),
	GT(the_callers_locks_stay, GT_NEEDS_NOTHING),
	GT(flags_of_the_fd_stay, GT_NEEDS_NOTHING),
	GT(an_input_without_permissions_is_read_through_its_fd, GT_NEEDS_NOTHING),
	GT(a_hole_ends_where_the_file_ended, GT_NEEDS_NOTHING),
	GT(no_file_has_a_hole_beyond_every_file, GT_NEEDS_NOTHING),
};

GT_MAIN("populate_input", tests)
