/* SPDX-License-Identifier: MIT */
/* Dividing a range among threads: every byte once, in order of taking, and what is done without a gap when pieces fail. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <gmem/base.h>

#include "err.h"
#include "inject.h"
#include "parallel.h"
#include "random.h"

#define MOST 256 /* pieces */
#define FIRST 1000
#define LENGTH 100000

/* One piece, planned ahead. */
struct piece {
	uint64_t offset, length;
	uint64_t does; /* bytes, before it fails */
	int fails;     /* with this code; 0 = not */
	atomic_uint taken;
	atomic_uint lane;
};

struct model {
	struct piece pieces[MOST];
	unsigned int count;
	unsigned int next; /* piece() was asked for those before; one thread at a time, or TSan says so */
	uint32_t threads;
	atomic_uint wrong, ended, told;
	pthread_t caller;
	uint64_t last_told;
	unsigned int stop_at; /* the call of tell that stops; 0 = none */
	void (*during)(struct model *model, struct piece *piece, uint32_t lane);
	pthread_barrier_t *all;
};

static unsigned int up_to(unsigned int most)
{
	return 1 + (unsigned int)(next_random() % most);
}

static uint64_t next_piece(void *context, uint64_t offset, uint64_t left)
{
	struct model *model = context;
	struct piece *piece = &model->pieces[model->next];

	if (model->next == model->count || offset != piece->offset || left != FIRST + LENGTH - offset) {
		atomic_fetch_add(&model->wrong, 1);
		return left;
	}
	model->next++;
	return piece->length;
}

static struct piece *piece_at(struct model *model, uint64_t offset)
{
	for (unsigned int i = 0; i < model->count; i++)
		if (model->pieces[i].offset == offset)
			return &model->pieces[i];
	return NULL;
}

static int work(void *context, uint32_t lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct model *model = context;
	struct piece *piece = piece_at(model, offset);

	if (!piece || piece->length != length || atomic_fetch_add(&piece->taken, 1) || lane > model->threads ||
	    (lane == 0) != (pthread_equal(pthread_self(), model->caller) != 0)) {
		atomic_fetch_add(&model->wrong, 1);
		return -EDOM;
	}
	atomic_store(&piece->lane, lane);
	if (model->during)
		model->during(model, piece, lane);
	*done = piece->fails ? piece->does : length;
	atomic_fetch_add(&model->ended, 1);
	return piece->fails ? gmemi_refuse(piece->fails, "piece at %llu", (unsigned long long)offset) : 0;
}

static int tell(void *context, uint64_t done)
{
	struct model *model = context;
	unsigned int told = atomic_fetch_add(&model->told, 1) + 1;

	if (!pthread_equal(pthread_self(), model->caller) || done < model->last_told || done > LENGTH)
		atomic_fetch_add(&model->wrong, 1);
	model->last_told = done;
	return told == model->stop_at ? gmemi_refuse(-ECANCELED, "told to stop") : 0;
}

static int run(struct model *model, uint64_t *done)
{
	struct gmemi_parallel parallel = {
		.offset = FIRST,
		.length = LENGTH,
		.threads = model->threads,
		.name = "gmem-test",
		.context = model,
		.piece = next_piece,
		.work = work,
		.tell = tell,
	};
	const char *before = gmemi_enter("test_call");
	int r;

	model->caller = pthread_self();
	*done = UINT64_MAX;
	r = gmemi_parallel_run(&parallel, done);
	gmemi_leave(&before);
	assert_int_equal(atomic_load(&model->wrong), 0);
	return r;
}

static void plan(struct model *model, uint32_t threads, unsigned int count)
{
	uint64_t at = FIRST;

	memset(model, 0, sizeof(*model));
	model->threads = threads;
	model->count = count;
	for (unsigned int i = 0; i < count; i++) {
		uint64_t left = FIRST + LENGTH - at, rest = count - i - 1;

		model->pieces[i].offset = at;
		model->pieces[i].length = rest ? 1 + next_random() % (left - rest) / 2 : left;
		at += model->pieces[i].length;
	}
}

static unsigned int taken(const struct model *model)
{
	unsigned int count = 0;

	while (count < model->count && atomic_load(&model->pieces[count].taken))
		count++;
	for (unsigned int i = count; i < model->count; i++)
		assert_int_equal(atomic_load(&model->pieces[i].taken), 0); /* no piece without those before it */
	return count;
}

