/* SPDX-License-Identifier: MIT */
/* Pagers that are stopped, started, and given and taken endpoints while somebody waits; what is around a fault; callbacks. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "pagers.h"

#define PAGES 512
#define LENGTH (PAGES * page())

static struct feeder feeder;
static struct events events;
static struct paged paged;
static unsigned char *content;

static void set_up(void)
{
	memset(&events, 0, sizeof(events));
	content = pages_of_content(PAGES, 0);
	paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	make_feeder(&feeder, content, LENGTH);
}

static void tear_down(void)
{
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static void touch_page(struct toucher *toucher, uint64_t number)
{
	touch_in_pager(toucher, paged.at + number * page(), page(), content + number * page());
}

static struct paging pager_around(enum way way, uint32_t mode, uint64_t around)
{
	struct gmem_pager_create_opts opts = with_events(&events, 0);

	opts.around_mode = mode;
	opts.around = around;
	return make_pager(way, &opts);
}

/* --- around --- */

static void see(uint64_t number)
{
	assert_int_equal(memcmp(paged.at + number * page(), content + number * page(), page()), 0);
}

static void assert_asked(unsigned int number, uint64_t first, uint64_t pages)
{
	assert_int_equal(question(&feeder, number).offset, first * page());
	assert_int_equal(question(&feeder, number).length, pages * page());
	assert_int_equal(question(&feeder, number).flags, GMEM_READ_DEMAND);
}

static void around_none_and_fixed(enum way way)
{
	struct paging paging;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	see(5);
	see(6);
	assert_asked(0, 5, 1);
	assert_asked(1, 6, 1);
	end_paging(&paging);
	paging = pager_around(way, GMEM_AROUND_FIXED, 8 * page());
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	see(7);	 /* the block, but not what is there */
	see(0);
	see(21);
	see(PAGES - 1);
	assert_asked(2, 7, 1);
	assert_asked(3, 0, 5);
	assert_asked(4, 16, 8);
	assert_asked(5, PAGES - 8, 8);
	assert_int_equal(asked(&feeder), 6);
	end_paging(&paging);
	tear_down();
}

static uint64_t pages_of(uint64_t bytes)
{
	return bytes > page() ? bytes / page() : 1;
}

/* What the source is asked for grows in a sequence, also in two at a time, and shrinks elsewhere. */
static void around_as_faults_come(enum way way)
{
	uint64_t small = pages_of(16384), large = pages_of(65536), a = 0, b = PAGES / 2;
	struct paging paging;
	unsigned int n;

	set_up();
	paging = pager_around(way, GMEM_AROUND_ADAPTIVE, 0);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	for (n = 0; n < 6; n += 2) {
		see(a);
		see(b);
		assert_int_equal(question(&feeder, n).offset, a * page());
		assert_int_equal(question(&feeder, n + 1).offset, b * page());
		a += question(&feeder, n).length / page();
		b += question(&feeder, n + 1).length / page();
	}
	assert_asked(0, 0, small);
	assert_asked(1, PAGES / 2, small);
	assert_asked(4, 2 * small, large);
	assert_asked(5, PAGES / 2 + 2 * small, large);
	see(PAGES - 1);
	assert_asked(6, PAGES - small, small);
	see(a); /* the sequence is remembered */
	assert_asked(7, a, large);
	end_paging(&paging);
	assert_adds_up(&paged);
	tear_down();
}

/* What was allocated and never written is a hole to lseek() and absent to mincore(): cachestat() tells. */
static uint64_t allocated(uint64_t first, uint64_t pages)
{
	return first * page() + pages * page() <= LENGTH ? pages - absent_bytes(paged.mem, first * page(), pages * page()) / page() : 0;
}

static void ahead_is_allocated_and_no_more(enum way way)
{
	struct gmem_uffd_info info;
	struct paging paging;

	set_up();
	want_small_pages();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	serve(&paging, &paged, feeder.source, 0, 32 * page());
	assert_int_equal(gmem_discard(paged.mem, 40 * page(), page(), NULL, NULL), 0);
	begin_paging(&paging);
	see(20);
	WAIT_FOR(allocated(21, 19) == 19);
	assert_int_equal(allocated(40, PAGES - 40), 0); /* given up: not taken again */
	for (uint64_t i = 0; i < PAGES; i++)
		if (i != 40)
			see(i);
	assert_int_equal(paged.at[40 * page()], 0);
	assert_adds_up(&paged);
	info = uffd_info(&paged);
	assert_int_equal(info.filled, PAGES - 1);
	end_paging(&paging);
	tear_down();
}

IN_EACH_WAY(around_none_and_fixed)
IN_EACH_WAY(around_as_faults_come)
IN_EACH_WAY(ahead_is_allocated_and_no_more)

/* --- stop, start, remove, destroy --- */

