/* SPDX-License-Identifier: MIT */
/* Sources with every system call and allocation failing in turn: nothing stays behind, nothing is invented. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "patches.h"
#include "points.h"
#include "source.h"
#include "wrap.h"

#define PAGES 40
#define LENGTH (PAGES * page())

static unsigned char *content;
static int file;

static void set_up(void)
{
	inject_pause();
	content = pages_of_content(PAGES, 4);
	file = file_of(content, LENGTH);
	assert_int_equal(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page()), 0); /* of zeros */
	inject_resume();
}

static void tear_down(void)
{
	close(file);
	free(content);
}

static int make_file(struct gmem_source **source)
{
	struct gmem_extent extents[] = {
		{ .offset = 20 * page(), .file_offset = 20 * page(), .fd = file },
		{ .length = 20 * page(), .fd = file },
	};

	return gmem_source_create_file(extents, 2, source);
}

/* Even where the kernel says once that there is no data: zeros are zeros. */
static void check_extent(struct gmem_source *source)
{
	uint64_t run = LENGTH - 77;
	int r = gmemi_source_extent(source, 77, &run);

	assert_true(r == GMEM_ANSWER_DATA || r == GMEM_ANSWER_ZERO);
	assert_true(run > 0 && run <= LENGTH - 77);
	for (uint64_t i = 77; r == GMEM_ANSWER_ZERO && i < 77 + run; i++)
		assert_int_equal(content[i], 0);
}

static int make_and_read_file(void *arg)
{
	struct gmem_source *source = (void *)7;
	unsigned char got[300];
	int r, now;

	(void)arg;
	set_up();
	r = make_file(&source);
	assert_true(r == 0 || source == (void *)7);
	if (r == 0) {
		memset(got, 0, sizeof(got));
		r = gmem_source_read(source, 20 * page() - 100, sizeof(got), got, 0);
		if (r == 0)
			assert_memory_equal(got, content + 20 * page() - 100, sizeof(got));
		check_extent(source);
		gmemi_source_advise(source, 0, LENGTH);
		now = gmemi_source_read_now(source, 7, sizeof(got), got);
		assert_true(now == 0 || now == -EAGAIN);
		if (now == 0)
			assert_memory_equal(got, content + 7, sizeof(got));
		gmem_source_destroy(source);
	}
	inject_pause();
	tear_down();
	inject_resume();
	return r;
}

static void a_file_is_made_and_read(void **state)
{
	(void)state;
	each(make_and_read_file, NULL);
}

static int make_small(void *arg)
{
	struct gmem_source *sources[2] = { NULL }, *overlay = (void *)7;
	int r = gmem_source_create_memory("abc", 3, &sources[0]);

	(void)arg;
	if (r == 0)
		r = gmem_source_create_zero(&sources[1]);
	if (r == 0)
		r = gmem_source_create_overlay(sources, 2, &overlay);
	if (r == 0)
		gmem_source_destroy(overlay);
	else
		assert_ptr_equal(overlay, (void *)7);
	gmem_source_destroy(sources[0]);
	gmem_source_destroy(sources[1]);
	assert_true(r == 0 || r == -ENOMEM);
	return r;
}

static void memory_zeros_and_overlays_are_made(void **state)
{
	(void)state;
	each(make_small, NULL);
}

/* A late layer over a late layer, which deliver until it is taken */

static struct patches top, bottom;

static void deliver_until_taken(struct gmem_source *source, uint64_t patch, const void *data, int answer)
{
	int r = gmem_source_deliver(source, patch * PATCH, PATCH, data, answer);

	if (r == -ENOMEM)
		r = gmem_source_deliver(source, patch * PATCH, PATCH, data, answer);
	assert_int_equal(r, 0);
}

static void deliver_all(struct gmem_source *upper, struct gmem_source *lower)
{
	static struct listener listener;
	struct gmem_source *overlay;
	unsigned char got[3 * PATCH];

	inject_pause();
	assert_int_equal(gmem_source_create_overlay((struct gmem_source *[]){ upper, lower }, 2, &overlay), 0);
	listen_to(overlay, &listener);
	inject_resume();
	if (gmem_source_read(overlay, 0, 3 * PATCH, got, 0) == GMEM_ANSWER_LATER) {
		deliver_until_taken(upper, 1, top.data, GMEM_ANSWER_DATA);
		deliver_until_taken(upper, 0, NULL, -ENODATA);
		deliver_until_taken(upper, 2, NULL, -ENODATA);
		for (int i = 0; i < 3; i += 2) /* what failed below is known to the user */
			if (listener.bytes[i * PATCH] != -ENOMEM)
				deliver_until_taken(lower, (uint64_t)i, bottom.data, GMEM_ANSWER_DATA);
		assert_int_equal(listener.bytes[PATCH], 3);
		for (int i = 0; i < 3; i += 2)
			assert_true(listener.bytes[i * PATCH] == 4 || listener.bytes[i * PATCH] == -ENOMEM);
	}
	gmemi_source_detach(overlay, &listener.user);
	gmem_source_destroy(overlay);
}

