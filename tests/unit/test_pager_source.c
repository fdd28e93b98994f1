/* SPDX-License-Identifier: MIT */
/* Pagers and sources that answer late, in parts, twice, wrongly or not at all. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "served.h"

#define PAGES 64
#define LENGTH (PAGES * page())
#define SOON 200000000 /* nanoseconds: a deadline that passes */

static void set_up(enum way way, answer_fn *answer, uint64_t deadline)
{
	begin_served(way, PAGES, answer, take_event, deadline);
}

static void touch(struct toucher *toucher, uint64_t number)
{
	touch_page(toucher, number, content + number * page());
}

/* --- late --- */

static int delivers_first(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	assert_int_equal(deliver(f, offset, length), 0);
	return GMEM_ANSWER_LATER;
}

static void delivered_before_the_read_returns(enum way way)
{
	set_up(way, delivers_first, GMEM_FOREVER);
	for (uint64_t i = 0; i < PAGES; i += 2)
		assert_int_equal(memcmp(paged.at + i * page(), content + i * page(), page()), 0);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 20 * SECOND), 0);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_int_equal(events.failed, 0);
	assert_adds_up(&paged);
	end_served();
}

static int delivers_a_page_first(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	(void)length;
	assert_int_equal(deliver(f, offset, page()), 0);
	return GMEM_ANSWER_LATER;
}

/* In a sequence much is asked for around a page: whoever waits for that page alone does not wait for the rest. */
static void a_page_of_many_is_delivered(enum way way)
{
	struct gmem_pager_create_opts opts = with_events(&events, GMEM_FOREVER);

	set_up(way, delivers_a_page_first, 0);
	end_paging(&paging);
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	for (uint64_t i = 0; i < PAGES; i += question(&feeder, asked(&feeder) - 1).length / page()) {
		struct gmem_uffd_info before = uffd_info(&paged);

		assert_int_equal(memcmp(paged.at + i * page(), content + i * page(), page()), 0);
		assert_adds_up(&paged);
		assert_true(uffd_info(&paged).retries - before.retries < 4);
	}
	end_served();
}

static void delivered_by_another_thread(enum way way)
{
	struct toucher touchers[8];
	struct question q[8];

	set_up(way, answers_later, 0);
	for (int i = 0; i < 8; i++)
		touch(&touchers[i], 3 * (uint64_t)i);
	for (int i = 0; i < 8; i++)
		assert_true(next_question(&feeder, &q[i]));
	for (int i = 7; i >= 0; i--) { /* out of order */
		assert_int_equal(q[i].length, page());
		assert_int_equal(q[i].flags, GMEM_READ_DEMAND);
		assert_int_equal(deliver(&feeder, q[i].offset, q[i].length), 0);
		assert_int_equal(touched(&touchers[q[i].offset / page() / 3]), 0);
	}
	assert_int_equal(asked(&feeder), 8);
	assert_adds_up(&paged);
	end_served();
}

/* Several wait for pages of one question, which comes in parts, some of them twice. */
static void delivered_in_parts_and_twice(enum way way)
{
	struct gmem_pager_create_opts opts = { .size = sizeof(opts), .around_mode = GMEM_AROUND_FIXED, .around = 16 * page() };
	struct toucher touchers[3];

	set_up(way, answers_later, 0);
	end_paging(&paging);
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch(&touchers[0], 4);
	wait_asked(&feeder, 1);
	assert_int_equal(question(&feeder, 0).offset, 0);
	assert_int_equal(question(&feeder, 0).length, 16 * page());
	touch(&touchers[1], 9);
	touch(&touchers[2], 12);
	wait_pending(&paged, 3);
	assert_int_equal(deliver(&feeder, 12 * page(), 4 * page()), 0);
	assert_int_equal(touched(&touchers[2]), 0);
	assert_true(still_waits(&touchers[0]) && still_waits(&touchers[1]));
	assert_int_equal(deliver(&feeder, 12 * page(), 4 * page()), 0);
	assert_int_equal(deliver(&feeder, 0, 6 * page()), 0);
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(deliver(&feeder, 6 * page(), 6 * page()), 0);
	assert_int_equal(touched(&touchers[1]), 0);
	assert_int_equal(asked(&feeder), 1);
	assert_adds_up(&paged);
	end_served();
}

