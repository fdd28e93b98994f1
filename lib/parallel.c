/* SPDX-License-Identifier: MIT */
#include "parallel.h"

#include <stdbool.h>

#include "err.h"
#include "range.h"
#include "sys.h"

struct run {
	const struct gmemi_parallel *parallel;
	const char *call; /* the public call, for sentences of all threads */
	pthread_mutex_t lock;
	/* All below under the lock. */
	uint64_t next;	    /* where the piece begins that nobody has taken */
	uint64_t failed_at; /* the nearest failure */
	uint64_t done;	    /* by all together */
	bool stop;
	int result;
	struct gmemi_sentence sentence;
};

struct helper {
	struct run *run;
	uint32_t lane;
	pthread_t thread;
};

static uint64_t end_of(const struct run *run)
{
	return run->parallel->offset + run->parallel->length;
}

static bool take(struct run *run, uint64_t *offset, uint64_t *length)
{
	bool taken;

	pthread_mutex_lock(&run->lock);
	taken = !run->stop && run->next < end_of(run);
	if (taken) {
		*offset = run->next;
		*length = run->parallel->piece(run->parallel->context, run->next, end_of(run) - run->next);
		run->next += *length;
	}
	pthread_mutex_unlock(&run->lock);
	return taken;
}

static void record_failure(struct run *run, uint64_t at, int result)
{
	run->stop = true;
	if (at >= run->failed_at) {
		gmemi_tolerated();
		return;
	}
	run->failed_at = at;
	run->result = result;
	gmemi_sentence_take(&run->sentence);
}

/* What all have done so far. */
static uint64_t record(struct run *run, uint64_t offset, uint64_t done, int result)
{
	uint64_t sum;

	pthread_mutex_lock(&run->lock);
	run->done += done;
	sum = run->done;
	if (result < 0)
		record_failure(run, offset + done, result);
	pthread_mutex_unlock(&run->lock);
	return sum;
}

static int work_one(struct run *run, uint32_t lane, uint64_t *sum)
{
	const struct gmemi_parallel *p = run->parallel;
	uint64_t offset, length, done = 0;
	int r;

	if (!take(run, &offset, &length))
		return 0;
	r = p->work(p->context, lane, offset, length, &done);
	*sum = record(run, offset, done, r);
	return 1;
}

static void *help(void *argument)
{
	struct helper *helper = argument;
	const char *before = gmemi_enter(helper->run->call);
	uint64_t sum;

	gmemi_sys_begin_thread(helper->run->parallel->name);
	while (work_one(helper->run, helper->lane, &sum))
		;
	gmemi_leave(&before);
	return NULL;
}

static uint32_t start(struct run *run, struct helper *helpers)
{
	uint32_t started = 0, wanted = run->parallel->threads;

	while (started < wanted && started < GMEMI_THREADS) {
		struct helper *helper = &helpers[started];
		int r;

		*helper = (struct helper){ .run = run, .lane = started + 1 };
		r = gmemi_sys_thread(&helper->thread, help, helper);
		if (r < 0) {
			gmemi_note(GMEM_LOG_INFO, "%s: only %u of %u threads can be made", run->call, started, wanted);
			break;
		}
		started++;
	}
	return started;
}

static void stop(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	run->stop = true;
	pthread_mutex_unlock(&run->lock);
}

/* 0, or what `tell` said, with its sentence. */
static int work_all(struct run *run, uint64_t *told)
{
	const struct gmemi_parallel *p = run->parallel;

	while (work_one(run, 0, told)) {
		int r = p->tell ? p->tell(p->context, *told) : 0;

		if (r < 0) {
			stop(run);
			return r;
		}
	}
	return 0;
}

/* Others may have done the last pieces. */
static void tell_the_end(const struct run *run, uint64_t told)
{
	const struct gmemi_parallel *p = run->parallel;

	if (p->tell && run->done == p->length && told < p->length && p->tell(p->context, p->length) < 0)
		gmemi_tolerated();
}

/* A failure counts for more than a word to stop, and that for nothing when all is done. */
static int conclude(struct run *run, int told, uint64_t *done)
{
	*done = gmemi_min(run->failed_at, run->next) - run->parallel->offset;
	if (run->result < 0) {
		gmemi_sentence_give(&run->sentence);
		return run->result;
	}
	if (told < 0 && run->next == end_of(run)) {
		gmemi_tolerated();
		return 0;
	}
	return told;
}

int gmemi_parallel_run(const struct gmemi_parallel *parallel, uint64_t *done)
{
	struct run run = { .parallel = parallel, .call = gmemi_entered(), .next = parallel->offset, .failed_at = UINT64_MAX };
	struct helper helpers[GMEMI_THREADS];
	uint64_t sum = 0;
	uint32_t started;
	int told;

	pthread_mutex_init(&run.lock, NULL);
	started = start(&run, helpers);
	told = work_all(&run, &sum);
	for (uint32_t i = 0; i < started; i++)
		gmemi_sys_join(helpers[i].thread);
	pthread_mutex_destroy(&run.lock);
	tell_the_end(&run, sum);
	return conclude(&run, told, done);
}
