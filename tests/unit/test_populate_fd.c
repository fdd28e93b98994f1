/* SPDX-License-Identifier: MIT */
/* Populating from files: holes, ends, offsets and what they leave behind. Streams are in test_populate_stream.c. */
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

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "random.h"

#define LENGTH ((uint64_t)16 << 20)

static struct gmem_vm *vm;
static struct gmem *mem;

static void set_up(uint64_t length, uint64_t need)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need };

	make_vmless(&vm, &mem, length, &opts);
}

static void tear_down(void)
{
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static int populate(uint64_t offset, uint64_t length, int fd, uint64_t fd_offset, uint64_t *done)
{
	*done = UINT64_MAX;
	return gmem_populate_fd(mem, offset, length, fd, fd_offset, done, NULL);
}

/* Of this size, all hole. */
static int new_file(uint64_t size)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void write_file(int fd, const void *data, uint64_t length, uint64_t offset)
{
	assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
}

/* Data in some places, holes between: into a file, and as it reads. */
static unsigned char *scatter(int fd, uint64_t length)
{
	unsigned char *content = buffer(length, 0);

	for (unsigned int i = 0; i < 40; i++) {
		uint64_t at = next_random() % length, size = 1 + next_random() % (length - at);

		size = size < 200000 ? size : next_random() % 200000 + 1;
		for (uint64_t j = at; j < at + size; j++)
			content[j] = j / 4096 % 5 ? (unsigned char)(j * 31 + i) : 0;
		write_file(fd, content + at, size, at);
	}
	return content;
}

static void random_step(int fd, const unsigned char *content, unsigned char *model)
{
	static const uint64_t chunks[] = { 0, 65536, 1u << 20 };
	static const enum gmem_mechanism mechanisms[] = { 0, GMEM_MECH_WRITE, GMEM_MECH_MAPPING };
	uint64_t odd = next_random() % 2 ? UINT64_MAX : ~UINT64_C(4095);
	uint64_t offset = next_random() % LENGTH & odd, from = next_random() % LENGTH & odd, done = 77, most;
	struct gmem_populate_opts opts = { .size = sizeof(opts),
					   .flags = next_random() % 4 ? 0 : GMEM_POPULATE_KEEP_ZEROS,
					   .chunk = chunks[next_random() % 3],
					   .mechanism = mechanisms[next_random() % 3] };

	most = LENGTH - (offset > from ? offset : from);
	most = 1 + next_random() % most;
	assert_int_equal(gmem_populate_fd(mem, offset, most, fd, from, &done, &opts), 0);
	assert_int_equal(done, most);
	memcpy(model + offset, content + from, most);
}

static void agree_with_model(int fd)
{
	unsigned char *content = scatter(fd, LENGTH), *model = buffer(LENGTH, 0);

	set_up(LENGTH, 0);
	for (unsigned int step = 0; step < 40; step++) {
		random_step(fd, content, model);
		if (step % 10 == 9)
			assert_content(mem, model, LENGTH);
	}
	tear_down();
	free(content);
	free(model);
	close(fd);
}

static void random_ranges_of_a_memfd_agree_with_a_model(void **state)
{
	(void)state;
	sow();
	agree_with_model(new_file(LENGTH));
}

static void random_ranges_of_a_file_agree_with_a_model(void **state)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	(void)state;
	if (fd < 0)
		gt_skip("no file without a name can be made in /tmp: %s", strerror(errno));
	sow();
	assert_int_equal(ftruncate(fd, (off_t)LENGTH), 0);
	agree_with_model(fd);
}

/* Holes */

static bool is_present(uint64_t number)
{
	off_t at = (off_t)(number * page());

	return lseek(gmem_get_fd(mem, GMEM_FD_MEMORY), at, SEEK_DATA) == at;
}

