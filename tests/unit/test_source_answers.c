/* SPDX-License-Identifier: MIT */
/* What a source may answer and do while it is asked: errors, nonsense, calls of the library, its own end. */
#include "gt.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "err.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"
#include "sources.h"

#define PAGES 200
#define LENGTH (PAGES * page())
#define A_READ (64 * page()) /* what is read at a time */

static struct memory m;
static unsigned char *content;
static struct script script;
static struct gmem_source *source;

static void set_up(enum make make, struct script how)
{
	m = make_memory(make, LENGTH);
	content = pages_of_content(PAGES, 5);
	script = how;
	script.data = content;
	script.length = LENGTH;
	source = make_source(&script);
}

static void tear_down(void)
{
	end_source(source, &script);
	free(content);
	end_memory(&m);
}

static int populate(uint64_t from, uint64_t *done)
{
	spoil_sentence();
	*done = UINT64_MAX;
	return gmem_populate_source(m.mem, from, LENGTH - from, source, from, done, NULL);
}

static struct {
	int answer;
	uint64_t at; /* of the source, in a read or an extent that begins here or behind */
	uint64_t length;
} told;

static int answer_read(struct script *s, uint64_t offset, uint64_t length)
{
	(void)s;
	(void)length;
	return offset >= told.at ? told.answer : 0;
}

static int answer_extent(struct script *s, uint64_t offset, uint64_t *length)
{
	(void)s;
	(void)length;
	return offset >= told.at ? told.answer : GMEM_ANSWER_DATA;
}

static const struct {
	int answer, code;
	const char *words;
} answers[] = {
	{ -ENODATA, -ENODATA, "failed (ENODATA" },
	{ -EAGAIN, -EAGAIN, "failed (EAGAIN" },
	{ -EIO, -EIO, "failed (EIO" },
	{ -EINTR, -EINTR, "failed (EINTR" },
	{ -1, -1, "failed (EPERM" },
	{ -4095, -4095, "failed (error 4095" },
	{ -4096, -EIO, "answered -4096" },
	{ INT_MIN, -EIO, "answered -2147483648" },
	{ 3, -EIO, "answered 3" },
	{ 4096, -EIO, "answered 4096" },
	{ INT_MAX, -EIO, "answered 2147483647" },
};

static void check_said(int r, size_t row, const char *function)
{
	const char *said = gmem_last_error();

	assert_int_equal(r, answers[row].code);
	if (strncmp(said, "gmem_populate_source: the source's ", 35) != 0 || !strstr(said, answers[row].words) ||
	    !strstr(said, function) || !strstr(said, "from the library)"))
		fail_msg("after %d: %s", answers[row].answer, said);
}

static void check_answer(enum make make, size_t row, uint64_t at, bool by_extent)
{
	struct script how = { .before = answer_read };
	uint64_t done;

	if (by_extent)
		how = (struct script){ .extent = answer_extent };
	told.answer = answers[row].answer;
	told.at = at;
	set_up(make, how);
	check_said(populate(0, &done), row, by_extent ? "extent" : "read");
	assert_int_equal(done, at);
	assert_int_equal(info_of(m.mem).populated + info_of(m.mem).skipped, done);
	assert_int_equal(absent_bytes(m.mem, done, LENGTH - done), LENGTH - done);
	assert_reads_only(&m, 0, content, done);
	tear_down();
}

static void errors_end_the_call_and_nonsense_is_EIO(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(answers) / sizeof(answers[0]); row++)
		for (uint64_t reads = 0; reads < 3; reads++) {
			check_answer(MEMFD, row, reads * A_READ, false);
			check_answer(MEMFD, row, reads * A_READ, true);
		}
	check_answer(FAKE_GUEST_MEMFD, 0, A_READ, false);
	check_answer(FAKE_GUEST_MEMFD, 6, A_READ, true);
}

static int answer_for(struct script *s, uint64_t offset, uint64_t *length)
{
	(void)s;
	if (offset < told.at)
		return GMEM_ANSWER_DATA;
	*length = told.length == 1 ? *length + 1 : told.length;
	return told.answer;
}

static void extents_that_cannot_be_are_EIO(void **state)
{
	const uint64_t lengths[] = { 0, 1 /* more than was asked */, UINT64_MAX, LENGTH + 1 };

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		uint64_t done;

		told.answer = i % 2 ? GMEM_ANSWER_ZERO : GMEM_ANSWER_DATA;
		told.length = lengths[i / 2];
		told.at = A_READ;
		set_up(MEMFD, (struct script){ .extent = answer_for });
		bad("gmem_populate_source", populate(0, &done), -EIO, "extent answered for ");
		assert_int_equal(done, A_READ);
		assert_reads_only(&m, 0, content, done);
		tear_down();
	}
}

