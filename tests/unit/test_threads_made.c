/* SPDX-License-Identifier: MIT */
/* The threads of a populate call themselves: how many there are, what they are called, which signals they take, and that
 * they end with the call. Seen by a source, which is called in them. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <gmem/populate.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "sources.h"

#define PAGES 400
#define LENGTH (PAGES * page())
#define CHUNK (4 * page()) /* a read each: 100 of them */
#define MOST 65

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_key_t at_end;
static struct crowd {
	pthread_t caller;
	unsigned int wait_for; /* threads that have to come, the caller's among them, before any goes on */
	pthread_t who[MOST];
	unsigned int count, ended;
	bool caller_came;
	unsigned int wrong_names, wrong_signals;
} crowd;

static void note_end(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	crowd.ended++;
	pthread_mutex_unlock(&lock);
}

static bool is_of_own_fault(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP ||
	       number == SIGSYS;
}

/* All that can be blocked, but those that the thread's own instructions raise. */
static bool blocks_others_signals(void)
{
	sigset_t blocked;

	if (pthread_sigmask(SIG_BLOCK, NULL, &blocked))
		return false;
	for (int number = 1; number <= SIGRTMAX; number++)
		if (number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN) &&
		    sigismember(&blocked, number) == is_of_own_fault(number))
			return false;
	return true;
}

static bool is_named(const char *name)
{
	char is[16] = "";

	return pthread_getname_np(pthread_self(), is, sizeof(is)) == 0 && strcmp(is, name) == 0;
}

/* With the lock. */
static void come(bool is_caller)
{
	for (unsigned int i = 0; i < crowd.count; i++)
		if (pthread_equal(crowd.who[i], pthread_self()))
			return;
	assert_true(crowd.count < MOST);
	crowd.who[crowd.count++] = pthread_self();
	crowd.caller_came = crowd.caller_came || is_caller;
	if (!is_caller) {
		pthread_setspecific(at_end, &crowd);
		crowd.wrong_signals += !blocks_others_signals();
	}
	pthread_cond_broadcast(&changed);
}

/* Nobody goes on before all have come, the calling thread among them. */
static int gather(struct script *script, uint64_t offset, uint64_t length)
{
	bool is_caller = pthread_equal(pthread_self(), crowd.caller) != 0;

	(void)script;
	(void)offset;
	(void)length;
	pthread_mutex_lock(&lock);
	come(is_caller);
	while (crowd.count < crowd.wait_for || !crowd.caller_came)
		pthread_cond_wait(&changed, &lock);
	crowd.wrong_names += !is_caller && !is_named("gmem-populate");
	pthread_mutex_unlock(&lock);
	return 0;
}

/* wait_for threads have to come; the call that is failure point number `failing` fails, 0 = none. */
static void fill(uint32_t threads, unsigned int wait_for, unsigned long failing)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK, .threads = threads };
	struct memory m = make_memory(MEMFD, LENGTH);
	struct script script = { .data = pages_of_content(PAGES, 3), .length = LENGTH, .before = gather };
	struct gmem_source *source = make_source(&script);
	uint64_t done;

	crowd = (struct crowd){ .caller = pthread_self(), .wait_for = wait_for };
	assert_int_equal(pthread_key_create(&at_end, note_end), 0);
	if (failing)
		inject_arm(failing, EAGAIN);
	assert_int_equal(gmem_populate_source(m.mem, 0, LENGTH, source, 0, &done, &opts), 0);
	inject_disarm();
	assert_int_equal(done, LENGTH);
	assert_int_equal(crowd.ended, crowd.count - crowd.caller_came); /* each has ended when the call returns */
	assert_int_equal(crowd.wrong_names + crowd.wrong_signals, 0);
	pthread_key_delete(at_end);
	assert_reads_only(&m, 0, script.data, LENGTH);
	end_source(source, &script);
	free((void *)(uintptr_t)script.data);
	end_memory(&m);
}

static void there_are_as_many_as_were_asked_for(void **state)
{
	static const uint32_t counts[] = { 0, 1, 2, 7, 64 };

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		fill(counts[i], counts[i] + 1, 0);
		assert_int_equal(crowd.count, counts[i] + 1);
	}
}

/* Pieces, not pages, are what there is to divide. */
static void there_are_no_more_than_pieces(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = 200 * page(), .threads = 64 };
	struct memory m = make_memory(MEMFD, LENGTH);
	unsigned char *content = pages_of_content(PAGES, 0);
	unsigned int made = 0;

	(void)state;
	for (unsigned long nth = 1;; nth++) {
		inject_arm(nth, 0); /* the likeliest error of each call */
		assert_true(gmem_populate(m.mem, 0, LENGTH, content, NULL, &opts) <= 0);
		inject_disarm();
		if (!inject_fired())
			break;
		made += strcmp(inject_where(), "pthread_create") == 0;
	}
	assert_true(made >= 1 && made <= 3);
	free(content);
	end_memory(&m);
}

static void the_callers_signals_are_left_alone(void **state)
{
	sigset_t mine, before, after;

	(void)state;
	sigemptyset(&mine);
	sigaddset(&mine, SIGUSR1);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &mine, &before), 0);
	fill(7, 8, 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
	for (int number = 1; number < 32; number++)
		assert_int_equal(sigismember(&after, number), number == SIGUSR1);
}

/* The number of the failure point that is the first thread: no other thread can come before it. */
static unsigned long first_thread(void)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK, .threads = 5 };
	struct memory m = make_memory(MEMFD, LENGTH);
	unsigned char *content = pages_of_content(PAGES, 0);
	unsigned long nth = 0;

	do {
		inject_arm(++nth, EAGAIN);
		(void)gmem_populate(m.mem, 0, LENGTH, content, NULL, &opts);
		inject_disarm();
		assert_true(inject_fired());
	} while (strcmp(inject_where(), "pthread_create") != 0);
	free(content);
	end_memory(&m);
	return nth;
}

static void one_that_cannot_be_made_ends_the_making_only(void **state)
{
	(void)state;
	fill(5, 1, first_thread() + 1); /* a source takes one allocation more than the buffer there */
	assert_string_equal(inject_where(), "pthread_create");
	assert_int_equal(crowd.count, 1);
}

static const struct gt_test tests[] = {
	GT(there_are_as_many_as_were_asked_for, GT_NEEDS_NOTHING),
	GT(there_are_no_more_than_pieces, GT_NEEDS_NOTHING),
	GT(the_callers_signals_are_left_alone, GT_NEEDS_NOTHING),
	GT(one_that_cannot_be_made_ends_the_making_only, GT_NEEDS_NOTHING),
};

GT_MAIN("threads_made", tests)
