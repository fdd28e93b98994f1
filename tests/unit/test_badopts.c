/* SPDX-License-Identifier: MIT */
/* Bad options of every call that takes some, and bad input of the populate calls. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "handles.h"
#include "refusal.h"

#define PAGES 4
#define ROOM 128 /* an options struct, and what a later library may have behind it */

static struct set {
	struct gmem_vm *vm;
	struct gmem *mem;
} set;

static void set_up(void)
{
	make_vmless(&set.vm, &set.mem, PAGES * page(), NULL);
}

static void assert_empty(void)
{
	struct gmem_info info = info_of(set.mem);
	struct stat about;

	assert_int_equal(info.populated + info.skipped + info.slots, 0);
	assert_int_equal(fstat(gmem_get_fd(set.mem, GMEM_FD_MEMORY), &about), 0);
	assert_int_equal(about.st_blocks, 0);
}

static void tear_down(void)
{
	gmem_destroy(set.mem);
	gmem_vm_close(set.vm);
}

/* Options: every call with these options and otherwise good arguments. It gives back at once what it made. */

static int open_with(const void *opts)
{
	struct gmem_vm *vm = NULL;
	int r = gmem_vm_open(-1, &vm, opts);

	assert_int_equal(r == 0, vm != NULL);
	gmem_vm_close(vm);
	return r;
}

static int create_with(const void *opts)
{
	struct gmem *mem = NULL;
	int r = gmem_create(set.vm, page(), &mem, opts);

	assert_int_equal(r == 0, mem != NULL);
	gmem_destroy(mem);
	return r;
}

static int map_with(const void *opts)
{
	void *address = NULL;
	int r = gmem_map(set.mem, 0, page(), &address, opts);

	assert_int_equal(r == 0, address != NULL);
	assert_int_equal(gmem_unmap(set.mem, 0, page()), 0);
	return r;
}

static int bind_with(const void *opts)
{
	int r = gmem_bind(set.mem, 1, 0, 0, page(), opts);

	if (r == 0)
		assert_int_equal(gmem_unbind(set.mem, 1), 0);
	assert_int_equal(gmem_unmap(set.mem, 0, page()), 0);
	return r;
}

static int populate_with(const void *opts)
{
	uint64_t done = 77;
	int r = gmem_populate(set.mem, 0, 1, "x", &done, opts);

	assert_int_equal(done, r == 0);
	return r;
}

static int populate_fd_with(const void *opts)
{
	int fd = memfd_create("test", MFD_CLOEXEC), r;
	uint64_t done = 77;

	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	r = gmem_populate_fd(set.mem, 0, 1, fd, 0, &done, opts);
	assert_int_equal(done, r == 0);
	close(fd);
	return r;
}

#define OPTS(name, type, call, known, reserved) \
	{ name, sizeof(struct type), offsetof(struct type, flags), reserved, known, call }
#define NOTHING_RESERVED 0