static void holes_are_neither_read_nor_allocated(void **state)
{
	int fd = new_file(LENGTH);
	uint64_t done;

	(void)state;
	want_small_pages();
	write_file(fd, "data", 4, 100 * page());
	set_up(LENGTH, 0);
	inject_arm(0, 0);
	assert_int_equal(populate(0, LENGTH, fd, 0, &done), 0);
	assert_true(inject_disarm() < 32); /* calls: far fewer than chunks, had they been read */
	assert_true(is_present(100));
	assert_false(is_present(99) || is_present(101) || is_present(0));
	assert_int_equal(info_of(mem).populated, page());
	assert_int_equal(info_of(mem).skipped, LENGTH - page());
	tear_down();
	close(fd);
}

/* A hole that is longer than a chunk, at an odd place: whoever divides the range there must not divide a page, which would have to be
 * written then. Chunks are any number of pages. */
static void long_holes_at_odd_places_leave_all_their_pages_out(void **state)
{
	const uint64_t chunks[] = { 16, 3, 7 };
	int fd = new_file(200 * page());

	(void)state;
	want_small_pages();
	write_file(fd, "data", 4, 199 * page());
	for (size_t i = 0; i < 3; i++) {
		struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = chunks[i] * page() };

		set_up(LENGTH, 0);
		assert_int_equal(gmem_populate_fd(mem, 5, 200 * page(), fd, 0, NULL, &opts), 0);
		assert_int_equal(info_of(mem).skipped, 198 * page()); /* not the first, nor the two with data in them or behind it */
		assert_int_equal(info_of(mem).populated, 2 * page());
		tear_down();
	}
	close(fd);
}

static void a_hole_over_a_page_that_is_there_makes_it_zeros(void **state)
{
	unsigned char *model = buffer(16 * page(), 0);
	int fd = new_file(16 * page());
	uint64_t done;

	(void)state;
	set_up(16 * page(), 0);
	memset(model, 'o', 16 * page());
	assert_int_equal(gmem_populate(mem, 0, 16 * page(), model, NULL, NULL), 0);
	assert_int_equal(populate(3 * page() + 10, 8 * page(), fd, 5, &done), 0);
	memset(model + 3 * page() + 10, 0, 8 * page());
	assert_content(mem, model, 16 * page());
	tear_down();
	free(model);
	close(fd);
}

static void holes_are_allocated_when_zeros_are_kept(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };
	int fd = new_file(8 * page());

	(void)state;
	set_up(8 * page(), 0);
	assert_int_equal(gmem_populate_fd(mem, 0, 8 * page(), fd, 0, NULL, &opts), 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_true(is_present(i));
	assert_int_equal(info_of(mem).populated, 8 * page());
	assert_int_equal(info_of(mem).skipped, 0);
	tear_down();
	close(fd);
}

/* Ends */

/* The file is `size` long, and `data` bytes of it are not a hole. */
static void check_end(uint64_t size, uint64_t data, uint64_t from, uint64_t offset)
{
	unsigned char *model = buffer(32 * page(), 0);
	int fd = new_file(size);
	uint64_t done, there = size > from ? size - from : 0;

	memset(model, 'e', data);
	if (data)
		write_file(fd, model, data, 0);
	memset(model, 0, data);
	if (data > from)
		memset(model + offset, 'e', data - from);
	set_up(32 * page(), 0);
	assert_int_equal(populate(offset, 32 * page() - offset, fd, from, &done), -ENODATA);
	if (done != there)
		fail_msg("%llu of %llu bytes of a file with %llu of data, from %llu at %llu", (unsigned long long)done,
			 (unsigned long long)there, (unsigned long long)data, (unsigned long long)from,
			 (unsigned long long)offset);
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, there);
	assert_content(mem, model, 32 * page());
	assert_non_null(strstr(gmem_last_error(), "(ENODATA, from the library)"));
	tear_down();
	free(model);
	close(fd);
}

static void an_early_end_is_told_to_the_byte(void **state)
{
	const uint64_t p = page(), sizes[] = { 0, 1, p - 1, p, p + 1, 5 * p, 5 * p + 17 };
	const uint64_t places[] = { 0, 1, p, p + 3 };

	(void)state;
	for (size_t i = 0; i < 7; i++)
		for (size_t j = 0; j < 4; j++)
			for (size_t k = 0; k < 4; k++) {
				check_end(sizes[i], sizes[i], places[j], places[k]);
				check_end(sizes[i], sizes[i] / 2, places[j], places[k]); /* ends in a hole */
				check_end(sizes[i], 0, places[j], places[k]);            /* is a hole */
			}
}