/* With an error the length means nothing. */
static void an_error_is_believed_whatever_the_length_is(void **state)
{
	uint64_t done;

	(void)state;
	told.answer = -EPERM;
	told.length = 0;
	told.at = 0;
	set_up(MEMFD, (struct script){ .extent = answer_for });
	bad("gmem_populate_source", populate(0, &done), -EPERM, "extent failed");
	tear_down();
}

/* Going on */

/* Every third question has to be asked again. */
static int not_now(struct script *s, uint64_t offset, uint64_t length)
{
	(void)offset;
	(void)length;
	return atomic_load(&s->reads) % 3 ? -EAGAIN : 0;
}

static int not_now_extent(struct script *s, uint64_t offset, uint64_t *length)
{
	(void)offset;
	(void)length;
	return atomic_load(&s->extents) % 2 ? -EAGAIN : GMEM_ANSWER_DATA;
}

static void check_going_on(enum make make, uint64_t offset, struct script how)
{
	uint64_t at = offset;
	unsigned int stops = 0;
	int r = -EAGAIN;

	set_up(make, how);
	while (r == -EAGAIN) {
		uint64_t done;

		r = populate(at, &done);
		assert_true(at + done <= LENGTH && (r == 0 || at + done < LENGTH));
		at += done;
		stops += r == -EAGAIN;
		assert_int_equal(info_of(m.mem).populated + info_of(m.mem).skipped, at - offset);
		assert_true(stops < 100);
	}
	assert_int_equal(r, 0);
	assert_int_equal(at, LENGTH);
	assert_true(stops >= 3);
	assert_reads_only(&m, offset, content + offset, LENGTH - offset);
	tear_down();
}

static void a_call_is_gone_on_with_where_it_stopped(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		for (unsigned int odd = 0; odd < 2; odd++) {
			check_going_on(make, odd * 12345, (struct script){ .before = not_now });
			check_going_on(make, odd * 12345, (struct script){ .extent = not_now_extent });
		}
}

/* Its end */

static int destroy_itself(struct script *s, uint64_t offset, uint64_t length)
{
	(void)length;
	if (offset == 0)
		gmem_source_destroy(source);
	return atomic_load(&s->released) ? -EDOM : 0;
}

static void a_source_may_give_itself_up(void **state)
{
	uint64_t done;

	(void)state;
	set_up(MEMFD, (struct script){ .before = destroy_itself });
	assert_int_equal(populate(0, &done), 0);
	assert_int_equal(atomic_load(&script.released), 1);
	assert_int_equal(atomic_load(&script.reads), 4);
	assert_reads_only(&m, 0, content, LENGTH);
	free(content);
	end_memory(&m);
}

static pthread_barrier_t meeting;

/* In the middle of a read: somebody gives the source up. */
static int meet(struct script *s, uint64_t offset, uint64_t length)
{
	(void)length;
	if (offset == A_READ) {
		pthread_barrier_wait(&meeting);
		pthread_barrier_wait(&meeting);
	}
	return atomic_load(&s->released) ? -EDOM : 0;
}

static void *populate_all(void *result)
{
	uint64_t done;

	*(int *)result = populate(0, &done);
	return NULL;
}

static void a_source_given_up_by_another_thread_is_released_after_the_call(void **state)
{
	pthread_t thread;
	int r = -1;

	(void)state;
	set_up(MEMFD, (struct script){ .before = meet });
	pthread_barrier_init(&meeting, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, populate_all, &r), 0);
	pthread_barrier_wait(&meeting);
	gmem_source_destroy(source);
	assert_int_equal(atomic_load(&script.released), 0);
	pthread_barrier_wait(&meeting);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_barrier_destroy(&meeting);
	assert_int_equal(r, 0);
	assert_int_equal(atomic_load(&script.released), 1);
	assert_reads_only(&m, 0, content, LENGTH);
	free(content);
	end_memory(&m);
}

/* Refused calls let go of it too. */
static void failing_calls_keep_no_claim(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = GMEM_MECH_SPLICE };
	uint64_t done;

	(void)state;
	told.answer = -EIO;
	told.at = 0;
	set_up(MEMFD, (struct script){ .before = answer_read });
	assert_int_equal(populate(0, &done), -EIO);
	assert_int_equal(gmem_populate_source(m.mem, 0, 1, source, UINT64_MAX, &done, NULL), -EINVAL);
	assert_int_equal(gmem_populate_source(m.mem, 0, LENGTH + 1, source, 0, &done, NULL), -EINVAL);
	assert_int_equal(gmem_populate_source(m.mem, 0, LENGTH, source, 0, &done, &opts), -EOPNOTSUPP);
	assert_int_equal(gmem_populate_source(m.mem, 0, LENGTH, source, 0, NULL, NULL), -EIO);
	tear_down();
}