static const struct row {
	const char *name;
	size_t size, flags, reserved; /* offsets */
	uint64_t known;               /* flags */
	int (*call)(const void *opts);
} rows[] = {
	OPTS("gmem_vm_open", gmem_vm_open_opts, open_with, GMEM_VM_RFC_IOCTLS, offsetof(struct gmem_vm_open_opts, reserved)),
	OPTS("gmem_create", gmem_create_opts, create_with, 0, offsetof(struct gmem_create_opts, reserved)),
	OPTS("gmem_map", gmem_map_opts, map_with, GMEM_MAP_READONLY, NOTHING_RESERVED),
	OPTS("gmem_bind", gmem_bind_opts, bind_with, GMEM_BIND_READONLY | GMEM_BIND_DIRTY_LOG | GMEM_BIND_PLAIN,
	     NOTHING_RESERVED),
	OPTS("gmem_populate", gmem_populate_opts, populate_with, GMEM_POPULATE_KEEP_ZEROS, NOTHING_RESERVED),
	OPTS("gmem_populate_fd", gmem_populate_opts, populate_fd_with, GMEM_POPULATE_KEEP_ZEROS, NOTHING_RESERVED),
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

union room {
	uint64_t size;
	unsigned char bytes[ROOM];
};

static void refused(const struct row *row, const union room *opts, int code, const char *word)
{
	spoil_sentence();
	bad(row->name, row->call(opts), code, word);
}

static void sizes_are_checked_by_every_call(void **state)
{
	static const uint64_t large[] = { 4097, UINT64_C(1) << 62, UINT64_MAX };

	(void)state;
	set_up();
	for (size_t i = 0; i < ROWS; i++) {
		union room opts = { .bytes = { 0 } };

		for (opts.size = 0; opts.size < 8; opts.size++)
			refused(&rows[i], &opts, -EINVAL, "opts->size");
		for (size_t j = 0; j < sizeof(large) / sizeof(large[0]); j++) {
			opts.size = large[j];
			refused(&rows[i], &opts, -E2BIG, "opts->size");
		}
	}
	assert_empty();
	tear_down();
}

static void tails_of_later_libraries_are_checked_by_every_call(void **state)
{
	(void)state;
	set_up();
	for (size_t i = 0; i < ROWS; i++)
		for (size_t at = rows[i].size; at < ROOM; at++) {
			union room opts = { .size = ROOM };

			opts.bytes[at] = 1;
			refused(&rows[i], &opts, -E2BIG, "does not know");
		}
	assert_empty();
	tear_down();
}

static void short_and_long_structs_of_zeros_are_defaults(void **state)
{
	(void)state;
	set_up();
	for (size_t i = 0; i < ROWS; i++)
		for (uint64_t size = 8; size <= ROOM; size++) {
			union room opts = { .size = size };

			assert_int_equal(rows[i].call(&opts), 0);
		}
	tear_down();
}

static void flags_of_later_libraries_are_checked_by_every_call(void **state)
{
	(void)state;
	set_up();
	for (size_t i = 0; i < ROWS; i++)
		for (unsigned int bit = 0; bit < 64; bit++) {
			uint64_t flags = UINT64_C(1) << bit;
			union room opts = { .size = rows[i].size };

			memcpy(opts.bytes + rows[i].flags, &flags, sizeof(flags));
			if (flags & rows[i].known)
				assert_int_equal(rows[i].call(&opts), 0);
			else
				refused(&rows[i], &opts, -E2BIG, "opts->flags");
		}
	tear_down();
}

static void reserved_words_are_checked_by_every_call(void **state)
{
	(void)state;
	set_up();
	for (size_t i = 0; i < ROWS; i++)
		for (size_t byte = 0; byte < 4 && rows[i].reserved; byte++) {
			union room opts = { .size = rows[i].size };

			opts.bytes[rows[i].reserved + byte] = 0x10;
			refused(&rows[i], &opts, -EINVAL, "reserved");
		}
	assert_empty();
	tear_down();
}

static void kinds_of_vm_that_are_unknown_are_refused(void **state)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts) };
	static const uint32_t kinds[] = { GMEM_VM_PKVM + 1, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		opts.kind = kinds[i];
		refused(&rows[0], (const union room *)&opts, -EINVAL, "opts->kind");
	}
}

/* Populate */

static int populate(uint64_t length, const void *data, const struct gmem_populate_opts *opts)
{
	uint64_t done = 77;
	int r;

	spoil_sentence();
	r = gmem_populate(set.mem, 0, length, data, &done, opts);
	assert_int_equal(done, 0);
	assert_int_equal(gmem_populate(set.mem, 0, length, data, NULL, opts), r);
	return r;
}

static int populate_fd(int fd, uint64_t fd_offset, const struct gmem_populate_opts *opts)
{
	uint64_t done = 77;
	int r;

	spoil_sentence();
	r = gmem_populate_fd(set.mem, 3, page(), fd, fd_offset, &done, opts);
	assert_int_equal(done, 0);
	assert_int_equal(gmem_populate_fd(set.mem, 3, page(), fd, fd_offset, NULL, opts), r);
	return r;
}

static void no_memory_is_not_populated(void **state)
{
	uint64_t done = 77;

	(void)state;
	spoil_sentence();
	bad("gmem_populate", gmem_populate(NULL, 0, 1, "x", &done, NULL), -EINVAL, "the memory is NULL");
	assert_int_equal(done, 0);
	done = 77;
	bad("gmem_populate_fd", gmem_populate_fd(NULL, 0, 1, 0, 0, &done, NULL), -EINVAL, "the memory is NULL");
	assert_int_equal(done, 0);
}

static void no_data_is_refused(void **state)
{
	(void)state;
	set_up();
	bad("gmem_populate", populate(1, NULL, NULL), -EINVAL, "data is NULL");
	assert_empty();
	tear_down();
}

static void chunks_that_are_no_pages_are_refused(void **state)
{
	const uint64_t chunks[] = { 1, page() - 1, page() + 1, UINT64_MAX };
	struct gmem_populate_opts opts = { .size = sizeof(opts) };

	(void)state;
	set_up();
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		opts.chunk = chunks[i];
		bad("gmem_populate", populate(1, "x", &opts), -EINVAL, "opts->chunk");
		bad("gmem_populate_fd", populate_fd(0, 0, &opts), -EINVAL, "opts->chunk");
	}
	assert_empty();
	tear_down();
}

