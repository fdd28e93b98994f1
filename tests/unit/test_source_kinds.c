/* SPDX-License-Identifier: MIT */
/* Sources of memory and of zeros, and asking by hand. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"
#include "source.h"
#include "sources.h"

#define MIB2 (UINT64_C(2) << 20)

static unsigned char room[8192];

static int ask(struct gmem_source *source, uint64_t offset, uint64_t length)
{
	memset(room, 0xcc, sizeof(room));
	spoil_sentence();
	return gmem_source_read(source, offset, length, room, 0);
}

static bool untouched(void)
{
	return room[0] == 0xcc && memcmp(room, room + 1, sizeof(room) - 1) == 0;
}

static void memory_is_read_up_to_its_end(void **state)
{
	unsigned char *content = pages_of_content(3, 0);
	uint64_t length = 2 * page() + 77, run = MIB2;
	struct gmem_source *source = NULL;

	(void)state;
	assert_int_equal(gmem_source_create_memory(content, length, &source), 0);
	assert_int_equal(ask(source, 5, 4000), GMEM_ANSWER_DATA);
	assert_memory_equal(room, content + 5, 4000);
	assert_int_equal(ask(source, length - 1, 1), GMEM_ANSWER_DATA);
	assert_int_equal(room[0], content[length - 1]);
	bad("gmem_source_read", ask(source, length - 1, 2), -ENODATA, "has not got");
	assert_true(untouched());
	bad("gmem_source_read", ask(source, UINT64_MAX - 1, 1), -ENODATA, "has not got");
	assert_int_equal(gmemi_source_extent(source, 77, &run), GMEM_ANSWER_DATA);
	assert_int_equal(run, 2 * page());
	assert_int_equal(gmemi_source_extent(source, length, &run), -ENODATA);
	assert_int_equal(run, 2 * page());
	assert_int_equal(gmemi_source_read_now(source, 1, 100, room), GMEM_ANSWER_DATA);
	assert_memory_equal(room, content + 1, 100);
	assert_int_equal(gmemi_source_read_now(source, length, 100, room), -ENODATA);
	gmem_source_destroy(source);
	free(content);
}

static void zeros_are_everywhere(void **state)
{
	struct gmem_source *source = NULL;
	uint64_t run = UINT64_MAX;

	(void)state;
	assert_int_equal(gmem_source_create_zero(&source), 0);
	assert_int_equal(ask(source, 0, sizeof(room)), GMEM_ANSWER_ZERO);
	assert_int_equal(ask(source, UINT64_MAX - 1, 1), GMEM_ANSWER_ZERO);
	assert_int_equal(gmemi_source_read_now(source, 7, 100, room), GMEM_ANSWER_ZERO);
	assert_true(untouched());
	assert_int_equal(gmemi_source_extent(source, 0, &run), GMEM_ANSWER_ZERO);
	assert_true(run == UINT64_MAX);
	gmem_source_destroy(source);
}

static void bad_memory_and_zeros_are_refused(void **state)
{
	struct gmem_source *kept = (void *)7, *source = kept;

	(void)state;
	bad("gmem_source_create_memory", gmem_source_create_memory(NULL, 1, &source), -EINVAL, "data is NULL");
	bad("gmem_source_create_memory", gmem_source_create_memory(room, 1, NULL), -EINVAL, "source is NULL");
	bad("gmem_source_create_memory", gmem_source_create_memory(room, 0, &source), -EINVAL, "length");
	bad("gmem_source_create_memory", gmem_source_create_memory(room, UINT64_MAX, &source), -EINVAL, "wraps");
	bad("gmem_source_create_zero", gmem_source_create_zero(NULL), -EINVAL, "source is NULL");
	assert_ptr_equal(source, kept);
}

static void bad_questions_are_refused(void **state)
{
	struct gmem_source *source;

	(void)state;
	assert_int_equal(gmem_source_create_zero(&source), 0);
	bad("gmem_source_read", gmem_source_read(NULL, 0, 1, room, 0), -EINVAL, "NULL");
	bad("gmem_source_read", gmem_source_read(source, 0, 1, NULL, 0), -EINVAL, "buffer");
	bad("gmem_source_read", gmem_source_read(source, 0, 0, room, 0), -EINVAL, "length");
	bad("gmem_source_read", gmem_source_read(source, UINT64_MAX, 1, room, 0), -EINVAL, "wraps");
	bad("gmem_source_read", gmem_source_read(source, 0, MIB2 + 1, room, 0), -EINVAL, "2 MiB");
	bad("gmem_source_read", gmem_source_read(source, 0, 1, room, 2), -E2BIG, "flags");
	assert_int_equal(gmem_source_read(source, 0, MIB2, room, GMEM_READ_DEMAND), GMEM_ANSWER_ZERO);
	gmem_source_destroy(source);
}

/* The program's own */

static struct {
	int answer;
	uint64_t flags, offset, length, advised;
	unsigned int released;
} own;

static int read_own(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)user;
	(void)buffer;
	own.flags = flags;
	own.offset = offset;
	own.length = length;
	return own.answer;
}