static void every_byte_is_dealt_with_once(void **state)
{
	static const uint32_t threads[] = { 0, 1, 2, 7, GMEMI_THREADS };
	static struct model model;

	(void)state;
	sow();
	for (unsigned int i = 0; i < 100; i++) {
		uint64_t done;

		plan(&model, threads[i % 5], up_to(MOST));
		assert_int_equal(run(&model, &done), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(taken(&model), model.count);
		assert_int_equal(atomic_load(&model.ended), model.count); /* nobody is under way any more */
	}
}

/* The nearest failure of those that were taken, and what is done before it; without any, all that was taken. */
static int expected(const struct model *model, uint64_t *done)
{
	unsigned int count = taken(model);

	*done = LENGTH;
	for (unsigned int i = 0; i < count; i++)
		if (model->pieces[i].fails) {
			*done = model->pieces[i].offset + model->pieces[i].does - FIRST;
			return model->pieces[i].fails;
		}
	if (count < model->count)
		*done = model->pieces[count].offset - FIRST;
	return 0;
}

static void check_failures(struct model *model)
{
	uint64_t done, shall;
	int r = run(model, &done), r_shall = expected(model, &shall);
	char sentence[100];

	assert_int_equal(atomic_load(&model->ended), taken(model));
	assert_int_equal(done, shall);
	if (r_shall) {
		snprintf(sentence, sizeof(sentence), "test_call: piece at %llu (",
			 (unsigned long long)model->pieces[-1 - r_shall].offset);
		assert_int_equal(r, r_shall);
		if (strncmp(gmem_last_error(), sentence, strlen(sentence)) != 0)
			fail_msg("not \"%s\": %s", sentence, gmem_last_error());
	} else {
		assert_int_equal(r, taken(model) < model->count ? -ECANCELED : 0);
	}
}

static void the_nearest_failure_counts(void **state)
{
	static const uint32_t threads[] = { 0, 1, 3, 20 };
	static struct model model;

	(void)state;
	sow();
	for (unsigned int i = 0; i < 400; i++) {
		plan(&model, threads[i % 4], 1 + up_to(MOST - 1));
		for (unsigned int failures = up_to(20); failures; failures--) {
			struct piece *piece = &model.pieces[next_random() % model.count];

			piece->fails = -1 - (int)(piece - model.pieces);
			piece->does = next_random() % piece->length;
		}
		model.stop_at = next_random() % 4 ? 0 : up_to(20);
		check_failures(&model);
	}
}

/* Success leaves what was said before. */
static void fail_before(void)
{
	const char *before = gmemi_enter("earlier");

	gmemi_refuse(-EIO, "not this");
	gmemi_leave(&before);
}

static void a_word_to_stop_ends_it_unless_all_is_done(void **state)
{
	static struct model model;

	(void)state;
	sow();
	for (unsigned int stop = 1; stop <= 10; stop++) {
		uint64_t done;

		fail_before();
		plan(&model, 0, 10);
		model.stop_at = stop;
		assert_int_equal(run(&model, &done), stop < 10 ? -ECANCELED : 0);
		assert_int_equal(taken(&model), stop);
		assert_int_equal(atomic_load(&model.told), stop);
		assert_int_equal(done, model.last_told);
		assert_non_null(strstr(gmem_last_error(), stop < 10 ? "told to stop (ECANCELED" : "earlier: not this"));
	}
}

/* Each thread waits in its first piece for all others: so that the calling thread's last piece is not the last of all. */
static void wait_for_all(struct model *model, struct piece *piece, uint32_t lane)
{
	(void)lane;
	if (piece < model->pieces + model->threads + 1)
		pthread_barrier_wait(model->all);
}

static void as_many_threads_work_as_are_wanted(void **state)
{
	static const uint32_t threads[] = { 1, 2, 7, GMEMI_THREADS };
	static struct model model;

	(void)state;
	sow();
	for (unsigned int i = 0; i < 4; i++) {
		pthread_barrier_t all;
		unsigned int seen[GMEMI_THREADS + 1] = { 0 };
		uint64_t done;

		plan(&model, threads[i], 200);
		model.during = wait_for_all;
		model.all = &all;
		pthread_barrier_init(&all, NULL, threads[i] + 1);
		assert_int_equal(run(&model, &done), 0);
		pthread_barrier_destroy(&all);
		for (unsigned int piece = 0; piece <= threads[i]; piece++)
			seen[atomic_load(&model.pieces[piece].lane)]++;
		for (unsigned int lane = 0; lane <= threads[i]; lane++)
			assert_int_equal(seen[lane], 1);
	}
}

static void no_more_threads_than_the_most_are_made(void **state)
{
	static struct model model;
	uint64_t done;

	(void)state;
	sow();
	plan(&model, GMEMI_THREADS + 30, 200);
	inject_arm(0, 0);
	assert_int_equal(run(&model, &done), 0);
	assert_int_equal(inject_disarm(), GMEMI_THREADS);
	for (unsigned int i = 0; i < model.count; i++)
		assert_true(atomic_load(&model.pieces[i].lane) <= GMEMI_THREADS);
}

/* The n-th that cannot be made ends the making, not the work. */
static void threads_that_cannot_be_made_are_done_without(void **state)
{
	static struct model model;

	(void)state;
	sow();
	for (unsigned int nth = 1; nth <= 6; nth++) {
		uint64_t done;

		plan(&model, 5, 100);
		inject_arm(nth, nth % 2 ? EAGAIN : ENOMEM);
		assert_int_equal(run(&model, &done), 0);
		assert_int_equal(inject_disarm(), nth < 6 ? nth : 5); /* no further try */
		assert_int_equal(inject_fired(), nth < 6);
		assert_int_equal(done, LENGTH);
		for (unsigned int i = 0; i < model.count; i++)
			assert_true(atomic_load(&model.pieces[i].lane) < nth);
	}
}

/* Two pieces fail, in a given order: the thread that fails first has ended before the other one fails. */

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t order_changed = PTHREAD_COND_INITIALIZER;
static unsigned int last_to_fail;
static bool helper_ended;
static pthread_key_t at_end;

static void note_end(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&order_lock);
	helper_ended = true;
	pthread_cond_broadcast(&order_changed);
	pthread_mutex_unlock(&order_lock);
}

