/* SPDX-License-Identifier: MIT */
/* Pagers, and sources that are slow, beside others that are not. */
#include "gt.h"

#include <errno.h>
#include <string.h>

#include "handles.h"
#include "served.h"

#define PAGES 256
#define LENGTH (PAGES * page())

static void set_up_with(enum way way, answer_fn *answer, gmem_pager_fn event)
{
	begin_served(way, PAGES, answer, event, 0);
}

static void set_up(enum way way)
{
	set_up_with(way, answers_later, take_event);
}

static void *lend_another(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)gmem_pager_run(paging.pager, GMEM_FOREVER);
}

static void a_slow_source_delays_nobody_else(enum way way, bool another)
{
	struct paged other = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	static struct feeder fast;
	struct toucher slow[4];
	pthread_t thread;

	set_up_with(way, waits_until_open, take_event);
	make_feeder(&fast, content, LENGTH);
	serve(&paging, &other, fast.source, 0, 0);
	if (another)
		assert_int_equal(pthread_create(&thread, NULL, lend_another, NULL), 0);
	for (uint64_t i = 0; i < 4; i++)
		touch_page(&slow[i], i, content + i * page());
	wait_asked(&feeder, 1);
	assert_int_equal(memcmp(other.at, content, LENGTH), 0);
	for (int i = 0; i < 4; i++)
		assert_true(still_waits(&slow[i]));
	atomic_store(&feeder.open, true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(touched(&slow[i]), 0);
	assert_adds_up(&other);
	stop_paging(&paging);
	if (another) {
		pthread_join(thread, NULL);
	}
	end_served();
	end_feeder(&fast);
	end_paged(&other);
}

static void a_slow_source_and_a_thread(void **state)
{
	(void)state;
	a_slow_source_delays_nobody_else(OWN, false);
}

static void a_slow_source_and_three_threads(void **state)
{
	(void)state;
	a_slow_source_delays_nobody_else(THREE_OWN, false);
}

static void a_slow_source_and_two_lent_threads(void **state)
{
	(void)state;
	a_slow_source_delays_nobody_else(LENT, true);
}

static void a_late_source_delays_nobody_else(enum way way)
{
	struct paged other = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	static struct feeder fast;
	struct toucher slow;

	set_up(way);
	make_feeder(&fast, content, LENGTH);
	serve(&paging, &other, fast.source, 0, 0);
	touch_page(&slow, 1, content + page());
	wait_asked(&feeder, 1);
	assert_int_equal(memcmp(other.at, content, LENGTH), 0);
	assert_true(still_waits(&slow));
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&slow), 0);
	end_served();
	end_feeder(&fast);
	end_paged(&other);
}

IN_EACH_WAY(a_late_source_delays_nobody_else)

static int fails_then_waits(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	return asked(f) == 1 ? -EIO : waits_until_open(f, offset, length, buffer);
}

/* ... when it was asked again by the thread that had the time, too. */
static void a_second_try_that_never_returns(void **state)
{
	struct gmem_pager_create_opts opts = with_events(&events, 200000000);
	struct toucher toucher;

	(void)state;
	set_up_with(OWN, fails_then_waits, take_event);
	end_paging(&paging);
	paging = make_pager(OWN, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	begin_paging(&paging);
	touch_page(&toucher, 1, content + page());
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(events.error, -ETIMEDOUT);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	atomic_store(&feeder.open, true);
	assert_adds_up(&paged);
	end_served();
}

/* The deadline holds also while the thread that asks is blocked for good. */
static void a_source_that_never_returns(void **state)
{
	struct gmem_pager_create_opts opts = with_events(&events, 200000000);
	struct toucher touchers[2];

	(void)state;
	set_up_with(OWN, waits_until_open, take_event);
	end_paging(&paging);
	paging = make_pager(OWN, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	begin_paging(&paging);
	touch_page(&touchers[0], 1, content + page());
	touch_page(&touchers[1], 100, content + 100 * page());
	WAIT_FOR(atomic_load(&events.failed) == 2);
	assert_int_equal(events.error, -ETIMEDOUT);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(touched(&touchers[1]), 0);
	atomic_store(&feeder.open, true);
	assert_adds_up(&paged);
	end_served();
}

static const struct gt_test tests[] = {
	GT(a_slow_source_and_a_thread, NEEDS_PAGING),
	GT(a_slow_source_and_three_threads, NEEDS_PAGING),
	GT(a_slow_source_and_two_lent_threads, NEEDS_PAGING),
	EACH_WAY(a_late_source_delays_nobody_else, NEEDS_PAGING),
	GT(a_second_try_that_never_returns, NEEDS_PAGING),
	GT(a_source_that_never_returns, NEEDS_PAGING),
};

GT_MAIN("pager_slow", tests)
