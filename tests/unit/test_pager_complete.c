/* SPDX-License-Identifier: MIT */
/* When all of a memory is there: looking for what is empty goes on where it was, in steps that a fault can wait for, and misses
 * nothing that became empty behind it. */
#include "gt.h"

#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "handles.h"
#include "memories.h"
#include "memory.h"
#include "pager.h"
#include "served.h"

#define STEP (UINT64_C(1) << 18) /* pages that are looked at in one call */
#define FIRST (2 * STEP + 5)
#define SECOND_REGION (STEP / 2)
#define PAGES (FIRST + SECOND_REGION)

/* Two regions, of which the search needs several calls, all filled. */
static void set_up(void)
{
	paged = bare_memory(GMEM_BACKING_MEMFD, PAGES * page());
	watch_part(&paged, 0, FIRST * page(), GMEM_STRATEGY_FILL);
	watch_part(&paged, FIRST * page(), SECOND_REGION * page(), GMEM_STRATEGY_FILL);
	gmemi_pagemap_set(paged.mem->map, 0, PAGES, GMEMI_PAGE_FILLED);
}

static void mark(uint64_t number, enum gmemi_page_state state)
{
	gmemi_pagemap_set(paged.mem->map, number, 1, state);
}

/* How many calls say that they do not know yet, before *found. */
static unsigned int search(struct gmemi_search *search, enum gmemi_found *found)
{
	unsigned int calls = 0;

	while ((*found = gmemi_uffd_search_empty(paged.uffd, search)) == GMEMI_FOUND_NOT_YET && calls < 100)
		calls++;
	return calls;
}

static void nothing_is_watched(void **state)
{
	struct gmemi_search at = { 0 };
	enum gmemi_found found;

	(void)state;
	paged = bare_memory(GMEM_BACKING_MEMFD, page());
	search(&at, &found);
	assert_int_equal(found, GMEMI_FOUND_NONE);
	end_paged(&paged);
}

static void nothing_is_empty(void **state)
{
	struct gmemi_search at = { 0 };
	enum gmemi_found found;

	(void)state;
	set_up();
	assert_true(search(&at, &found) >= PAGES / STEP);
	assert_int_equal(found, GMEMI_FOUND_NONE);
	assert_true(search(&at, &found) >= PAGES / STEP); /* and from the beginning, the next time */
	assert_int_equal(found, GMEMI_FOUND_NONE);
	end_paged(&paged);
}

/* At the borders of words, steps and regions; the search stands still as long as the page is empty. */
static void the_last_that_is_empty_is_found(void **state)
{
	static const uint64_t places[] = { 0,        1,         31,    32,        STEP - 1, STEP, 2 * STEP - 1,
					   2 * STEP, FIRST - 1, FIRST, FIRST + 1, PAGES - 1 };
	struct gmemi_search at = { 0 };
	enum gmemi_found found;

	(void)state;
	set_up();
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		mark(places[i], GMEMI_PAGE_EMPTY);
		search(&at, &found);
		assert_int_equal(found, GMEMI_FOUND_SOME);
		assert_int_equal(search(&at, &found), 0);
		assert_int_equal(found, GMEMI_FOUND_SOME);
		assert_int_equal(at.page, places[i]);
		mark(places[i], i % 2 ? GMEMI_PAGE_FILLED : GMEMI_PAGE_DISCARDED);
	}
	search(&at, &found);
	assert_int_equal(found, GMEMI_FOUND_NONE);
	end_paged(&paged);
}

static void what_became_empty_behind_it_is_found(void **state)
{
	struct gmemi_search at = { 0 };
	enum gmemi_found found;

	(void)state;
	set_up();
	for (int i = 0; i < 2; i++) { /* the first time, and after it has seen that there is nothing */
		mark(PAGES - 1, GMEMI_PAGE_EMPTY);
		search(&at, &found);
		assert_int_equal(at.page, PAGES - 1);
		mark(7, GMEMI_PAGE_EMPTY);
		mark(PAGES - 1, GMEMI_PAGE_FILLED);
		search(&at, &found);
		assert_int_equal(found, GMEMI_FOUND_SOME);
		assert_int_equal(at.page, 7);
		mark(7, GMEMI_PAGE_FILLED);
		search(&at, &found);
		assert_int_equal(found, GMEMI_FOUND_NONE);
	}
	end_paged(&paged);
}