static void what_came_too_late_is_gone_on_with(void **state)
{
	unsigned char *model = buffer(16 * page(), 0);
	uint64_t done, sum = 0, size = 0;
	int fd = new_file(0);

	(void)state;
	set_up(16 * page(), 0);
	for (unsigned int i = 0; sum < 10 * page(); i++) {
		assert_int_equal(populate(7 + sum, 10 * page() - sum, fd, sum, &done), -ENODATA);
		sum += done;
		assert_int_equal(sum, size);
		memset(model, 'a' + (int)i, page() + 333);
		write_file(fd, model, page() + 333, size);
		size += page() + 333;
		if (size >= 10 * page())
			break;
	}
	assert_int_equal(populate(7 + sum, 10 * page() - sum, fd, sum, &done), 0);
	memset(model, 0, 16 * page());
	assert_int_equal(pread(fd, model + 7, 10 * page(), 0), 10 * page());
	assert_content(mem, model, 16 * page());
	tear_down();
	free(model);
	close(fd);
}

static void a_file_that_ends_where_the_range_does_is_enough(void **state)
{
	uint64_t done;

	(void)state;
	for (uint64_t size = 4 * page() - 1; size <= 4 * page() + 1; size++) {
		int fd = new_file(size);

		set_up(8 * page(), 0);
		assert_int_equal(populate(0, size, fd, 0, &done), 0);
		assert_int_equal(done, size);
		assert_int_equal(info_of(mem).populated + info_of(mem).skipped, size);
		tear_down();
		close(fd);
	}
}

/* Other files */

static void memory_may_be_populated_from_itself(void **state)
{
	unsigned char *model = buffer(16 * page(), 0);
	uint64_t done;

	(void)state;
	set_up(16 * page(), 0);
	memset(model, 's', 3 * page());
	assert_int_equal(gmem_populate(mem, 0, 3 * page(), model, NULL, NULL), 0);
	assert_int_equal(populate(8 * page(), 5 * page(), gmem_get_fd(mem, GMEM_FD_MEMORY), 0, &done), 0);
	memset(model + 8 * page(), 's', 3 * page());
	assert_content(mem, model, 16 * page());
	tear_down();
	free(model);
}

static void short_reads_and_writes_lose_nothing(void **state)
{
	unsigned char *content;
	int fd = new_file(64 * page());
	uint64_t done;

	(void)state;
	sow();
	content = scatter(fd, 64 * page());
	for (unsigned long nth = 1, fired = 1; fired; nth++) {
		set_up(64 * page(), 0);
		inject_arm(nth, INJECT_SHORT);
		assert_int_equal(populate(0, 64 * page(), fd, 0, &done), 0);
		inject_disarm();
		fired = inject_fired();
		assert_int_equal(done, 64 * page());
		assert_content(mem, content, 64 * page());
		tear_down();
	}
	free(content);
	close(fd);
}

static void what_is_there_before_the_end_is_marked(void **state)
{
	int fd = new_file(5 * page() + 17);
	uint64_t done, word = 0;

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18")); /* has userfaultfd for everyone */
	set_up(32 * page(), GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE);
	write_file(fd, "x", 1, 2 * page());
	assert_int_equal(populate(page(), 8 * page(), fd, 0, &done), -ENODATA);
	assert_int_equal(pread(gmem_get_fd(mem, GMEM_FD_PAGE_MAP), &word, 8, 0), 8);
	assert_int_equal(word, 0xa68); /* two bits a page: 1, 2, 4, 5 are left out, 3 is filled */
	tear_down();
	close(fd);
}

