/* SPDX-License-Identifier: MIT */
/* Claims on ranges: never two on the same page at once, always on different ones, first come first served. */
#include "gt.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "claim.h"

#define PAGES 64u
#define THREADS 6
#define ROUNDS 4000

static struct gmemi_claims claims;
static atomic_int inside[PAGES]; /* threads that hold a claim on the page */
static atomic_int collisions;

static void *claim_at_random(void *seed)
{
	unsigned int state = (unsigned int)(uintptr_t)seed;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t first = (unsigned int)rand_r(&state) % PAGES, count = 1 + (unsigned int)rand_r(&state) % (PAGES - first);
		struct gmemi_claim claim;

		gmemi_claim_take(&claims, &claim, first, count);
		for (uint64_t page = first; page < first + count; page++)
			if (atomic_fetch_add(&inside[page], 1))
				atomic_fetch_add(&collisions, 1);
		for (uint64_t page = first; page < first + count; page++)
			atomic_fetch_sub(&inside[page], 1);
		gmemi_claim_drop(&claims, &claim);
	}
	return NULL;
}

static void never_two_on_a_page(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	gmemi_claims_begin(&claims);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, claim_at_random, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(collisions, 0);
	assert_null(claims.first);
}

static void different_pages_do_not_wait(void **state)
{
	struct gmemi_claim first, second, third;

	(void)state;
	gmemi_claims_begin(&claims);
	gmemi_claim_take(&claims, &first, 10, 10);
	gmemi_claim_take(&claims, &second, 0, 10); /* would never return if they did */
	gmemi_claim_take(&claims, &third, 20, 1);
	gmemi_claim_drop(&claims, &second);
	gmemi_claim_drop(&claims, &first);
	gmemi_claim_drop(&claims, &third);
	assert_null(claims.first);
}

static atomic_int order;

struct waiter {
	pthread_t thread;
	struct gmemi_claim claim;
	uint64_t offset, length;
	int came; /* as which */
};

static void *wait_in_line(void *argument)
{
	struct waiter *waiter = argument;

	gmemi_claim_take(&claims, &waiter->claim, waiter->offset, waiter->length);
	waiter->came = atomic_fetch_add(&order, 1);
	gmemi_claim_drop(&claims, &waiter->claim);
	return NULL;
}

static size_t in_line(void)
{
	size_t count = 0;

	gmemi_lock(&claims.lock);
	for (const struct gmemi_claim *c = claims.first; c; c = c->next)
		count++;
	gmemi_unlock(&claims.lock);
	return count;
}

static void line_up(struct waiter *waiter, size_t place)
{
	assert_int_equal(pthread_create(&waiter->thread, NULL, wait_in_line, waiter), 0);
	while (in_line() != place)
		;
}

/* The second wants what the first wants too, the third only what the second wants: it would be free, and has to wait. */
static void nobody_overtakes(void **state)
{
	struct waiter second = { .offset = 0, .length = 20 }, third = { .offset = 15, .length = 5 };
	struct gmemi_claim first;

	(void)state;
	gmemi_claims_begin(&claims);
	gmemi_claim_take(&claims, &first, 0, 10);
	line_up(&second, 2);
	line_up(&third, 3);
	assert_int_equal(order, 0);
	gmemi_claim_drop(&claims, &first);
	pthread_join(second.thread, NULL);
	pthread_join(third.thread, NULL);
	assert_int_equal(second.came, 0);
	assert_int_equal(third.came, 1);
}

static const struct gt_test tests[] = {
	GT(never_two_on_a_page, GT_NEEDS_NOTHING),
	GT(different_pages_do_not_wait, GT_NEEDS_NOTHING),
	GT(nobody_overtakes, GT_NEEDS_NOTHING),
};

GT_MAIN("claim", tests)