static void stop_and_go_on(enum way way)
{
	struct toucher touchers[6];
	struct paging paging;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	for (uint64_t i = 0; i < 3; i++)
		touch_page(&touchers[i], i);
	wait_pending(&paged, 3);
	wait_asked(&feeder, 3);
	assert_int_equal(stop_paging(&paging), 3);
	for (uint64_t i = 3; i < 6; i++)
		touch_page(&touchers[i], i);
	assert_int_equal(deliver(&feeder, 0, page()), 0); /* this needs no pager thread */
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(stop_paging(&paging), 2);
	begin_paging(&paging);
	wait_asked(&feeder, 6);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	for (uint64_t i = 1; i < 6; i++)
		assert_int_equal(touched(&touchers[i]), 0);
	assert_adds_up(&paged);
	end_paging(&paging);
	tear_down();
}

/* What was queued when it stopped is asked for when it goes on. */
static int fails_while_closed(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)offset;
	(void)length;
	(void)buffer;
	return atomic_load(&f->open) ? FEEDER_GIVES : -EIO;
}

static void stop_between_two_tries(enum way way)
{
	struct toucher toucher;
	struct paging paging;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	feeder.answer = fails_while_closed;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_page(&toucher, 3);
	wait_asked(&feeder, 3);
	assert_int_equal(stop_paging(&paging), 1);
	atomic_store(&feeder.open, true);
	begin_paging(&paging);
	assert_int_equal(touched(&toucher), 0);
	assert_adds_up(&paged);
	end_paging(&paging);
	tear_down();
}

static void removed_with_somebody_waiting(enum way way)
{
	struct toucher touchers[2];
	struct paging paging, next;
	uint64_t pending = 0;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	next = pager_around(way, GMEM_AROUND_NONE, 0);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_page(&touchers[0], 1);
	touch_page(&touchers[1], 2);
	wait_pending(&paged, 2);
	assert_int_equal(gmem_pager_add(next.pager, paged.uffd, feeder.source, NULL), -EBUSY);
	assert_int_equal(gmem_pager_add(paging.pager, paged.uffd, feeder.source, NULL), -EEXIST);
	assert_int_equal(gmem_pager_remove(next.pager, paged.uffd, &pending), -ENOENT);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, &pending), 0);
	assert_int_equal(pending, 2);
	assert_int_equal(uffd_info(&paged).pending, 0);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, &pending), -ENOENT);
	assert_int_equal(deliver(&feeder, page(), page()), -ENOTCONN);
	assert_true(still_waits(&touchers[0]));
	feeder.answer = NULL;
	serve(&next, &paged, feeder.source, 0, 0);
	begin_paging(&next);
	assert_int_equal(gmem_uffd_resolve(paged.uffd, paged.mem, 0, LENGTH, GMEM_RESOLVE_WAKE, NULL, NULL), 0);
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(touched(&touchers[1]), 0);
	end_paging(&next);
	end_paging(&paging);
	tear_down();
}

static void destroyed_with_somebody_waiting(enum way way)
{
	struct toucher toucher;
	struct paging paging;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_page(&toucher, 1);
	wait_pending(&paged, 1);
	end_paging(&paging);
	assert_true(still_waits(&toucher));
	assert_int_equal(gmem_uffd_resolve(paged.uffd, paged.mem, page(), page(), GMEM_RESOLVE_DATA, content + page(), NULL), 0);
	assert_int_equal(touched(&toucher), 0);
	tear_down();
}

static void a_region_that_comes_later(enum way way)
{
	struct paging paging;

	memset(&events, 0, sizeof(events));
	content = pages_of_content(PAGES, 0);
	paged = bare_memory(GMEM_BACKING_MEMFD, LENGTH);
	make_feeder(&feeder, content, LENGTH);
	paging = pager_around(way, GMEM_AROUND_ADAPTIVE, 0);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	watch_part(&paged, 0, LENGTH / 2, 0);
	see(0);
	watch_part(&paged, LENGTH / 2, LENGTH / 2, 0);
	see(PAGES - 1);
	see(PAGES / 2);
	assert_adds_up(&paged);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), 0);
	assert_int_equal(events.complete, 1);
	end_paging(&paging);
	tear_down();
}

#define MANY 100

