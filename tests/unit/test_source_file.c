/* SPDX-License-Identifier: MIT */
/* Sources of files: extents against a model of bytes, holes, files that change, and what is refused. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "content.h"
#include "files.h"
#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "random.h"
#include "refusal.h"
#include "source.h"

#define MOST 24
#define SPACE 3000 /* bytes of the source in the model */

static int numbered_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 200; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int create(const struct gmem_extent *extents, uint32_t count)
{
	struct gmem_source *untouched = (void *)7, *source = untouched;
	int before = numbered_fds(), r;

	spoil_sentence();
	r = gmem_source_create_file(extents, count, &source);
	if (r == 0)
		gmem_source_destroy(source);
	else
		assert_ptr_equal(source, untouched);
	assert_int_equal(numbered_fds(), before);
	return r;
}

static struct gmem_source *source_of(const struct gmem_extent *extents, uint32_t count)
{
	struct gmem_source *source;

	assert_int_equal(gmem_source_create_file(extents, count, &source), 0);
	return source;
}

#define WHOLE(file) ((struct gmem_extent[]){ { .fd = (file) } })

/* What is refused */

static void refuse(struct gmem_extent extent, struct gmem_extent second, int code, const char *word)
{
	struct gmem_extent both[] = { extent, second };

	bad("gmem_source_create_file", create(both, 2), code, word);
	both[0] = second;
	both[1] = extent;
	bad("gmem_source_create_file", create(both, 2), code, word);
}

static void bad_extents_are_refused(void **state)
{
	int fd = memfd_of(2 * page(), 0, 0);
	struct gmem_extent good = { .offset = 100, .length = 10, .fd = fd };
	struct gmem_source *source;

	(void)state;
	bad("gmem_source_create_file", create(NULL, 1), -EINVAL, "extents is NULL");
	bad("gmem_source_create_file", gmem_source_create_file(&good, 1, NULL), -EINVAL, "source is NULL");
	bad("gmem_source_create_file", gmem_source_create_file(&good, 0, &source), -EINVAL, "count");
	refuse((struct gmem_extent){ .length = 5, .fd = fd, .reserved = 1 }, good, -EINVAL, "reserved");
	refuse((struct gmem_extent){ .offset = UINT64_MAX - 5, .length = 6, .fd = fd }, good, -EINVAL, "wraps");
	refuse((struct gmem_extent){ .offset = UINT64_MAX - 5, .fd = fd }, good, -EINVAL, "wraps");
	refuse((struct gmem_extent){ .length = 6, .file_offset = INT64_MAX - 5, .fd = fd }, good, -EINVAL, "beyond");
	refuse((struct gmem_extent){ .length = 6, .file_offset = UINT64_MAX, .fd = fd }, good, -EINVAL, "beyond");
	refuse((struct gmem_extent){ .file_offset = 2 * page(), .fd = fd }, good, -EINVAL, "begins at the end");
	refuse((struct gmem_extent){ .offset = 109, .length = 5, .fd = fd }, good, -EINVAL, "overlap");
	refuse((struct gmem_extent){ .offset = 91, .length = 10, .fd = fd }, good, -EINVAL, "overlap");
	refuse((struct gmem_extent){ .offset = 104, .length = 1, .fd = fd }, good, -EINVAL, "overlap");
	refuse(good, good, -EINVAL, "overlap");
	refuse((struct gmem_extent){ .length = 5, .fd = -1 }, good, -EBADF, "fd");
	refuse((struct gmem_extent){ .length = 5, .fd = 987 }, good, -EBADF, "fd");
	assert_int_equal(create((struct gmem_extent[]){ { .offset = 110, .length = 3, .fd = fd }, good }, 2), 0);
	close(fd);
}

static void check_refused(int fd, int code, const char *word)
{
	assert_true(fd >= 0);
	bad("gmem_source_create_file", create(WHOLE(fd), 1), code, word);
	close(fd);
}

static void other_files_are_refused(void **state)
{
	int fd = memfd_of(page(), 0, 0), ends[2], direct;

	(void)state;
	check_refused(open("/dev/null", O_RDONLY | O_CLOEXEC), -EINVAL, "neither a regular file");
	check_refused(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), -EINVAL, "neither a regular file");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	check_refused(ends[0], -EINVAL, "neither a regular file");
	close(ends[1]);
	check_refused(reopened(fd, O_WRONLY), -EBADF, "reading");
	check_refused(reopened(fd, O_PATH), -EBADF, "");
	direct = open("/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (direct >= 0) {
		assert_int_equal(ftruncate(direct, 4096), 0);
		check_refused(direct, -EINVAL, "O_DIRECT");
	}
	check_refused(memfd_of(0, 0, 0), -EINVAL, "begins at the end");
	close(fd);
}

/* What is read, against a model */

static struct {
	int16_t bytes[SPACE]; /* -1 = nothing there */
	struct gmem_extent extents[MOST];
	uint32_t count;
	int fds[3];
	unsigned char *contents[3];
} model;

