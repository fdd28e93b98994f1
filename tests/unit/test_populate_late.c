/* SPDX-License-Identifier: MIT */
/* Populating from a source that answers later: in parts, in any order, from any thread, or never. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "random.h"
#include "refusal.h"

#define PAGES 200
#define LENGTH (PAGES * page())
#define A_READ (64 * page())
#define QUESTIONS 8192

static struct memory m;
static unsigned char *content;
static struct gmem_source *source;

/* What the source was asked, for threads that answer it. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct question {
		uint64_t offset, length;
	} asked[QUESTIONS];
	unsigned int count, answered, released, flagged;
	/* In the read, before it is queued: not LATER = the answer. */
	int (*now)(uint64_t offset, uint64_t length, void *buffer);
	bool end;
} q = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static int read_later(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	int r = q.now ? q.now(offset, length, buffer) : GMEM_ANSWER_LATER;

	(void)user;
	if (r != GMEM_ANSWER_LATER)
		return r;
	memset(buffer, 0xbd, length);
	pthread_mutex_lock(&q.lock);
	q.flagged += flags != 0;
	q.asked[q.count++ % QUESTIONS] = (struct question){ offset, length };
	pthread_cond_broadcast(&q.more);
	pthread_mutex_unlock(&q.lock);
	return GMEM_ANSWER_LATER;
}

static void release(void *user)
{
	(void)user;
	q.released++;
}

/* Waits for the next question; false = no more will come. */
static bool next_question(struct question *question)
{
	bool there;

	pthread_mutex_lock(&q.lock);
	while (q.answered == q.count && !q.end)
		pthread_cond_wait(&q.more, &q.lock);
	there = q.answered < q.count;
	if (there)
		*question = q.asked[q.answered++ % QUESTIONS];
	pthread_mutex_unlock(&q.lock);
	return there;
}

static void set_up(enum make make)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_later, .release = release };

	m = make_memory(make, LENGTH);
	content = pages_of_content(PAGES, 5);
	q.count = q.answered = q.released = q.flagged = 0;
	q.now = NULL;
	q.end = false;
	assert_int_equal(gmem_source_create(&ops, NULL, &source), 0);
}

static void tear_down(void)
{
	assert_int_equal(gmem_source_deliver(source, 0, 1, content, 0), -ENOTCONN); /* the call has left it */
	gmem_source_destroy(source);
	assert_int_equal(q.released, 1);
	assert_int_equal(q.flagged, 0);
	free(content);
	end_memory(&m);
}

static int populate(uint64_t from, uint32_t threads, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .threads = threads, .chunk = A_READ };

	spoil_sentence();
	*done = UINT64_MAX;
	return gmem_populate_source(m.mem, from, LENGTH - from, source, from, done, &opts);
}

static int give(uint64_t offset, uint64_t length)
{
	return gmem_source_deliver(source, offset, length, content + offset, GMEM_ANSWER_DATA);
}

/* Those who answer */

static atomic_uint wrong;

/* In pieces of odd lengths, from the last to the first, some more than once, some with what was not asked for. */
static void answer_in_pieces(struct question asked)
{
	uint64_t piece = asked.length / 7 + 1;

	for (uint64_t at = asked.length - asked.length % piece; at + piece > 0; at -= piece) {
		uint64_t length = asked.length - at < piece ? asked.length - at : piece;
		uint64_t more = asked.offset + at + length + 33 < LENGTH ? 33 : 0;

		if (length && give(asked.offset + at, length + more) != 0)
			atomic_fetch_add(&wrong, 1);
		if (at == 0)
			break;
	}
}

static void *answer_all(void *unused)
{
	struct question asked;

	(void)unused;
	while (next_question(&asked))
		answer_in_pieces(asked);
	return NULL;
}

static void answer_with(void *(*body)(void *), int threads, uint64_t from, uint32_t lanes)
{
	pthread_t answering[3];
	uint64_t done;

	atomic_store(&wrong, 0);
	for (int i = 0; i < threads; i++)
		assert_int_equal(pthread_create(&answering[i], NULL, body, NULL), 0);
	assert_int_equal(populate(from, lanes, &done), 0);
	pthread_mutex_lock(&q.lock);
	q.end = true;
	pthread_cond_broadcast(&q.more);
	pthread_mutex_unlock(&q.lock);
	for (int i = 0; i < threads; i++)
		assert_int_equal(pthread_join(answering[i], NULL), 0);
	assert_int_equal(done, LENGTH - from);
	assert_reads_only(&m, from, content + from, LENGTH - from);
}

static void what_comes_in_parts_is_put_together(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		for (uint32_t lanes = 0; lanes < 4; lanes += 3) {
			set_up(make);
			answer_with(answer_all, 1, 12345 * (lanes & 1), lanes);
			assert_int_equal(atomic_load(&wrong), 0);
			tear_down();
		}
}