/* Calls of the library */

static struct memory other;
static int wrong;

static int use_library(struct script *s, uint64_t offset, uint64_t length)
{
	struct gmem_info info = { .size = sizeof(info) };
	struct gmem_run run = { .size = sizeof(run) };
	void *address;

	(void)s;
	wrong += gmem_query(m.mem, &info) != 0 || info.populated + info.skipped != offset;
	wrong += gmem_query_run(m.mem, offset, &run) != 0;
	wrong += gmem_populate(other.mem, offset, length, content + offset, NULL, NULL) != 0;
	wrong += gmem_map(m.mem, 0, page(), &address, NULL) != 0;
	wrong += gmem_unbind(m.mem, 7) != -ENOENT;
	wrong += strncmp(gmem_last_error(), "gmem_unbind: ", 13) != 0;
	return offset >= told.at ? told.answer : 0;
}

static void a_source_may_call_the_library(void **state)
{
	uint64_t done;

	(void)state;
	wrong = 0;
	told.answer = -EPERM;
	told.at = 3 * A_READ;
	other = make_memory(MEMFD, LENGTH);
	set_up(MEMFD, (struct script){ .before = use_library });
	bad("gmem_populate_source", populate(0, &done), -EPERM, "the source's read failed");
	assert_int_equal(done, 3 * A_READ);
	assert_int_equal(wrong, 0);
	assert_reads_only(&m, 0, content, done);
	assert_reads(other.mem, 0, content, LENGTH);
	tear_down();
	end_memory(&other);
}

/* Even one that frees pages of lazy memory, which storing and marking hold off. */
static int discard_what_is_there(struct script *s, uint64_t offset, uint64_t length)
{
	(void)s;
	(void)length;
	if (offset)
		wrong += gmem_discard(m.mem, 0, offset, NULL, NULL) != 0;
	return 0;
}

static void no_lock_is_held_while_a_source_is_asked(void **state)
{
	unsigned char *zeros = calloc(1, LENGTH);
	uint64_t done;

	(void)state;
	assert_non_null(zeros);
	wrong = 0;
	set_up(LAZY_MEMFD, (struct script){ .before = discard_what_is_there });
	assert_int_equal(populate(0, &done), 0);
	assert_int_equal(wrong, 0);
	memcpy(zeros + 3 * A_READ, content + 3 * A_READ, LENGTH - 3 * A_READ);
	assert_reads_only(&m, 0, zeros, LENGTH);
	free(zeros);
	tear_down();
}

/* In the page map a source's zeros are zeros for good, and its content is complete. */
static void the_page_map_is_kept(void **state)
{
	uint64_t done;

	(void)state;
	set_up(LAZY_MEMFD, (struct script){ .tells_extents = true });
	assert_int_equal(populate(0, &done), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		struct gmem_run run = { .size = sizeof(run) };

		assert_int_equal(gmem_query_run(m.mem, i * page(), &run), 0);
		assert_int_equal(run.state & (GMEM_RUN_FILLED | GMEM_RUN_DISCARDED),
				 i % 5 ? GMEM_RUN_FILLED : GMEM_RUN_DISCARDED);
	}
	tear_down();
}

static const struct gt_test tests[] = {
	GT(errors_end_the_call_and_nonsense_is_EIO, GT_NEEDS_NOTHING),
	GT(extents_that_cannot_be_are_EIO, GT_NEEDS_NOTHING),
	GT(an_error_is_believed_whatever_the_length_is, GT_NEEDS_NOTHING),
	GT(a_call_is_gone_on_with_where_it_stopped, GT_NEEDS_NOTHING),
	GT(a_source_may_give_itself_up, GT_NEEDS_NOTHING),
	GT(a_source_given_up_by_another_thread_is_released_after_the_call, GT_NEEDS_NOTHING),
	GT(failing_calls_keep_no_claim, GT_NEEDS_NOTHING),
	GT(a_source_may_call_the_library, GT_NEEDS_NOTHING),
	GT(no_lock_is_held_while_a_source_is_asked, GT_NEEDS_NOTHING),
	GT(the_page_map_is_kept, GT_NEEDS_NOTHING),
};

GT_MAIN("source_answers", tests)