static void place(uint64_t offset, uint64_t length)
{
	uint32_t file = (uint32_t)(next_random() % 3);
	uint64_t from = next_random() % 500;
	struct gmem_extent *e = &model.extents[model.count++];

	*e = (struct gmem_extent){ .offset = offset, .length = length, .file_offset = from, .fd = model.fds[file] };
	for (uint64_t i = 0; i < length; i++)
		model.bytes[offset + i] = model.contents[file][from + i];
}

static void shuffle(void)
{
	for (uint32_t i = model.count; i > 1; i--) {
		uint32_t other = (uint32_t)(next_random() % i);
		struct gmem_extent kept = model.extents[i - 1];

		model.extents[i - 1] = model.extents[other];
		model.extents[other] = kept;
	}
}

static void lay_out(void)
{
	uint64_t at = next_random() % 100;

	for (size_t i = 0; i < SPACE; i++)
		model.bytes[i] = -1;
	model.count = 0;
	while (model.count < MOST) {
		uint64_t length = 1 + next_random() % 150;

		if (at + length > SPACE)
			break;
		place(at, length);
		at += length + (next_random() % 2 ? next_random() % 60 : 0);
	}
	shuffle();
}

static void check_read(struct gmem_source *source, uint64_t offset, uint64_t length)
{
	unsigned char got[SPACE];
	uint64_t there = 0, run = length, same = 0;
	int r = gmem_source_read(source, offset, length, got, 0), now;

	while (there < length && model.bytes[offset + there] >= 0)
		there++;
	assert_int_equal(r, there == length ? GMEM_ANSWER_DATA : -ENODATA);
	for (uint64_t i = 0; r == 0 && i < length; i++)
		assert_int_equal(got[i], model.bytes[offset + i]);
	memset(got, 0, sizeof(got));
	now = gmemi_source_read_now(source, offset, length, got);
	assert_true(now == r || (r == 0 && now == -EAGAIN));
	for (uint64_t i = 0; now == 0 && i < length; i++)
		assert_int_equal(got[i], model.bytes[offset + i]);
	r = gmemi_source_extent(source, offset, &run);
	assert_int_equal(r, there ? GMEM_ANSWER_DATA : -ENODATA);
	while (same < length && (model.bytes[offset + same] >= 0) == (there > 0))
		same++;
	assert_true(run >= 1 && run <= same);
	gmemi_source_advise(source, offset, length);
}

static void random_extents_read_as_the_model_does(void **state)
{
	(void)state;
	sow();
	for (int i = 0; i < 3; i++) {
		model.contents[i] = pages_of_content(1, 0);
		for (int byte = 0; byte < 700; byte++)
			model.contents[i][byte] = (unsigned char)next_random();
		model.fds[i] = file_of(model.contents[i], page());
	}
	for (int round = 0; round < 60; round++) {
		struct gmem_source *source;

		lay_out();
		source = source_of(model.extents, model.count);
		memset(model.extents, 0xff, sizeof(model.extents)); /* it was copied */
		for (int question = 0; question < 150; question++) {
			uint64_t offset = next_random() % SPACE, length = 1 + next_random() % (question % 2 ? 20 : 400);

			check_read(source, offset, length < SPACE - offset ? length : SPACE - offset);
		}
		gmem_source_destroy(source);
	}
	for (int i = 0; i < 3; i++) {
		close(model.fds[i]);
		free(model.contents[i]);
	}
}

static void many_extents_take_one_fd_for_each_file(void **state)
{
	enum { MANY = 5000 };
	unsigned char *content = pages_of_content(1, 0), got[3];
	struct gmem_extent *extents = calloc(MANY, sizeof(*extents));
	int fd = file_of(content, page()), before;
	struct gmem_source *source;

	(void)state;
	assert_non_null(extents);
	for (uint32_t i = 0; i < MANY; i++)
		extents[i] = (struct gmem_extent){ .offset = (MANY - i) * 3, .length = 3, .file_offset = i % 1000, .fd = fd };
	before = numbered_fds();
	source = source_of(extents, MANY);
	assert_int_equal(numbered_fds(), before + 1);
	close(fd); /* it was duplicated */
	for (uint32_t i = 0; i < MANY; i += 77) {
		assert_int_equal(gmem_source_read(source, (MANY - i) * 3, 3, got, 0), GMEM_ANSWER_DATA);
		assert_memory_equal(got, content + i % 1000, 3);
	}
	assert_int_equal(gmem_source_read(source, 2, 2, got, 0), -ENODATA);
	gmem_source_destroy(source);
	free(extents);
	free(content);
}

/* Holes */