/* A file that was opened O_DIRECT gives whole blocks into aligned memory only: every end of a range has to be made of them. */
static void check_direct(uint64_t flags, uint64_t offset, uint64_t length)
{
	char path[] = "/var/tmp/gmem-direct-XXXXXX";
	int made = mkstemp(path), fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = flags };
	unsigned char *content = buffer(length, 'd');
	struct gmem_vm *one;
	struct gmem *two;
	uint64_t done;

	assert_true(made >= 0);
	unlink(path);
	if (fd < 0) {
		close(made);
		free(content);
		gt_skip("no O_DIRECT on the file system of /var/tmp: %s", strerror(errno));
	}
	assert_int_equal(write(made, content, length), length);
	make_vmless(&one, &two, 1024 * page(), NULL);
	assert_int_equal(gmem_populate_fd(two, offset, length, fd, 0, &done, &opts), 0);
	assert_int_equal(done, length);
	assert_only(two, 1024 * page(), offset, content, length);
	assert_int_equal(gmem_populate_fd(two, offset, length + 1, fd, 0, &done, &opts), -ENODATA);
	assert_int_equal(done, length);
	assert_int_equal(gmem_populate_fd(two, offset, length - 7, fd, 7, &done, &opts), 0);
	assert_int_equal(done, length - 7);
	gmem_destroy(two);
	gmem_vm_close(one);
	free(content);
	close(made);
	close(fd);
}

static void from_a_file_without_a_cache(void **state)
{
	(void)state;
	for (uint64_t flags = 0; flags <= GMEM_POPULATE_KEEP_ZEROS; flags++) {
		check_direct(flags, page(), 3 * page());
		check_direct(flags, page(), 3 * page() + 100);
		check_direct(flags, page(), 700 * page() + 1);
		check_direct(flags, 100, 700 * page());
	}
}

static int say_stop(void *user, uint64_t done, uint64_t length)
{
	(void)done;
	(void)length;
	++*(unsigned int *)user;
	return 1;
}

/* Zeros that have to be written are steps like any other. */
static void a_hole_over_content_is_no_single_step(void **state)
{
	unsigned int calls = 0;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = 16 * page(), .progress = say_stop, .user = &calls };
	int fd = memfd_create("hole", MFD_CLOEXEC);
	unsigned char *content = buffer(1024 * page(), 'c');
	struct gmem_vm *one;
	struct gmem *two;
	uint64_t done;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(1024 * page())), 0);
	make_vmless(&one, &two, 1024 * page(), NULL);
	assert_int_equal(gmem_populate(two, 0, 1024 * page(), content, NULL, NULL), 0);
	assert_int_equal(gmem_populate_fd(two, 0, 1024 * page(), fd, 0, &done, &opts), -ECANCELED);
	assert_int_equal(calls, 1);
	assert_int_equal(done, 16 * page());
	memset(content, 0, 16 * page());
	assert_content(two, content, 1024 * page());
	gmem_destroy(two);
	gmem_vm_close(one);
	free(content);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(random_ranges_of_a_memfd_agree_with_a_model, GT_NEEDS_NOTHING),
	GT(random_ranges_of_a_file_agree_with_a_model, GT_NEEDS_NOTHING),
	GT(holes_are_neither_read_nor_allocated, GT_NEEDS_NOTHING),
	GT(long_holes_at_odd_places_leave_all_their_pages_out, GT_NEEDS_NOTHING),
	GT(a_hole_over_a_page_that_is_there_makes_it_zeros, GT_NEEDS_NOTHING),
	GT(holes_are_allocated_when_zeros_are_kept, GT_NEEDS_NOTHING),
	GT(an_early_end_is_told_to_the_byte, GT_NEEDS_NOTHING),
	GT(what_came_too_late_is_gone_on_with, GT_NEEDS_NOTHING),
	GT(a_file_that_ends_where_the_range_does_is_enough, GT_NEEDS_NOTHING),
	GT(memory_may_be_populated_from_itself, GT_NEEDS_NOTHING),
	GT(short_reads_and_writes_lose_nothing, GT_NEEDS_NOTHING),
	GT(what_is_there_before_the_end_is_marked, GT_NEEDS_NOTHING),
	GT(from_a_file_without_a_cache, GT_NEEDS_NOTHING),
	GT(a_hole_over_content_is_no_single_step, GT_NEEDS_NOTHING),
};

GT_MAIN("populate_fd", tests)