/* Pages of each have numbers of their own: a large one comes behind a small one, in whichever order they are mapped. */
static void several_memories(void **state)
{
	static const uint64_t sizes[] = { 8, 256, 8 }, places[] = { 3, 0, 7, 8, 255 };
	struct gmem_create_opts opts = { .size = sizeof(opts),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = GMEM_BACKING_MEMFD };
	struct gmemi_search at = { 0 };
	enum gmemi_found found;
	struct gmem *memories[3];

	(void)state;
	paged = bare_memory(GMEM_BACKING_MEMFD, page());
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gmem_create(paged.vm, sizes[i] * page(), &memories[i], &opts), 0);
		assert_int_equal(gmem_uffd_register(paged.uffd, memories[i], 0, sizes[i] * page(), NULL), 0);
		gmemi_pagemap_set(memories[i]->map, 0, sizes[i], GMEMI_PAGE_FILLED);
	}
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		gmemi_pagemap_set(memories[1]->map, places[i], 1, GMEMI_PAGE_EMPTY);
		search(&at, &found);
		assert_int_equal(found, GMEMI_FOUND_SOME);
		assert_int_equal(at.page, places[i]);
		gmemi_pagemap_set(memories[1]->map, places[i], 1, GMEMI_PAGE_FILLED);
		search(&at, &found);
		assert_int_equal(found, GMEMI_FOUND_NONE);
	}
	for (int i = 0; i < 3; i++)
		gmem_destroy(memories[i]);
	end_paged(&paged);
}

static void its_region_goes(void **state)
{
	struct gmemi_search at = { 0 };
	enum gmemi_found found;

	(void)state;
	set_up();
	mark(FIRST + 9, GMEMI_PAGE_EMPTY);
	search(&at, &found);
	assert_int_equal(at.page, FIRST + 9);
	mark(FIRST + 9, GMEMI_PAGE_FILLED);
	assert_int_equal(gmem_uffd_unregister(paged.uffd, paged.mem, FIRST * page(), SECOND_REGION * page()), 0);
	mark(FIRST - 1, GMEMI_PAGE_EMPTY);
	search(&at, &found);
	assert_int_equal(found, GMEMI_FOUND_SOME);
	assert_int_equal(at.page, FIRST - 1);
	end_paged(&paged);
}

/* --- a pager ------------------------------------------------------------------------------------------------------------ */

static int gives_ones(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)f;
	(void)offset;
	memset(buffer, 1, length);
	return GMEM_ANSWER_DATA;
}

static void told_once_when_the_last_has_come(enum way way)
{
	static const uint64_t left[] = { 0, STEP + 77, FIRST, PAGES - 1 };
	const size_t count = sizeof(left) / sizeof(left[0]);
	struct gmem_pager_create_opts opts = with_events(&events, 0);
	unsigned char *ones = malloc(page());

	assert_non_null(ones);
	memset(ones, 1, page());
	memset(&events, 0, sizeof(events));
	set_up();
	make_feeder(&feeder, ones, PAGES * page());
	feeder.answer = gives_ones;
	opts.around_mode = GMEM_AROUND_NONE;
	paging = make_pager(way, &opts);
	for (size_t i = 0; i < count; i++)
		mark(left[i], GMEMI_PAGE_EMPTY);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	for (size_t i = 0; i < count; i++) {
		struct toucher toucher;

		assert_int_equal(events.complete, 0);
		touch_page(&toucher, left[i], ones);
		assert_int_equal(touched(&toucher), 0);
	}
	WAIT_FOR(atomic_load(&events.complete));
	end_paging(&paging);
	assert_int_equal(events.complete, 1);
	assert_int_equal(asked(&feeder), count);
	end_feeder(&feeder);
	end_paged(&paged);
	free(ones);
}
IN_EACH_WAY(told_once_when_the_last_has_come)

/* Looks as a thread of the pager would, until all is said to be there; somebody comes to wait in the middle of the last pass. */
static unsigned int looks_until_complete(bool somebody_comes)
{
	struct gmem_pager_create_opts opts = with_events(&events, 0);
	struct gmemi_endpoint *endpoint;
	unsigned int looks = 0;
	uint32_t index = 0;

	memset(&events, 0, sizeof(events));
	paging = make_pager(LENT, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	endpoint = gmemi_endpoint_next(paging.pager, &index);
	assert_non_null(endpoint);
	for (; !events.complete && looks < 100; looks++) {
		if (somebody_comes && endpoint->search.whole && endpoint->search.page == STEP) {
			somebody_comes = false;
			endpoint->comers++;
		}
		endpoint->look_due = 0;
		gmemi_endpoint_look(endpoint, 1);
	}
	assert_int_equal(events.complete, 1);
	gmemi_endpoint_leave(endpoint);
	end_paging(&paging);
	return looks;
}

static void not_told_when_somebody_came_meanwhile(void **state)
{
	unsigned char nothing = 0;

	(void)state;
	set_up();
	make_feeder(&feeder, &nothing, PAGES * page());
	assert_true(looks_until_complete(true) >= looks_until_complete(false) + PAGES / STEP);
	end_feeder(&feeder);
	end_paged(&paged);
}

static const struct gt_test tests[] = {
	GT(nothing_is_watched, NEEDS_PAGING),
	GT(nothing_is_empty, NEEDS_PAGING),
	GT(the_last_that_is_empty_is_found, NEEDS_PAGING),
	GT(what_became_empty_behind_it_is_found, NEEDS_PAGING),
	GT(several_memories, NEEDS_PAGING),
	GT(its_region_goes, NEEDS_PAGING),
	GT(not_told_when_somebody_came_meanwhile, NEEDS_PAGING),
	EACH_WAY(told_once_when_the_last_has_come, NEEDS_PAGING),
};

GT_MAIN("pager_complete", tests)
