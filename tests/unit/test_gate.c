/* SPDX-License-Identifier: MIT */
/* A gate: many inside together or one who has closed it, never both; whoever closes it comes first; sleepers are woken. A lock:
 * one at a time, and sleepers are woken. */
#include "gt.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"

#define ASLEEP (UINT32_C(1) << 30)
#define ENTERING 3
#define CLOSING 2
#define ROUNDS 3000

static struct gmemi_gate gate;
static atomic_int inside, alone, collisions;
static int guarded; /* no atomic: what one did is seen by the next */

static void *pass_through(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS; i++) {
		gmemi_gate_enter(&gate);
		atomic_fetch_add(&inside, 1);
		if (atomic_load(&alone))
			atomic_fetch_add(&collisions, 1);
		atomic_fetch_sub(&inside, 1);
		gmemi_gate_leave(&gate);
	}
	return NULL;
}

static void *close_and_open(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS; i++) {
		gmemi_gate_close(&gate);
		if (atomic_fetch_add(&alone, 1) || atomic_load(&inside))
			atomic_fetch_add(&collisions, 1);
		guarded++;
		atomic_fetch_sub(&alone, 1);
		gmemi_gate_open(&gate);
	}
	return NULL;
}

static void many_or_one_alone(void **state)
{
	pthread_t threads[ENTERING + CLOSING];

	(void)state;
	gmemi_gate_begin(&gate);
	guarded = 0;
	for (int i = 0; i < ENTERING + CLOSING; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i < ENTERING ? pass_through : close_and_open, NULL), 0);
	for (int i = 0; i < ENTERING + CLOSING; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(collisions, 0);
	assert_int_equal(guarded, CLOSING * ROUNDS);
	assert_int_equal(gate.state, 0);
}

static void several_are_inside_together(void **state)
{
	(void)state;
	gmemi_gate_begin(&gate);
	gmemi_gate_enter(&gate);
	gmemi_gate_enter(&gate); /* would never return if they were not */
	gmemi_gate_leave(&gate);
	gmemi_gate_leave(&gate);
	gmemi_gate_close(&gate);
	gmemi_gate_open(&gate);
}

static atomic_int sleeper; /* its number */

/* In the kernel. */
static bool is_asleep_on(const void *address)
{
	char path[64], line[256] = "", word[32];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", atomic_load(&sleeper));
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	snprintf(word, sizeof(word), " %p ", address);
	return strstr(line, word) != NULL;
}

static void wait_for_a_sleeper(void)
{
	while (!(atomic_load(&gate.state) & ASLEEP) || !is_asleep_on((void *)&gate.state))
		sched_yield();
}

static void *close_once(void *closed)
{
	atomic_store(&sleeper, gettid());
	gmemi_gate_close(&gate);
	atomic_store((atomic_bool *)closed, true);
	gmemi_gate_open(&gate);
	return NULL;
}

static void *enter_once(void *entered)
{
	atomic_store(&sleeper, gettid());
	gmemi_gate_enter(&gate);
	atomic_store((atomic_bool *)entered, true);
	gmemi_gate_leave(&gate);
	return NULL;
}

static void who_sleeps_is_woken_by_the_last_to_leave(void **state)
{
	atomic_bool closed = false, entered = false;
	pthread_t closer, comer;

	(void)state;
	gmemi_gate_begin(&gate);
	gmemi_gate_enter(&gate);
	gmemi_gate_enter(&gate);
	assert_int_equal(pthread_create(&closer, NULL, close_once, &closed), 0);
	wait_for_a_sleeper();
	atomic_store(&sleeper, 0);
	assert_int_equal(pthread_create(&comer, NULL, enter_once, &entered), 0);
	wait_for_a_sleeper(); /* on the same word */
	gmemi_gate_leave(&gate);
	assert_false(closed);
	assert_false(entered);
	gmemi_gate_leave(&gate);
	pthread_join(closer, NULL);
	pthread_join(comer, NULL);
	assert_true(closed);
	assert_true(entered);
}

static void who_sleeps_is_woken_by_opening(void **state)
{
	atomic_bool entered = false;
	pthread_t comer;

	(void)state;
	gmemi_gate_begin(&gate);
	gmemi_gate_close(&gate);
	assert_int_equal(pthread_create(&comer, NULL, enter_once, &entered), 0);
	wait_for_a_sleeper();
	assert_false(entered);
	gmemi_gate_open(&gate);
	pthread_join(comer, NULL);
	assert_true(entered);
}

/* --- locks -------------------------------------------------------------------------------------------------------------- */

static struct gmemi_lock lock;

static void *count(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS; i++) {
		gmemi_lock(&lock);
		if (atomic_fetch_add(&alone, 1))
			atomic_fetch_add(&collisions, 1);
		guarded++;
		if (i % 16 == 0)
			sched_yield(); /* others find it taken, and go to sleep */
		atomic_fetch_sub(&alone, 1);
		gmemi_unlock(&lock);
	}
	return NULL;
}

static void one_at_a_time(void **state)
{
	pthread_t threads[4];

	(void)state;
	gmemi_lock_begin(&lock);
	guarded = 0;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(collisions, 0);
	assert_int_equal(guarded, 4 * ROUNDS);
	assert_int_equal(lock.state, 0);
}

static void *lock_once(void *had_it)
{
	atomic_store(&sleeper, gettid());
	gmemi_lock(&lock);
	atomic_store((atomic_bool *)had_it, true);
	gmemi_unlock(&lock);
	return NULL;
}

static void all_who_sleep_for_a_lock_get_it(void **state)
{
	atomic_bool had_it[2] = { false, false };
	pthread_t threads[2];

	(void)state;
	gmemi_lock_begin(&lock);
	gmemi_lock(&lock);
	assert_false(gmemi_lock_try(&lock));
	for (int i = 0; i < 2; i++) {
		atomic_store(&sleeper, 0);
		assert_int_equal(pthread_create(&threads[i], NULL, lock_once, &had_it[i]), 0);
		while (!atomic_load(&sleeper) || !is_asleep_on((void *)&lock.state))
			sched_yield();
	}
	assert_false(had_it[0] || had_it[1]);
	gmemi_unlock(&lock);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(had_it[0] && had_it[1]);
	assert_true(gmemi_lock_try(&lock));
	gmemi_unlock(&lock);
	assert_int_equal(lock.state, 0);
}

static const struct gt_test tests[] = {
	GT(many_or_one_alone, GT_NEEDS_NOTHING),
	GT(several_are_inside_together, GT_NEEDS_NOTHING),
	GT(who_sleeps_is_woken_by_the_last_to_leave, GT_NEEDS_NOTHING),
	GT(who_sleeps_is_woken_by_opening, GT_NEEDS_NOTHING),
	GT(one_at_a_time, GT_NEEDS_NOTHING),
	GT(all_who_sleep_for_a_lock_get_it, GT_NEEDS_NOTHING),
};

GT_MAIN("gate", tests)