static void several_threads_answer_several_reads(void **state)
{
	(void)state;
	set_up(LAZY_MEMFD);
	answer_with(answer_all, 3, 0, 3);
	tear_down();
}

/* Every question is answered by two threads, from its two ends, each with half of it. */
static pthread_barrier_t meeting;
static struct question both_answer;

static void *answer_second_half(void *unused)
{
	(void)unused;
	for (;;) {
		pthread_barrier_wait(&meeting);
		if (!both_answer.length)
			return NULL;
		give(both_answer.offset + both_answer.length / 2, both_answer.length - both_answer.length / 2);
		pthread_barrier_wait(&meeting);
	}
}

static void *answer_first_half(void *unused)
{
	bool more;

	do {
		both_answer.length = 0;
		more = next_question(&both_answer);
		pthread_barrier_wait(&meeting);
		if (!more)
			return unused;
		give(both_answer.offset, both_answer.length / 2);
		pthread_barrier_wait(&meeting);
	} while (more);
	return NULL;
}

static void two_threads_answer_one_read(void **state)
{
	pthread_t second;

	(void)state;
	pthread_barrier_init(&meeting, NULL, 2);
	set_up(MEMFD);
	assert_int_equal(pthread_create(&second, NULL, answer_second_half, NULL), 0);
	answer_with(answer_first_half, 1, 0, 0);
	assert_int_equal(pthread_join(second, NULL), 0);
	pthread_barrier_destroy(&meeting);
	tear_down();
}

/* Inside the read */

static atomic_uint times;

static int all_at_once(uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	times++;
	return give(offset, length) ? -EDOM : GMEM_ANSWER_LATER;
}

static int ahead(uint64_t offset, uint64_t length, void *buffer)
{
	uint64_t first = offset ? offset - 1 : 0, end = offset + length < LENGTH ? offset + length + 1 : LENGTH;

	(void)buffer;
	times++;
	if (give(first, end - first)) /* more than was asked for */
		return -EDOM;
	return times % 2 ? GMEM_ANSWER_LATER : GMEM_ANSWER_ZERO; /* an answer counts for more than a delivery */
}

static int zeros_later(uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	return gmem_source_deliver(source, offset, length, NULL, GMEM_ANSWER_ZERO) ? -EDOM : GMEM_ANSWER_LATER;
}

