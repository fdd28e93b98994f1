/* SPDX-License-Identifier: MIT */
/* A pager, and an endpoint of which more page faults come than it may cause. Time stands still until the test lets it go on. */
#include "gt.h"

#include <poll.h>
#include <string.h>

#include "handles.h"
#include "served.h"
#include "wrap.h"

#define PAGES 64
#define LENGTH (PAGES * page())
#define RATE 20 /* a second, which makes two at once */
#define AT_ONCE 2
#define WAITING 5

static uint64_t stopped_at;

static void stop_the_clock(void)
{
	stopped_at = now_ns();
	atomic_store(&wrap_clock_ns, stopped_at);
}

static void let_pass(uint64_t ns)
{
	stopped_at += ns;
	atomic_store(&wrap_clock_ns, stopped_at);
}

static void let_it_go(void)
{
	atomic_store(&wrap_clock_ns, 0);
}

/* NULL = the feeder. */
static void set_up_with(enum way way, struct gmem_source *source)
{
	struct gmem_pager_add_opts opts = { .size = sizeof(opts), .max_faults = RATE };

	begin_served(way, PAGES, NULL, take_event, 0);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	stop_the_clock();
	if (gmem_pager_add(paging.pager, paged.uffd, source ? source : feeder.source, &opts) < 0)
		fail_msg("%s", gmem_last_error());
}

static void set_up(enum way way)
{
	set_up_with(way, NULL);
}

static void touch_some(struct toucher *touchers, bool zeros)
{
	for (uint64_t i = 0; i < WAITING; i++)
		touch_page(&touchers[i], i, zeros ? NULL : content + i * page());
}

/* As many were read as may be, and it was noticed that there may be more. A thread that comes too late for the last gives its
 * share back, so that the pager may be throttled more than once. */
static void await_spent(uint64_t faults)
{
	WAIT_FOR(uffd_info(&paged).faults == faults && uffd_info(&paged).throttled >= 1);
}

static void all_touched(struct toucher *touchers)
{
	let_it_go();
	for (int i = 0; i < WAITING; i++)
		assert_int_equal(touched(&touchers[i]), 0);
}

/* Nobody has to ask again: the wait ends by itself. */
static void goes_on_one_by_one(bool zeros)
{
	struct toucher touchers[WAITING];
	uint64_t faults;

	touch_some(touchers, zeros);
	await_spent(AT_ONCE);
	for (faults = AT_ONCE; faults < WAITING; faults++) {
		assert_int_equal(uffd_info(&paged).faults, faults);
		let_pass(SECOND / RATE);
		await_spent(faults + 1);
	}
	all_touched(touchers);
	assert_adds_up(&paged);
	assert_int_equal(uffd_info(&paged).faults, WAITING);
}

static void faults_beyond_the_rate_wait(enum way way)
{
	set_up(way);
	goes_on_one_by_one(false);
	end_served();
}

IN_EACH_WAY(faults_beyond_the_rate_wait)

/* Of a source that never makes anybody wait: nothing but time wakes the pager. */
static void so_they_do_if_all_else_is_done(enum way way)
{
	struct gmem_source *zeros;

	assert_int_equal(gmem_source_create_zero(&zeros), 0);
	set_up_with(way, zeros);
	goes_on_one_by_one(true);
	end_served();
	gmem_source_destroy(zeros);
}

IN_EACH_WAY(so_they_do_if_all_else_is_done)

/* In the time of a test, time does not pass: no timer makes the fd readable. */
static void nothing_is_to_be_done_meanwhile(void **state)
{
	struct pollfd fd = { .events = POLLIN };
	struct toucher touchers[WAITING];

	(void)state;
	set_up(POLLED);
	stop_paging(&paging);
	let_pass(3600 * SECOND);
	touch_some(touchers, false);
	WAIT_FOR(gmem_pager_run(paging.pager, 0) == 0 && uffd_info(&paged).throttled >= 1);
	fd.fd = gmem_pager_get_fd(paging.pager);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(uffd_info(&paged).faults, AT_ONCE);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	all_touched(touchers);
	end_served();
}

static void others_are_served_meanwhile(enum way way)
{
	struct paged other = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct toucher touchers[WAITING];

	set_up(way);
	serve(&paging, &other, feeder.source, 0, 0);
	touch_some(touchers, false);
	await_spent(AT_ONCE);
	assert_int_equal(memcmp(other.at, content, LENGTH), 0);
	assert_int_equal(uffd_info(&other).faults, PAGES);
	assert_int_equal(uffd_info(&other).throttled, 0);
	assert_int_equal(uffd_info(&paged).faults, AT_ONCE);
	all_touched(touchers);
	end_served();
	end_paged(&other);
}

IN_EACH_WAY(others_are_served_meanwhile)

/* What is filled wakes whoever waits for it, heard or not. */
static void finishing_is_not_held_up(void **state)
{
	struct toucher touchers[WAITING];

	(void)state;
	set_up(THREE_OWN);
	let_pass(3600 * SECOND); /* so long it will be throttled, when time goes on where it was */
	touch_some(touchers, false);
	await_spent(AT_ONCE);
	let_it_go();
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), 0);
	all_touched(touchers);
	assert_int_equal(uffd_info(&paged).faults, AT_ONCE);
	end_served();
}

/* ... for the next pager, which knows of no limit. */
static void what_waits_stays_when_it_is_let_go(void **state)
{
	struct toucher touchers[WAITING];

	(void)state;
	set_up(OWN);
	touch_some(touchers, false);
	await_spent(AT_ONCE);
	WAIT_FOR(uffd_info(&paged).pending == 0);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	serve(&paging, &paged, feeder.source, 0, 0);
	for (int i = 0; i < WAITING; i++)
		assert_int_equal(touched(&touchers[i]), 0);
	let_it_go();
	end_served();
}

static const struct gt_test tests[] = {
	EACH_WAY(faults_beyond_the_rate_wait, NEEDS_PAGING),
	EACH_WAY(so_they_do_if_all_else_is_done, NEEDS_PAGING),
	GT(nothing_is_to_be_done_meanwhile, NEEDS_PAGING),
	EACH_WAY(others_are_served_meanwhile, NEEDS_PAGING),
	GT(finishing_is_not_held_up, NEEDS_PAGING),
	GT(what_waits_stays_when_it_is_let_go, NEEDS_PAGING),
};

GT_MAIN("pager_throttle", tests)
