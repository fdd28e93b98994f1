/* SPDX-License-Identifier: MIT */
/* Ranges that a pager is asked for by word. */
#include "gt.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "content.h"
#include "handles.h"
#include "pager.h"
#include "served.h"

#define PAGES 64
#define LENGTH (PAGES * page())

struct asked {
	struct gmemi_forward forward;
	_Atomic int result; /* 1 = none yet */
	atomic_uint told;
};

static void note(struct gmemi_forward *forward, int code)
{
	struct asked *asked = (struct asked *)forward;

	atomic_store(&asked->result, code);
	atomic_fetch_add(&asked->told, 1);
}

static void ask(struct asked *asked, uint64_t first, uint64_t count)
{
	*asked = (struct asked){
		.forward = { .mem = paged.mem, .at = first * page(), .end = (first + count) * page(), .done = note },
		.result = 1,
	};
	assert_int_equal(gmemi_pager_forward(paging.pager, paged.uffd, &asked->forward), 0);
}

static int told(struct asked *asked)
{
	WAIT_FOR(atomic_load(&asked->told));
	assert_int_equal(atomic_load(&asked->told), 1);
	return atomic_load(&asked->result);
}

/* Nothing of it is a page fault, and a page that is there can be asked for as well. */
static void content_comes(enum way way)
{
	struct asked first, all;

	begin_served(way, PAGES, NULL, take_event, 0);
	ask(&first, 3, 1);
	assert_int_equal(told(&first), 0);
	ask(&all, 0, PAGES);
	ask(&first, 3, 1);
	assert_int_equal(told(&all), 0);
	assert_int_equal(told(&first), 0);
	assert_int_equal(uffd_info(&paged).faults, 0);
	assert_int_equal(uffd_info(&paged).remaining, 0);
	assert_int_equal(uffd_info(&paged).pending, 0);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_int_equal(uffd_info(&paged).faults, 0); /* it was mapped, too */
	end_served();
}

/* More than there are requests, of a source that delivers later. */
static void delivered_late(enum way way)
{
	struct asked asked[3 * PAGES];

	begin_served(way, PAGES, answers_later, take_event, GMEM_FOREVER);
	for (unsigned int i = 0; i < 3 * PAGES; i++)
		ask(&asked[i], i % PAGES, 1);
	wait_asked(&feeder, 1);
	while (uffd_info(&paged).remaining) {
		struct question question;

		assert_true(next_question(&feeder, &question));
		assert_int_equal(deliver(&feeder, question.offset, question.length), 0);
	}
	for (unsigned int i = 0; i < 3 * PAGES; i++)
		assert_int_equal(told(&asked[i]), 0);
	end_served();
}

static int has_not_got_it(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)f;
	(void)offset;
	(void)length;
	(void)buffer;
	return -ENODATA;
}

/* Whoever touches a page may be left waiting for it; who asks by word is told. */
static void content_that_fails(enum way way, int verdict)
{
	struct asked first, second;
	struct toucher toucher;

	begin_served(way, PAGES, has_not_got_it, take_event, 0);
	atomic_store(&events.verdict, verdict);
	ask(&first, 5, 1);
	assert_int_equal(told(&first), -ENODATA);
	assert_int_equal(asked(&feeder), 1);
	ask(&second, 5, 1);
	assert_int_equal(told(&second), -ENODATA);
	if (verdict == GMEM_FAILURE_WAIT) {
		touch_page(&toucher, 5, content + 5 * page());
		assert_true(still_waits(&toucher));
		assert_int_equal(deliver(&feeder, 5 * page(), page()), 0);
		assert_int_equal(touched(&toucher), 0);
	}
	end_served();
}

static void poisoned(enum way way)
{
	content_that_fails(way, GMEM_FAILURE_POISON);
}

static void left_waiting(enum way way)
{
	content_that_fails(way, GMEM_FAILURE_WAIT);
}

/* Who asks is told that it will not come. */
static void let_go(enum way way)
{
	struct asked asked[20];

	begin_served(way, PAGES, answers_later, take_event, GMEM_FOREVER);
	for (unsigned int i = 0; i < 20; i++)
		ask(&asked[i], 2 * i, 1);
	wait_asked(&feeder, 1);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(told(&asked[i]), -ENOENT);
	assert_int_equal(gmemi_pager_forward(paging.pager, paged.uffd, &asked[0].forward), -ENOENT);
	end_served();
}

IN_EACH_WAY(content_comes)
IN_EACH_WAY(delivered_late)
IN_EACH_WAY(poisoned)
IN_EACH_WAY(left_waiting)
IN_EACH_WAY(let_go)

static const struct gt_test tests[] = {
	EACH_WAY(content_comes, NEEDS_PAGING),
	EACH_WAY(delivered_late, NEEDS_PAGING),
	EACH_WAY(poisoned, NEEDS_PAGING),
	EACH_WAY(left_waiting, NEEDS_PAGING),
	EACH_WAY(let_go, NEEDS_PAGING),
};

GT_MAIN("pager_forward", tests)