static void what_is_delivered_inside_the_read_counts(void **state)
{
	uint64_t done;

	(void)state;
	set_up(MEMFD);
	times = 0;
	q.now = all_at_once;
	assert_int_equal(populate(77, 0, &done), 0);
	assert_true(times >= LENGTH / A_READ);
	assert_reads_only(&m, 77, content + 77, LENGTH - 77);
	q.now = ahead;
	times = 0;
	assert_int_equal(populate(0, 0, &done), 0);
	memset(content + A_READ, 0, A_READ);
	memset(content + 3 * A_READ, 0, LENGTH - 3 * A_READ);
	assert_reads_only(&m, 0, content, LENGTH);
	q.now = zeros_later;
	assert_int_equal(populate(0, 0, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_reads_only(&m, 0, content, 0);
	tear_down();
}

/* Failures */

static int fail_second(uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	if (offset < A_READ)
		return give(offset, length) ? -EDOM : GMEM_ANSWER_LATER;
	if (give(offset, page()) || gmem_source_deliver(source, offset, page(), NULL, -EPERM)) /* that is there already */
		return -EDOM;
	return gmem_source_deliver(source, 0, LENGTH, NULL, -EOVERFLOW) ? -EDOM : GMEM_ANSWER_LATER;
}

static void an_error_that_is_delivered_ends_the_call(void **state)
{
	uint64_t done;

	(void)state;
	for (uint32_t lanes = 0; lanes < 4; lanes += 3) {
		set_up(MEMFD);
		q.now = fail_second;
		bad("gmem_populate_source", populate(0, lanes, &done), -EOVERFLOW, "later");
		assert_true(lanes ? done <= A_READ : done == A_READ);
		assert_reads(m.mem, 0, content, done);
		tear_down();
	}
}

/* One read fails when the others are being waited for: they will never be answered. */
static int fail_third(uint64_t offset, uint64_t length, void *buffer)
{
	bool last;

	(void)length;
	(void)buffer;
	pthread_mutex_lock(&q.lock);
	times++;
	while (times < 3 && offset != 2 * A_READ)
		pthread_cond_wait(&q.more, &q.lock);
	last = offset == 2 * A_READ;
	pthread_cond_broadcast(&q.more);
	pthread_mutex_unlock(&q.lock);
	return last ? -EPROTO : GMEM_ANSWER_LATER;
}

static void a_failure_ends_all_waiting(void **state)
{
	uint64_t done;

	(void)state;
	set_up(MEMFD);
	q.now = fail_third;
	times = 0;
	assert_int_equal(populate(0, 3, &done), -EPROTO);
	assert_int_equal(done, 0);
	tear_down();
}

/* Asked again: the first and the last third of each read twice, and what is in between came at first. */
static int again(uint64_t offset, uint64_t length, void *buffer)
{
	static uint64_t last_end;

	times++;
	if (length > A_READ / 2 && offset >= last_end) {
		last_end = offset + length;
		if (give(offset + length / 3, length / 3))
			return -EDOM;
		if (offset + length == LENGTH)
			last_end = 0;
		return gmem_source_deliver(source, 0, LENGTH, NULL, -EAGAIN) ? -EDOM : GMEM_ANSWER_LATER;
	}
	if (times % 3 == 0)
		return give(offset, length) ? -EDOM : GMEM_ANSWER_LATER;
	memcpy(buffer, content + offset, length);
	return GMEM_ANSWER_DATA;
}

static void what_is_to_be_asked_again_is_and_nothing_else(void **state)
{
	uint64_t done;

	(void)state;
	set_up(MEMFD);
	memset(content + 150 * page(), 7, 50 * page());
	times = 0;
	q.now = again;
	assert_int_equal(populate(0, 0, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_true(times >= 3 * (LENGTH / A_READ));
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

/* Signals */

static void nothing(int signal)
{
	(void)signal;
}

static pthread_t waiting;
static atomic_bool interrupted;

/* Until it has worked: a signal may come before the wait. */
static void *interrupt(void *unused)
{
	struct question asked;

	while (next_question(&asked) && asked.offset < A_READ)
		give(asked.offset, asked.length);
	while (!atomic_load(&interrupted)) {
		pthread_kill(waiting, SIGUSR1);
		sched_yield();
	}
	return unused;
}

static void a_signal_ends_the_wait(void **state)
{
	struct sigaction action = { .sa_handler = nothing }, before;
	pthread_t thread;
	uint64_t done;

	(void)state;
	sigaction(SIGUSR1, &action, &before);
	for (uint32_t lanes = 0; lanes < 3; lanes += 2) {
		int r;

		set_up(MEMFD);
		waiting = pthread_self();
		atomic_store(&interrupted, false);
		assert_int_equal(pthread_create(&thread, NULL, interrupt, NULL), 0);
		r = populate(0, lanes, &done);
		atomic_store(&interrupted, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		bad("gmem_populate_source", r, -EINTR, lanes ? "" : "waiting for the source");
		assert_true(lanes ? done <= A_READ : done == A_READ);
		assert_reads(m.mem, 0, content, done);
		q.now = all_at_once;
		assert_int_equal(populate(done, lanes, &done), 0); /* gone on with */
		assert_reads_only(&m, 0, content, LENGTH);
		tear_down();
	}
	sigaction(SIGUSR1, &before, NULL);
}

/* An overlay in between */

static void layers_that_answer_later_are_waited_for_too(void **state)
{
	struct gmem_source *layers[2], *own;

	(void)state;
	set_up(MEMFD);
	own = source;
	assert_int_equal(gmem_source_create_memory(content, 3 * page(), &layers[0]), 0);
	layers[1] = own;
	assert_int_equal(gmem_source_create_overlay(layers, 2, &source), 0);
	q.now = NULL;
	pthread_mutex_lock(&q.lock);
	pthread_mutex_unlock(&q.lock);
	{
		struct gmem_source *overlay = source;
		uint64_t done;
		pthread_t thread;

		source = own; /* which delivers */
		assert_int_equal(pthread_create(&thread, NULL, answer_all, NULL), 0);
		assert_int_equal(gmem_populate_source(m.mem, 0, LENGTH, overlay, 0, &done, NULL), 0);
		pthread_mutex_lock(&q.lock);
		q.end = true;
		pthread_cond_broadcast(&q.more);
		pthread_mutex_unlock(&q.lock);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(q.asked[0].offset, 3 * page());
		gmem_source_destroy(overlay);
	}
	gmem_source_destroy(layers[0]);
	assert_reads_only(&m, 0, content, LENGTH);
	tear_down();
}

static const struct gt_test tests[] = {
	GT(what_comes_in_parts_is_put_together, GT_NEEDS_NOTHING),
	GT(several_threads_answer_several_reads, GT_NEEDS_NOTHING),
	GT(two_threads_answer_one_read, GT_NEEDS_NOTHING),
	GT(what_is_delivered_inside_the_read_counts, GT_NEEDS_NOTHING),
	GT(an_error_that_is_delivered_ends_the_call, GT_NEEDS_NOTHING),
	GT(a_failure_ends_all_waiting, GT_NEEDS_NOTHING),
	GT(what_is_to_be_asked_again_is_and_nothing_else, GT_NEEDS_NOTHING),
	GT(a_signal_ends_the_wait, GT_NEEDS_NOTHING),
	GT(layers_that_answer_later_are_waited_for_too, GT_NEEDS_NOTHING),
};

GT_MAIN("populate_late", tests)