/* The wrong page, half a page, and what nobody has asked for. */
static void delivered_wrongly(enum way way)
{
	struct toucher toucher;

	set_up(way, answers_later, 0);
	touch(&toucher, 4);
	wait_asked(&feeder, 1);
	assert_int_equal(deliver(&feeder, 20 * page(), 2 * page()), 0); /* unasked: filled all the same */
	assert_int_equal(memcmp(paged.at + 20 * page(), content + 20 * page(), 2 * page()), 0);
	assert_int_equal(deliver(&feeder, 4 * page(), page() / 2), -EINVAL);
	assert_int_equal(deliver(&feeder, 4 * page() + 512, page()), -EINVAL);
	assert_int_equal(gmem_source_deliver(feeder.source, 100 * LENGTH, page(), content, 0), 0);
	assert_true(still_waits(&toucher));
	assert_int_equal(deliver(&feeder, 4 * page(), page()), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(asked(&feeder), 1);
	assert_adds_up(&paged);
	end_served();
}

static void never_delivered(enum way way)
{
	struct toucher toucher;

	set_up(way, answers_later, SOON);
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	touch(&toucher, 4);
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(events.error, -ETIMEDOUT);
	assert_int_equal(events.offset, 4 * page());
	assert_int_equal(events.length, page());
	assert_true(still_waits(&toucher));
	assert_int_equal(gmem_source_deliver(feeder.source, 0, LENGTH, NULL, -EAGAIN), 0); /* ask again */
	wait_asked(&feeder, 2);
	assert_int_equal(deliver(&feeder, 4 * page(), page()), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_adds_up(&paged);
	assert_int_equal(events.failed, 1);
	end_served();
}

static void a_parked_page_is_delivered(enum way way)
{
	struct toucher toucher;

	set_up(way, answers_later, SOON);
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	touch(&toucher, 4);
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_adds_up(&paged);
	end_served();
}

static int refuses_first(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	assert_int_equal(gmem_source_deliver(f->source, offset, length, NULL, *(int *)f->user), 0);
	return GMEM_ANSWER_LATER;
}

static void refused_before_the_read_returns(enum way way)
{
	int error = -ENODATA;
	struct toucher toucher;

	set_up(way, NULL, GMEM_FOREVER);
	feeder.user = &error;
	feeder.answer = refuses_first;
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	touch(&toucher, 4);
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(events.error, -ENODATA);
	assert_int_equal(deliver(&feeder, 4 * page(), page()), 0);
	assert_int_equal(touched(&toucher), 0);
	end_served();
}

IN_EACH_WAY(delivered_before_the_read_returns)
IN_EACH_WAY(a_page_of_many_is_delivered)
IN_EACH_WAY(delivered_by_another_thread)
IN_EACH_WAY(delivered_in_parts_and_twice)
IN_EACH_WAY(delivered_wrongly)
IN_EACH_WAY(never_delivered)
IN_EACH_WAY(a_parked_page_is_delivered)
IN_EACH_WAY(refused_before_the_read_returns)

/* --- failing --- */

static int fails_often(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)offset;
	(void)length;
	memset(buffer, 0xbd, length);
	return asked(f) <= 5 ? -EIO : FEEDER_GIVES;
}

static void tried_again_until_it_works(enum way way)
{
	struct toucher toucher;

	set_up(way, fails_often, 0);
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(asked(&feeder), 6);
	for (unsigned int i = 1; i < 5; i++) /* each pause at least as long as was promised */
		assert_true(question(&feeder, i + 1).at - question(&feeder, i).at >= UINT64_C(1000000) << i);
	assert_int_equal(uffd_info(&paged).source_errors, 5);
	assert_int_equal(events.failed, 0);
	assert_adds_up(&paged);
	end_served();
}

static int fails(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)offset;
	memset(buffer, 0xbd, length);
	return *(int *)f->user;
}