/* The calling thread has no end to wait for: where it fails first, the order is not sure. */
static void fail_in_order(struct model *model, struct piece *piece, uint32_t lane)
{
	unsigned int number = (unsigned int)(piece - model->pieces);

	pthread_mutex_lock(&order_lock);
	if (lane)
		pthread_setspecific(at_end, model);
	pthread_cond_broadcast(&order_changed); /* this one is taken */
	while (number < 2 && atomic_load(&model->pieces[!number].taken) == 0)
		pthread_cond_wait(&order_changed, &order_lock);
	while (number == last_to_fail && lane == 0 && !helper_ended)
		pthread_cond_wait(&order_changed, &order_lock);
	pthread_mutex_unlock(&order_lock);
}

static atomic_uint lines;

static void count_lines(void *user, enum gmem_log_level level, const char *line)
{
	(void)user;
	(void)level;
	if (strstr(line, "piece at"))
		atomic_fetch_add(&lines, 1);
}

static void fail_twice(struct model *model)
{
	uint64_t done;

	plan(model, 1, 50);
	helper_ended = false;
	atomic_store(&lines, 0);
	model->during = fail_in_order;
	model->pieces[0].fails = -EPERM;
	model->pieces[1].fails = -EIO;
	assert_int_equal(run(model, &done), -EPERM);
	assert_int_equal(done, 0);
	assert_int_equal(taken(model), 2);
	assert_non_null(strstr(gmem_last_error(), "test_call: piece at 1000 (EPERM"));
	assert_int_equal(atomic_load(&lines), 1); /* the other is nobody's */
}

static void of_two_failures_the_nearer_wins_whichever_comes_first(void **state)
{
	static struct model model;

	(void)state;
	sow();
	assert_int_equal(pthread_key_create(&at_end, note_end), 0);
	gmem_set_log(GMEM_LOG_DEBUG, count_lines, NULL);
	for (unsigned int i = 0; i < 200; i++) {
		last_to_fail = i % 2;
		fail_twice(&model);
	}
	gmem_set_log(0, NULL, NULL);
	pthread_key_delete(at_end);
}

/* Pieces of one byte, far more than can be done between a word and its hearing. */

#define ENDLESS UINT64_C(50000000)

static uint64_t one_byte(void *context, uint64_t offset, uint64_t left)
{
	(void)context;
	(void)offset;
	(void)left;
	return 1;
}

static int do_byte(void *context, uint32_t lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	(void)lane;
	(void)offset;
	*done = length;
	atomic_fetch_add((atomic_uint *)context, 1);
	return 0;
}

static int stop_at_once(void *context, uint64_t done)
{
	(void)context;
	(void)done;
	return -ECANCELED;
}

static void a_word_to_stop_is_heard_by_all(void **state)
{
	atomic_uint bytes = 0;
	struct gmemi_parallel parallel = {
		.length = ENDLESS,
		.threads = 2,
		.name = "gmem-test",
		.context = &bytes,
		.piece = one_byte,
		.work = do_byte,
		.tell = stop_at_once,
	};
	uint64_t done;

	(void)state;
	assert_int_equal(gmemi_parallel_run(&parallel, &done), -ECANCELED);
	assert_true(done < ENDLESS);
	assert_int_equal(done, atomic_load(&bytes));
}

static void nobody_has_to_be_told(void **state)
{
	atomic_uint bytes = 0;
	struct gmemi_parallel parallel = {
		.length = 1000, .name = "gmem-test", .context = &bytes, .piece = one_byte, .work = do_byte,
	};
	uint64_t done;

	(void)state;
	assert_int_equal(gmemi_parallel_run(&parallel, &done), 0);
	assert_int_equal(done, 1000);
	assert_int_equal(atomic_load(&bytes), 1000);
}

static const struct gt_test tests[] = {
	GT(every_byte_is_dealt_with_once, GT_NEEDS_NOTHING),
	GT(the_nearest_failure_counts, GT_NEEDS_NOTHING),
	GT(a_word_to_stop_ends_it_unless_all_is_done, GT_NEEDS_NOTHING),
	GT(as_many_threads_work_as_are_wanted, GT_NEEDS_NOTHING),
	GT(no_more_threads_than_the_most_are_made, GT_NEEDS_NOTHING),
	GT(threads_that_cannot_be_made_are_done_without, GT_NEEDS_NOTHING),
	GT(of_two_failures_the_nearer_wins_whichever_comes_first, GT_NEEDS_NOTHING),
	GT(a_word_to_stop_is_heard_by_all, GT_NEEDS_NOTHING),
	GT(nobody_has_to_be_told, GT_NEEDS_NOTHING),
};

GT_MAIN("parallel", tests)