static int deliver_through_layers(void *arg)
{
	struct gmem_source *upper, *lower;

	(void)arg;
	inject_pause();
	memset(top.data, 3, sizeof(top.data));
	memset(bottom.data, 4, sizeof(bottom.data));
	top.late = bottom.late = true;
	top.count = bottom.count = 0;
	upper = patchy_source(&top);
	lower = patchy_source(&bottom);
	inject_resume();
	deliver_all(upper, lower);
	gmem_source_destroy(upper);
	gmem_source_destroy(lower);
	return 0;
}

static void late_answers_go_through_layers(void **state)
{
	(void)state;
	each(deliver_through_layers, NULL);
}

/* Populating */

static struct gmem_source *later;

static int give(uint64_t offset, uint64_t length, const void *data, int answer)
{
	int r = gmem_source_deliver(later, offset, length, data, answer);

	return r == -ENOMEM ? gmem_source_deliver(later, offset, length, data, answer) : r;
}

/* From the inside to the outside, after it has been asked a second time. */
static int read_later(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	unsigned int *asked = user;

	(void)buffer;
	(void)flags;
	if (++*asked % 2)
		return give(offset, length, NULL, -EAGAIN) ? -EDOM : GMEM_ANSWER_LATER;
	if (give(offset + length / 3, length / 3, content + offset + length / 3, 0) ||
	    give(offset, length / 3, content + offset, 0))
		return -EDOM;
	return give(offset, length, content + offset, 0) ? -EDOM : GMEM_ANSWER_LATER;
}

static int populate_later(void *arg)
{
	unsigned int asked = 0;
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_later };
	uint64_t done = UINT64_MAX;
	struct memory m;
	int r;

	(void)arg;
	set_up();
	inject_pause();
	m = make_memory(MEMFD, LENGTH);
	assert_int_equal(gmem_source_create(&ops, &asked, &later), 0);
	inject_resume();
	r = gmem_populate_source(m.mem, 33, LENGTH - 33, later, 33, &done, NULL);
	inject_pause();
	assert_true(r == 0 ? done == LENGTH - 33 : done < LENGTH);
	assert_true(r != -EDOM);
	assert_reads(m.mem, 33, content + 33, done);
	gmem_source_destroy(later);
	end_memory(&m);
	tear_down();
	inject_resume();
	return r;
}

static void populating_waits_for_a_source(void **state)
{
	(void)state;
	each(populate_later, NULL);
}

static int populate_from(void *arg)
{
	struct gmem_source *source, *zero;
	uint64_t done = 0;
	struct memory m;
	int r;

	(void)arg;
	set_up();
	inject_pause();
	m = make_memory(MEMFD, LENGTH);
	assert_int_equal(make_file(&source), 0);
	assert_int_equal(gmem_source_create_zero(&zero), 0);
	assert_int_equal(gmem_source_create_overlay((struct gmem_source *[]){ source, zero }, 2, &later), 0);
	inject_resume();
	r = gmem_populate_source(m.mem, 0, LENGTH, later, 0, &done, NULL);
	inject_pause();
	assert_true(r == 0 ? done == LENGTH : done < LENGTH);
	if (strcmp(inject_where(), "lseek") != 0) /* which may have lied */
		assert_reads(m.mem, 0, content, done);
	gmem_source_destroy(later);
	gmem_source_destroy(zero);
	gmem_source_destroy(source);
	end_memory(&m);
	tear_down();
	inject_resume();
	return r;
}

static void populating_from_layers(void **state)
{
	(void)state;
	each(populate_from, NULL);
}

static const struct gt_test tests[] = {
	GT(a_file_is_made_and_read, GT_NEEDS_NOTHING),
	GT(memory_zeros_and_overlays_are_made, GT_NEEDS_NOTHING),
	GT(late_answers_go_through_layers, GT_NEEDS_NOTHING),
	GT(populating_waits_for_a_source, GT_NEEDS_NOTHING),
	GT(populating_from_layers, GT_NEEDS_NOTHING),
};

GT_MAIN("inject_source", tests)