static void advise_own(void *user, uint64_t offset, uint64_t length)
{
	(void)user;
	own.advised += offset + length;
}

static void release_own(void *user)
{
	(void)user;
	own.released++;
}

static struct gmem_source *make_own(void)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_own, .release = release_own, .advise = advise_own };
	struct gmem_source *source;

	memset(&own, 0, sizeof(own));
	assert_int_equal(gmem_source_create(&ops, NULL, &source), 0);
	return source;
}

static void a_question_reaches_the_source_as_it_is(void **state)
{
	static const int answers[] = { 0, 1, 2, -ENODATA, -EAGAIN, -EIO, -4095 };
	struct gmem_source *source = make_own();

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		own.answer = answers[i];
		assert_int_equal(gmem_source_read(source, 100 + i, 7 + i, room, i % 2 ? GMEM_READ_DEMAND : 0), answers[i]);
		assert_int_equal(own.flags, i % 2);
		assert_int_equal(own.offset, 100 + i);
		assert_int_equal(own.length, 7 + i);
	}
	own.answer = 3;
	bad("gmem_source_read", ask(source, 0, 1), -EIO, "answered 3");
	own.answer = -4096;
	bad("gmem_source_read", ask(source, 0, 1), -EIO, "answered -4096");
	own.offset = 1234;
	assert_int_equal(gmemi_source_read_now(source, 0, 1, room), -EAGAIN);
	assert_int_equal(own.offset, 1234);
	assert_int_equal(own.released, 0);
	gmem_source_destroy(source);
	assert_int_equal(own.released, 1);
}

static void advice_reaches_the_source_if_it_takes_some(void **state)
{
	struct gmem_source_ops ops = {
		.size = offsetof(struct gmem_source_ops, advise), .read = read_own, .advise = (void *)8
	};
	struct gmem_source *source = make_own(), *old;

	(void)state;
	gmemi_source_advise(source, 1000, 10);
	assert_int_equal(own.advised, 1010);
	gmem_source_destroy(source);
	assert_int_equal(gmem_source_create(&ops, NULL, &old), 0);
	gmemi_source_advise(old, 1000, 10);
	assert_int_equal(own.advised, 1010);
	gmem_source_destroy(old);
	assert_int_equal(gmem_source_create_zero(&old), 0);
	gmemi_source_advise(old, 1000, 10);
	gmem_source_destroy(old);
}

static void only_what_may_deliver_is_late(void **state)
{
	struct gmem_source *own_one = make_own(), *zero, *overlay;

	(void)state;
	assert_int_equal(gmem_source_create_zero(&zero), 0);
	assert_true(gmemi_source_late(own_one));
	assert_false(gmemi_source_late(zero));
	assert_int_equal(gmem_source_create_overlay((struct gmem_source *[]){ zero, zero }, 2, &overlay), 0);
	assert_false(gmemi_source_late(overlay));
	gmem_source_destroy(overlay);
	assert_int_equal(gmem_source_create_overlay((struct gmem_source *[]){ zero, own_one }, 2, &overlay), 0);
	assert_true(gmemi_source_late(overlay));
	gmem_source_destroy(overlay);
	gmem_source_destroy(zero);
	assert_int_equal(own.released, 0);
	gmem_source_destroy(own_one);
	assert_int_equal(own.released, 1);
}

static void memory_is_populated_from_each(void **state)
{
	unsigned char *content = pages_of_content(20, 4);
	struct memory m = make_memory(MEMFD, 20 * page());
	struct gmem_source *source;
	uint64_t done;

	(void)state;
	assert_int_equal(gmem_source_create_memory(content, 20 * page() - 5, &source), 0);
	assert_int_equal(gmem_populate_source(m.mem, 3, 15 * page(), source, 3, &done, NULL), 0);
	assert_int_equal(done, 15 * page());
	bad("gmem_populate_source", gmem_populate_source(m.mem, 0, 20 * page(), source, 0, &done, NULL), -ENODATA, "");
	gmem_source_destroy(source);
	assert_reads(m.mem, 3, content + 3, 15 * page());
	assert_int_equal(gmem_source_create_zero(&source), 0);
	assert_int_equal(gmem_populate_source(m.mem, 0, 20 * page(), source, 0, &done, NULL), 0);
	gmem_source_destroy(source);
	assert_reads_only(&m, 0, content, 0);
	free(content);
	end_memory(&m);
}

static const struct gt_test tests[] = {
	GT(memory_is_read_up_to_its_end, GT_NEEDS_NOTHING),
	GT(zeros_are_everywhere, GT_NEEDS_NOTHING),
	GT(bad_memory_and_zeros_are_refused, GT_NEEDS_NOTHING),
	GT(bad_questions_are_refused, GT_NEEDS_NOTHING),
	GT(a_question_reaches_the_source_as_it_is, GT_NEEDS_NOTHING),
	GT(advice_reaches_the_source_if_it_takes_some, GT_NEEDS_NOTHING),
	GT(only_what_may_deliver_is_late, GT_NEEDS_NOTHING),
	GT(memory_is_populated_from_each, GT_NEEDS_NOTHING),
};

GT_MAIN("source_kinds", tests)