static void want_poison(void)
{
	if (gmem_uffd_resolve(paged.uffd, paged.mem, LENGTH - page(), page(), GMEM_RESOLVE_POISON, NULL, NULL) == -EOPNOTSUPP) {
		end_served();
		gt_skip("no UFFDIO_POISON before kernel 6.6");
	}
}

static void poisoned_at_the_deadline_and_repaired(enum way way)
{
	struct toucher toucher, other;
	int error = -EIO;

	set_up(way, NULL, SOON);
	want_poison();
	feeder.user = &error;
	feeder.answer = fails;
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), -EFAULT);
	assert_int_equal(events.failed, 1);
	assert_int_equal(events.error, -EIO);
	assert_int_equal(events.offset, 4 * page());
	assert_true(asked(&feeder) > 1); /* how often is a matter of time */
	WAIT_FOR(uffd_info(&paged).pending == 0);
	assert_int_equal(pager_info(&paging).poisoned, 2); /* the other is the test's */
	touch(&other, 4);
	assert_int_equal(touched(&other), -EFAULT);
	error = -ENODATA; /* a byte of it at a time is not what threads look at now */
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 20 * SECOND), -EIO);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	touch(&other, 4);
	assert_int_equal(touched(&other), 0);
	assert_adds_up(&paged);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 20 * SECOND), 0);
	end_served();
}

static void not_there_is_final(enum way way)
{
	struct toucher toucher;
	int error = -ENODATA;

	set_up(way, NULL, GMEM_FOREVER);
	want_poison();
	feeder.user = &error;
	feeder.answer = fails;
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), -EFAULT);
	assert_int_equal(asked(&feeder), 1);
	assert_int_equal(events.error, -ENODATA);
	assert_adds_up(&paged);
	assert_int_equal(uffd_info(&paged).poisoned, 2); /* the other is the test's */
	end_served();
}

static int lacks_a_page(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	uint64_t absent = 7 * page();

	(void)buffer;
	while (!atomic_load(&f->open))
		sched_yield();
	return offset <= absent && absent < offset + length ? -ENODATA : FEEDER_GIVES;
}

/* One page of those around is not there: nobody but who waits for it may hear of that. */
static void one_page_of_many_is_not_there(enum way way)
{
	struct gmem_pager_create_opts opts = with_events(&events, 0);
	struct toucher touchers[4];

	set_up(way, NULL, 0);
	want_poison();
	end_paging(&paging);
	opts.around_mode = GMEM_AROUND_FIXED;
	opts.around = 16 * page();
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	feeder.answer = lacks_a_page;
	begin_paging(&paging);
	touch(&touchers[0], 2);
	wait_asked(&feeder, 1);
	touch(&touchers[1], 12);
	wait_pending(&paged, 2);
	atomic_store(&feeder.open, true);
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(touched(&touchers[1]), 0);
	assert_int_equal(events.failed, 0);
	touch(&touchers[2], 7);
	assert_int_equal(touched(&touchers[2]), -EFAULT);
	assert_int_equal(events.failed, 1);
	assert_int_equal(events.offset, 7 * page());
	assert_int_equal(events.length, page());
	touch(&touchers[3], 8);
	assert_int_equal(touched(&touchers[3]), 0);
	assert_adds_up(&paged);
	end_served();
}

IN_EACH_WAY(tried_again_until_it_works)
IN_EACH_WAY(poisoned_at_the_deadline_and_repaired)
IN_EACH_WAY(not_there_is_final)

static void one_page_of_many_is_not_there_by_a_thread(void **state)
{
	(void)state;
	one_page_of_many_is_not_there(OWN);
}

static void one_page_of_many_is_not_there_by_three(void **state)
{
	(void)state;
	one_page_of_many_is_not_there(THREE_OWN);
}

/* --- a file that gets shorter --- */