static void mechanisms_that_do_not_apply_are_refused(void **state)
{
	static const uint32_t mechanisms[] = {
		GMEM_MECH_MEMFD, 12, GMEM_MECH_POPULATE_IOCTL, GMEM_MECH_IN_PLACE, GMEM_MECH_PUNCH_HOLE, 9, 1000, UINT32_MAX
	};
	struct gmem_populate_opts opts = { .size = sizeof(opts) };

	(void)state;
	set_up();
	for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++) {
		opts.mechanism = mechanisms[i];
		bad("gmem_populate", populate(1, "x", &opts), -EOPNOTSUPP, "from the library");
		bad("gmem_populate_fd", populate_fd(0, 0, &opts), -EOPNOTSUPP, "from the library");
	}
	assert_empty();
	tear_down();
}

static void fds_that_are_not_open_are_refused(void **state)
{
	static const int fds[] = { -1, -2, INT_MIN, INT_MAX };
	int closed = memfd_create("test", MFD_CLOEXEC);

	(void)state;
	set_up();
	close(closed);
	bad("gmem_populate_fd", populate_fd(closed, 0, NULL), -EBADF, "(EBADF, from the kernel)");
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		bad("gmem_populate_fd", populate_fd(fds[i], 0, NULL), -EBADF, "(EBADF, from the kernel)");
	assert_empty();
	tear_down();
}

static void fds_that_cannot_be_read_are_refused(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC), ends[2];

	(void)state;
	set_up();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	bad("gmem_populate_fd", populate_fd(null, 0, NULL), -EBADF, "reading the input");
	bad("gmem_populate_fd", populate_fd(ends[1], 0, NULL), -EBADF, "reading the input");
	bad("gmem_populate_fd", populate_fd(directory, 0, NULL), -EISDIR, "reading the input");
	bad("gmem_populate_fd", populate_fd(exe, 0, NULL), -EBADF, "from the kernel");
	close(null);
	close(directory);
	close(exe);
	close(ends[0]);
	close(ends[1]);
	assert_empty();
	tear_down();
}

/* Holes need not be read; a file that may not be read is refused all the same. */
static void files_of_holes_that_cannot_be_read_are_refused(void **state)
{
	int fd = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	uint64_t done = 77;

	(void)state;
	if (fd < 0)
		gt_skip("no file without a name can be made in /tmp: %s", strerror(errno));
	set_up();
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	spoil_sentence();
	bad("gmem_populate_fd", gmem_populate_fd(set.mem, 0, page(), fd, 0, &done, NULL), -EBADF, "from the kernel");
	assert_int_equal(done, 0);
	assert_empty();
	tear_down();
	close(fd);
}

static void offsets_that_no_file_has_are_refused(void **state)
{
	static const uint64_t offsets[] = { UINT64_C(1) << 63, UINT64_MAX - 4095, UINT64_MAX };
	int fd = memfd_create("test", MFD_CLOEXEC);

	(void)state;
	set_up();
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		bad("gmem_populate_fd", populate_fd(fd, offsets[i], NULL), -EINVAL, "fd_offset");
	bad("gmem_populate_fd", populate_fd(fd, 0, NULL), -ENODATA, "ended");
	bad("gmem_populate_fd", populate_fd(fd, 1u << 30, NULL), -ENODATA, "ended");
	bad("gmem_populate_fd", populate_fd(fd, UINT64_C(1) << 62, NULL), -ENODATA, "ended");
	assert_empty();
	tear_down();
	close(fd);
}

static const struct gt_test tests[] = {
	GT(sizes_are_checked_by_every_call, GT_NEEDS_NOTHING),
	GT(tails_of_later_libraries_are_checked_by_every_call, GT_NEEDS_NOTHING),
	GT(short_and_long_structs_of_zeros_are_defaults, GT_NEEDS_NOTHING),
	GT(flags_of_later_libraries_are_checked_by_every_call, GT_NEEDS_NOTHING),
	GT(reserved_words_are_checked_by_every_call, GT_NEEDS_NOTHING),
	GT(kinds_of_vm_that_are_unknown_are_refused, GT_NEEDS_NOTHING),
	GT(no_memory_is_not_populated, GT_NEEDS_NOTHING),
	GT(no_data_is_refused, GT_NEEDS_NOTHING),
	GT(chunks_that_are_no_pages_are_refused, GT_NEEDS_NOTHING),
	GT(mechanisms_that_do_not_apply_are_refused, GT_NEEDS_NOTHING),
	GT(fds_that_are_not_open_are_refused, GT_NEEDS_NOTHING),
	GT(fds_that_cannot_be_read_are_refused, GT_NEEDS_NOTHING),
	GT(files_of_holes_that_cannot_be_read_are_refused, GT_NEEDS_NOTHING),
	GT(offsets_that_no_file_has_are_refused, GT_NEEDS_NOTHING),
};

GT_MAIN("badopts", tests)