static void holes_are_zeros_up_to_the_end_of_the_file(void **state)
{
	unsigned char byte = 9;
	int fd = memfd_of(20 * page(), 0, 0);
	struct gmem_extent extents[] = { { .offset = page(), .file_offset = page(), .fd = fd } };
	struct gmem_source *source;
	uint64_t run = 100 * page();

	(void)state;
	want_small_pages();
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(5 * page())), 1);
	source = source_of(extents, 1);
	assert_int_equal(gmemi_source_extent(source, 0, &run), -ENODATA);
	assert_int_equal(run, page());
	run = 100 * page();
	assert_int_equal(gmemi_source_extent(source, page() + 3, &run), GMEM_ANSWER_ZERO);
	assert_int_equal(run, 4 * page() - 3);
	run = 100 * page();
	assert_int_equal(gmemi_source_extent(source, 5 * page(), &run), GMEM_ANSWER_DATA);
	assert_int_equal(run, page());
	run = 100 * page();
	assert_int_equal(gmemi_source_extent(source, 6 * page(), &run), GMEM_ANSWER_ZERO);
	assert_int_equal(run, 14 * page());
	assert_int_equal(ftruncate(fd, (off_t)(8 * page())), 0);
	run = 14 * page();
	assert_int_equal(gmemi_source_extent(source, 6 * page(), &run), GMEM_ANSWER_ZERO);
	assert_int_equal(run, 2 * page());
	run = 12 * page();
	assert_int_equal(gmemi_source_extent(source, 8 * page(), &run), GMEM_ANSWER_DATA); /* which reading will be -EIO */
	gmem_source_destroy(source);
	close(fd);
}

static void the_offset_of_a_file_without_holes_stays(void **state)
{
	unsigned char *content = pages_of_content(4, 0);
	int fd = file_of(content, 4 * page());
	struct gmem_source *source;
	uint64_t run = page();

	(void)state;
	assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
	source = source_of(WHOLE(fd), 1);
	assert_int_equal(gmemi_source_extent(source, 0, &run), GMEM_ANSWER_DATA);
	assert_int_equal(gmem_source_read(source, 5, 1, content, 0), GMEM_ANSWER_DATA);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
	gmem_source_destroy(source);
	close(fd);
	free(content);
}

/* Files that change */

static void a_truncated_file_is_EIO_and_not_zeros(void **state)
{
	unsigned char *content = pages_of_content(8, 0), *got = buffer(8 * page(), 0xcc);
	struct memory m = make_memory(MEMFD, 8 * page());
	int fd = file_of(content, 8 * page());
	struct gmem_source *source = source_of(WHOLE(fd), 1);
	uint64_t done;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(5 * page() + 7)), 0);
	assert_int_equal(gmem_source_read(source, 0, 5 * page() + 7, got, 0), GMEM_ANSWER_DATA);
	assert_memory_equal(got, content, 5 * page() + 7);
	bad("gmem_source_read", gmem_source_read(source, 5 * page(), 8, got, 0), -EIO, "truncated");
	bad("gmem_source_read", gmem_source_read(source, 7 * page(), page(), got, 0), -EIO, "truncated");
	assert_int_equal(gmemi_source_read_now(source, 5 * page(), 8, got), -EAGAIN);
	bad("gmem_populate_source", gmem_populate_source(m.mem, 0, 8 * page(), source, 0, &done, NULL), -EIO, "truncated");
	bad("gmem_source_read", gmem_source_read(source, 8 * page(), 1, got, 0), -ENODATA, "has not got");
	assert_int_equal(ftruncate(fd, (off_t)(9 * page())), 0); /* how far the extent reaches is settled */
	bad("gmem_source_read", gmem_source_read(source, 8 * page(), 1, got, 0), -ENODATA, "has not got");
	gmem_source_destroy(source);
	close(fd);
	free(content);
	free(got);
	end_memory(&m);
}

static void reads_that_stop_short_go_on(void **state)
{
	unsigned char *content = pages_of_content(4, 0), *got = buffer(4 * page(), 0);
	int fd = file_of(content, 4 * page());
	struct gmem_source *source = source_of(WHOLE(fd), 1);

	(void)state;
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(gmem_source_read(source, 3, 3 * page(), got, 0), GMEM_ANSWER_DATA);
	assert_int_equal(inject_disarm(), 2);
	assert_memory_equal(got, content + 3, 3 * page());
	inject_arm(1, EINTR);
	bad("gmem_source_read", gmem_source_read(source, 3, 3 * page(), got, 0), -EINTR, "reading");
	inject_disarm();
	inject_arm(1, EOPNOTSUPP);
	assert_int_equal(gmemi_source_read_now(source, 3, page(), got), -EAGAIN);
	inject_disarm();
	gmem_source_destroy(source);
	close(fd);
	free(content);
	free(got);
}

static const struct gt_test tests[] = {
	GT(bad_extents_are_refused, GT_NEEDS_NOTHING),
	GT(other_files_are_refused, GT_NEEDS_NOTHING),
	GT(random_extents_read_as_the_model_does, GT_NEEDS_NOTHING),
	GT(many_extents_take_one_fd_for_each_file, GT_NEEDS_NOTHING),
	GT(holes_are_zeros_up_to_the_end_of_the_file, GT_NEEDS_NOTHING),
	GT(the_offset_of_a_file_without_holes_stays, GT_NEEDS_NOTHING),
	GT(a_truncated_file_is_EIO_and_not_zeros, GT_NEEDS_NOTHING),
	GT(reads_that_stop_short_go_on, GT_NEEDS_NOTHING),
};

GT_MAIN("source_file", tests)