static void a_hundred_endpoints(enum way way)
{
	static struct paged many[MANY];
	struct paging paging;

	set_up();
	paging = pager_around(way, GMEM_AROUND_ADAPTIVE, 0);
	for (int i = 0; i < MANY; i++) {
		many[i] = page_memory(GMEM_BACKING_MEMFD, 16 * page(), 0);
		serve(&paging, &many[i], feeder.source, i % 2 ? UINT64_MAX : 0, 0);
		if (i == MANY / 2)
			begin_paging(&paging);
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(memcmp(many[i].at, content, 16 * page()), 0);
	WAIT_FOR(atomic_load(&events.complete) == MANY);
	assert_int_equal(pager_info(&paging).endpoints, MANY);
	for (int i = 0; i < MANY; i += 2)
		assert_int_equal(gmem_pager_remove(paging.pager, many[i].uffd, NULL), 0);
	assert_int_equal(pager_info(&paging).endpoints, MANY / 2);
	assert_int_equal(pager_info(&paging).bytes, MANY * 16 * page());
	serve(&paging, &many[0], feeder.source, 0, 0); /* comes again: nothing is counted twice */
	assert_int_equal(pager_info(&paging).bytes, MANY * 16 * page());
	end_paging(&paging);
	assert_int_equal(events.complete, MANY);
	for (int i = 0; i < MANY; i++) {
		assert_adds_up(&many[i]);
		end_paged(&many[i]);
	}
	tear_down();
}

IN_EACH_WAY(stop_and_go_on)
IN_EACH_WAY(stop_between_two_tries)
IN_EACH_WAY(removed_with_somebody_waiting)
IN_EACH_WAY(destroyed_with_somebody_waiting)
IN_EACH_WAY(a_region_that_comes_later)
IN_EACH_WAY(a_hundred_endpoints)

static struct removal {
	struct paging *paging;
	_Atomic int result;
} removal;

static void *remove_it(void *arg)
{
	(void)arg;
	atomic_store(&removal.result, gmem_pager_remove(removal.paging->pager, paged.uffd, NULL));
	return NULL;
}

/* While a thread is in the source it does not return: nothing is filled behind its back. */
static void remove_waits_for_the_source(enum way way)
{
	struct paging paging;
	struct toucher toucher;
	pthread_t thread;

	set_up();
	paging = pager_around(way, GMEM_AROUND_NONE, 0);
	feeder.answer = waits_until_open;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_page(&toucher, 1);
	wait_asked(&feeder, 1);
	removal.paging = &paging;
	atomic_store(&removal.result, 1);
	assert_int_equal(pthread_create(&thread, NULL, remove_it, NULL), 0);
	WAIT_FOR(pager_info(&paging).endpoints == 0); /* it has begun */
	for (int i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(atomic_load(&removal.result), 1);
	atomic_store(&feeder.open, true);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&removal.result), 0);
	assert_int_equal(gmem_uffd_resolve(paged.uffd, paged.mem, page(), page(), GMEM_RESOLVE_DATA, content + page(), NULL), 0);
	assert_int_equal(touched(&toucher), 0);
	end_paging(&paging);
	tear_down();
}

IN_EACH_WAY(remove_waits_for_the_source)

/* --- signals --- */

static atomic_uint heard;

static void hear(int number)
{
	(void)number;
	atomic_fetch_add(&heard, 1);
}

static void *finish_it(void *arg)
{
	struct paging *paging = arg;

	return (void *)(intptr_t)gmem_pager_finish(paging->pager, paged.uffd, GMEM_FOREVER);
}

static void finish_ends_by_a_signal_and_by_a_stop(void **state)
{
	struct sigaction action = { .sa_handler = hear }, before;
	struct paging paging;
	pthread_t thread;
	void *result;

	(void)state;
	set_up();
	paging = pager_around(OWN, GMEM_AROUND_NONE, 0);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	sigaction(SIGUSR1, &action, &before);
	assert_int_equal(pthread_create(&thread, NULL, finish_it, &paging), 0);
	wait_asked(&feeder, 1);
	while (pthread_tryjoin_np(thread, &result) != 0) {
		pthread_kill(thread, SIGUSR1);
		sched_yield();
	}
	assert_int_equal((intptr_t)result, -EINTR);
	sigaction(SIGUSR1, &before, NULL);
	assert_int_equal(pthread_create(&thread, NULL, finish_it, &paging), 0);
	while (pthread_tryjoin_np(thread, &result) != 0) {
		stop_paging(&paging);
		sched_yield();
	}
	assert_int_equal((intptr_t)result, -ESHUTDOWN);
	end_paging(&paging);
	tear_down();
}

static const struct gt_test tests[] = {
	EACH_WAY(around_none_and_fixed, NEEDS_PAGING),
	EACH_WAY(around_as_faults_come, NEEDS_PAGING),
	EACH_WAY(ahead_is_allocated_and_no_more, NEEDS_PAGING | GT_NEEDS_CACHESTAT),
	EACH_WAY(stop_and_go_on, NEEDS_PAGING),
	EACH_WAY(stop_between_two_tries, NEEDS_PAGING),
	EACH_WAY(removed_with_somebody_waiting, NEEDS_PAGING),
	EACH_WAY(destroyed_with_somebody_waiting, NEEDS_PAGING),
	EACH_WAY(a_region_that_comes_later, NEEDS_PAGING),
	EACH_WAY(a_hundred_endpoints, NEEDS_PAGING),
	EACH_WAY(remove_waits_for_the_source, NEEDS_PAGING),
	GT(finish_ends_by_a_signal_and_by_a_stop, NEEDS_PAGING),
};

GT_MAIN("pager_control", tests)