static void a_file_is_cut_short(enum way way)
{
	struct gmem_pager_create_opts opts = with_events(&events, SOON);
	struct gmem_source *source;
	struct gmem_extent extent = { .length = LENGTH };
	struct toucher toucher;

	memset(&events, 0, sizeof(events));
	opts.around_mode = GMEM_AROUND_NONE;
	content = pages_of_content(PAGES, 0);
	extent.fd = file_of(content, LENGTH);
	paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	assert_int_equal(gmem_source_create_file(&extent, 1, &source), 0);
	paging = make_pager(way, &opts);
	serve(&paging, &paged, source, 0, 0);
	begin_paging(&paging);
	touch(&toucher, 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(ftruncate(extent.fd, (off_t)(LENGTH / 2)), 0);
	atomic_store(&events.verdict, GMEM_FAILURE_WAIT);
	touch(&toucher, PAGES - 1);
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(events.error, -EIO);
	assert_true(still_waits(&toucher));
	assert_int_equal(gmem_source_deliver(source, LENGTH - page(), page(), content + LENGTH - page(), 0), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_adds_up(&paged);
	end_paging(&paging);
	gmem_source_destroy(source);
	end_paged(&paged);
	close(extent.fd);
	free(content);
}

IN_EACH_WAY(a_file_is_cut_short)

/* --- layers --- */

static void late_layers(enum way way)
{
	static struct feeder top;
	struct gmem_source *overlay;
	struct toucher touchers[2];
	struct question q;

	set_up(way, answers_later, 0);
	make_feeder(&top, content, LENGTH);
	top.answer = answers_later;
	assert_int_equal(gmem_source_create_overlay((struct gmem_source *[]){ top.source, feeder.source }, 2, &overlay), 0);
	end_paging(&paging);
	paging = make_pager(way, &(struct gmem_pager_create_opts){ .size = sizeof(struct gmem_pager_create_opts) });
	serve(&paging, &paged, overlay, 0, 0);
	begin_paging(&paging);
	touch(&touchers[0], 3);
	assert_true(next_question(&top, &q));
	assert_int_equal(gmem_source_deliver(top.source, q.offset, q.length, NULL, -ENODATA), 0);
	assert_true(next_question(&feeder, &q));
	assert_int_equal(deliver(&feeder, q.offset, q.length), 0);
	assert_int_equal(touched(&touchers[0]), 0);
	touch(&touchers[1], 50);
	assert_true(next_question(&top, &q));
	assert_int_equal(deliver(&top, q.offset, q.length), 0);
	assert_int_equal(touched(&touchers[1]), 0);
	assert_int_equal(asked(&feeder), 1);
	assert_adds_up(&paged);
	end_paging(&paging);
	gmem_source_destroy(overlay);
	end_feeder(&top);
	paging = make_pager(way, NULL);
	end_served();
}

IN_EACH_WAY(late_layers)

static const struct gt_test tests[] = {
	EACH_WAY(delivered_before_the_read_returns, NEEDS_PAGING),
	EACH_WAY(a_page_of_many_is_delivered, NEEDS_PAGING),
	EACH_WAY(delivered_by_another_thread, NEEDS_PAGING),
	EACH_WAY(delivered_in_parts_and_twice, NEEDS_PAGING),
	EACH_WAY(delivered_wrongly, NEEDS_PAGING),
	EACH_WAY(never_delivered, NEEDS_PAGING),
	EACH_WAY(a_parked_page_is_delivered, NEEDS_PAGING),
	EACH_WAY(refused_before_the_read_returns, NEEDS_PAGING),
	EACH_WAY(tried_again_until_it_works, NEEDS_PAGING),
	EACH_WAY(poisoned_at_the_deadline_and_repaired, NEEDS_PAGING),
	EACH_WAY(not_there_is_final, NEEDS_PAGING),
	GT(one_page_of_many_is_not_there_by_a_thread, NEEDS_PAGING),
	GT(one_page_of_many_is_not_there_by_three, NEEDS_PAGING),
	EACH_WAY(a_file_is_cut_short, NEEDS_PAGING),
	EACH_WAY(late_layers, NEEDS_PAGING),
};

GT_MAIN("pager_source", tests)
