/* SPDX-License-Identifier: MIT */
/* What a pager does, in each of the ways in which it is given its time. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "pagers.h"
#include "random.h"

#define PAGES 512
#define LENGTH (PAGES * page())
#define TOUCHERS 4

static struct feeder feeder;
static struct events events;

static struct paging pager_with_events(enum way way)
{
	struct gmem_pager_create_opts opts = with_events(&events, 0);

	memset(&events, 0, sizeof(events));
	return make_pager(way, &opts);
}

/* --- touching --- */

static struct walk {
	const struct paged *paged;
	const unsigned char *content;
	uint64_t seed;
	bool random, writes;
	atomic_uint wrong;
} walk;

/* Each of several threads has words of its own in every page. */
static void visit(struct walk *w, uint64_t number, uint64_t thread)
{
	uint64_t step = w->paged->page / TOUCHERS, at = number * w->paged->page + thread * step;
	volatile uint64_t *word = (volatile uint64_t *)(w->paged->at + at);

	for (uint64_t i = 0; i < step / 8; i++) {
		uint64_t expected;

		memcpy(&expected, w->content + at + i * 8, 8);
		if (word[i] != expected)
			atomic_fetch_add(&w->wrong, 1);
		if (w->writes)
			word[i] = ~expected;
		if (w->writes && word[i] != ~expected)
			atomic_fetch_add(&w->wrong, 1);
		if (w->writes)
			word[i] = expected;
	}
}

static void *walk_pages(void *arg)
{
	uint64_t thread = (uintptr_t)arg, pages = walk.paged->length / walk.paged->page;
	uint64_t stride = walk.random ? (walk.seed + 2 * thread) | 1 : 1;

	for (uint64_t i = 0; i < pages; i++) /* pages is a power of two: an odd stride visits them all */
		visit(&walk, (i * stride + (walk.random ? walk.seed : 0)) % pages, thread);
	return NULL;
}

static void walk_all(const struct paged *paged, const unsigned char *content, bool random, bool writes)
{
	pthread_t threads[TOUCHERS];

	walk.paged = paged;
	walk.content = content;
	walk.random = random;
	walk.writes = writes;
	walk.seed = next_random();
	atomic_store(&walk.wrong, 0);
	for (uintptr_t i = 0; i < TOUCHERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, walk_pages, (void *)i), 0);
	for (uintptr_t i = 0; i < TOUCHERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&walk.wrong), 0);
}

static void touch_all(enum way way, uint32_t backing, uint32_t strategy, uint64_t length, bool random)
{
	unsigned char *content = pages_of_content(length / page(), 7);
	struct paged paged = page_memory(backing, length, strategy);
	struct paging paging = make_pager(way, NULL);

	sow();
	make_feeder(&feeder, content, length);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	walk_all(&paged, content, random, false);
	walk_all(&paged, content, random, true);
	assert_adds_up(&paged);
	assert_int_equal(uffd_info(&paged).remaining, 0);
	assert_true(uffd_info(&paged).faults > 0);
	assert_int_equal(pager_info(&paging).faults, uffd_info(&paged).faults);
	assert_int_equal(pager_info(&paging).bytes, uffd_info(&paged).bytes);
	assert_int_equal(pager_info(&paging).endpoints, 1);
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static void memfd_in_sequence(enum way way)
{
	touch_all(way, GMEM_BACKING_MEMFD, GMEM_STRATEGY_FILL, LENGTH, false);
}

static void memfd_at_random(enum way way)
{
	touch_all(way, GMEM_BACKING_MEMFD, GMEM_STRATEGY_FILL, LENGTH, true);
}

static void memfd_copied(enum way way)
{
	want_small_pages();
	touch_all(way, GMEM_BACKING_MEMFD, GMEM_STRATEGY_COPY, LENGTH, true);
}

static void hugetlb(enum way way)
{
	touch_all(way, GMEM_BACKING_HUGETLB, GMEM_STRATEGY_AUTO, huge_pages_for(2) << 21, true);
}

IN_EACH_WAY(memfd_in_sequence)
IN_EACH_WAY(memfd_at_random)
IN_EACH_WAY(memfd_copied)
IN_EACH_WAY(hugetlb)

/* --- zeros --- */

static uint64_t allocated(const struct paged *paged)
{
	void *at = mmap(NULL, paged->length, PROT_READ, MAP_SHARED, gmem_get_fd(paged->mem, GMEM_FD_MEMORY), 0);
	unsigned char resident[PAGES * 2];
	uint64_t pages = 0;

	assert_true(at != MAP_FAILED && paged->length / page() <= sizeof(resident));
	assert_int_equal(mincore(at, paged->length, resident), 0);
	munmap(at, paged->length);
	for (uint64_t i = 0; i < paged->length / page(); i++)
		pages += resident[i] & 1;
	return pages;
}

static void zeros_stay_unallocated(enum way way)
{
	unsigned char *content = buffer(LENGTH, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);

	want_small_pages();
	for (uint64_t i = 0; i < PAGES; i += 16)
		content[i * page() + 5] = 1;
	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, UINT64_MAX, 0);
	begin_paging(&paging);
	WAIT_FOR(atomic_load(&events.complete));
	assert_int_equal(allocated(&paged), PAGES / 16);
	assert_int_equal(paged.at[3 * page()], 0);
	assert_int_equal(allocated(&paged), PAGES / 16 + 1);
	for (uint64_t i = 0; i < LENGTH; i++)
		assert_int_equal(paged.at[i], content[i]);
	assert_adds_up(&paged);
	assert_int_equal(uffd_info(&paged).filled, PAGES / 16);
	end_paging(&paging);
	assert_int_equal(events.complete, 1);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

IN_EACH_WAY(zeros_stay_unallocated)

/* --- the background --- */

static void the_background_fills_the_rest(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, UINT64_MAX, 0);
	begin_paging(&paging);
	WAIT_FOR(atomic_load(&events.complete));
	assert_content(paged.mem, content, LENGTH);
	assert_int_equal(uffd_info(&paged).faults, 0);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 0, LENGTH), 0); /* nothing to do */
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);					  /* minor faults */
	assert_adds_up(&paged);
	end_paging(&paging);
	assert_int_equal(events.complete, 1);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

/* A source that says what it will deliver, more than the background asks for at a time. */
static void the_background_goes_on_when_the_source_delivers(enum way way)
{
	unsigned char *content = pages_of_content(2 * PAGES, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, 2 * LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);
	struct question q;
	uint64_t given = 0;

	make_feeder(&feeder, content, 2 * LENGTH);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, UINT64_MAX, 0);
	begin_paging(&paging);
	for (; given < 2 * LENGTH && next_question(&feeder, &q); given += q.length)
		assert_int_equal(deliver(&feeder, q.offset, q.length), 0);
	assert_int_equal(given, 2 * LENGTH);
	WAIT_FOR(atomic_load(&events.complete));
	assert_content(paged.mem, content, 2 * LENGTH);
	end_paging(&paging);
	assert_int_equal(events.failed, 0);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

#define RATE (UINT64_C(4) << 20)
#define STEP (UINT64_C(64) << 10)

static void the_background_keeps_to_its_cap(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);
	uint64_t bytes = 0, begun = now_ns();

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, RATE, 0);
	begin_paging(&paging);
	WAIT_FOR(atomic_load(&events.complete));
	for (unsigned int i = 0; i < asked(&feeder); i++) {
		struct question q = question(&feeder, i);

		bytes += q.length;
		assert_int_equal(q.flags, 0);
		assert_true(bytes <= STEP + (uint64_t)((double)(q.at - begun) * RATE / SECOND) + 1);
	}
	assert_int_equal(bytes, LENGTH);
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static bool is_asked_early(uint64_t number)
{
	for (unsigned int i = 0; i < 4; i++)
		if (question(&feeder, i).offset == number * page())
			return true;
	return false;
}

static void what_is_prefetched_comes_first(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, UINT64_MAX, 0);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 300 * page(), 16 * page()), 0);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 100 * page(), page()), 0);
	begin_paging(&paging);
	WAIT_FOR(atomic_load(&events.complete));
	if (way == THREE_OWN) { /* who may overtake each other */
		assert_true(is_asked_early(300) && is_asked_early(100));
	} else {
		assert_int_equal(question(&feeder, 0).offset, 300 * page());
		assert_int_equal(question(&feeder, 0).length, 16 * page());
		assert_int_equal(question(&feeder, 1).offset, 100 * page());
		assert_int_equal(question(&feeder, 1).length, page());
	}
	assert_int_equal(question(&feeder, 0).flags, 0);
	assert_content(paged.mem, content, LENGTH);
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static void prefetch_alone(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 0);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);
	int r = 0;

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, 0, 0);
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, i * 2 * page(), page()), 0);
	r = gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 0, page());
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, LENGTH, page()), -EINVAL);
	begin_paging(&paging);
	WAIT_FOR(uffd_info(&paged).filled == 64);
	assert_int_equal(asked(&feeder), 64);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 0, LENGTH), 0);
	WAIT_FOR(atomic_load(&events.complete));
	assert_content(paged.mem, content, LENGTH);
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

IN_EACH_WAY(the_background_fills_the_rest)
IN_EACH_WAY(the_background_goes_on_when_the_source_delivers)
IN_EACH_WAY(the_background_keeps_to_its_cap)
IN_EACH_WAY(what_is_prefetched_comes_first)
IN_EACH_WAY(prefetch_alone)

/* --- finish --- */

static void finish_fills_and_lets_go(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 3);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, 1, 0); /* a byte a second: the cap does not hold for this */
	begin_paging(&paging);
	assert_int_equal(paged.at[9 * page()], content[9 * page()]);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), 0);
	assert_int_equal(uffd_info(&paged).ranges, 0);
	assert_int_equal(pager_info(&paging).endpoints, 0);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), -ENOENT);
	end_paging(&paging);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_adds_up(&paged);
	assert_int_equal(events.complete, 1);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static void finish_times_out_and_goes_on(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 3);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);
	struct toucher toucher;
	uint64_t busy;

	make_feeder(&feeder, content, LENGTH);
	feeder.answer = answers_later;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_in_pager(&toucher, paged.at + 7 * page(), page(), content + 7 * page());
	wait_pending(&paged, 1);
	busy = pager_info(&paging).busy_ns;
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 300000000), -ETIMEDOUT);
	assert_true(pager_info(&paging).busy_ns - busy < 200000000); /* it waits, and does not look again and again */
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 20 * SECOND), 0);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_adds_up(&paged);
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

static struct refetch {
	struct paged *paged;
	atomic_bool stop;
	atomic_uint rounds;
} refetch;

static void *discard_again(void *arg)
{
	struct gmem_discard_opts opts = { .size = sizeof(opts), .flags = GMEM_DISCARD_REFETCH };

	(void)arg;
	for (uint64_t i = 0; !atomic_load(&refetch.stop) && i < 400; i++) {
		if (gmem_discard(refetch.paged->mem, i * 37 % PAGES * page(), page(), NULL, &opts) == 0)
			atomic_fetch_add(&refetch.rounds, 1);
	}
	return NULL;
}

static void finish_while_pages_are_fetched_again(enum way way)
{
	unsigned char *content = pages_of_content(PAGES, 3);
	struct paged paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct paging paging = pager_with_events(way);
	pthread_t thread;
	int r;

	make_feeder(&feeder, content, LENGTH);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	refetch = (struct refetch){ .paged = &paged };
	assert_int_equal(pthread_create(&thread, NULL, discard_again, NULL), 0);
	WAIT_FOR(atomic_load(&refetch.rounds) > 20);
	do
		r = gmem_pager_finish(paging.pager, paged.uffd, 1000000);
	while (r == -ETIMEDOUT && atomic_load(&refetch.rounds) < 400);
	assert_true(r == 0 || r == -ETIMEDOUT);
	atomic_store(&refetch.stop, true);
	pthread_join(thread, NULL);
	if (r == -ETIMEDOUT)
		assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), 0);
	end_paging(&paging);
	if (r == -ETIMEDOUT) /* else somebody has given up pages that were nobody's any more */
		assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

IN_EACH_WAY(finish_fills_and_lets_go)
IN_EACH_WAY(finish_times_out_and_goes_on)
IN_EACH_WAY(finish_while_pages_are_fetched_again)

static const struct gt_test tests[] = {
	EACH_WAY(memfd_in_sequence, NEEDS_PAGING),
	EACH_WAY(memfd_at_random, NEEDS_PAGING),
	EACH_WAY(memfd_copied, NEEDS_PAGING),
	EACH_WAY(hugetlb, NEEDS_PAGING | GT_NEEDS_HUGETLB_2M),
	EACH_WAY(zeros_stay_unallocated, NEEDS_PAGING),
	EACH_WAY(the_background_fills_the_rest, NEEDS_PAGING),
	EACH_WAY(the_background_goes_on_when_the_source_delivers, NEEDS_PAGING),
	EACH_WAY(the_background_keeps_to_its_cap, NEEDS_PAGING),
	EACH_WAY(what_is_prefetched_comes_first, NEEDS_PAGING),
	EACH_WAY(prefetch_alone, NEEDS_PAGING),
	EACH_WAY(finish_fills_and_lets_go, NEEDS_PAGING),
	EACH_WAY(finish_times_out_and_goes_on, NEEDS_PAGING),
	EACH_WAY(finish_while_pages_are_fetched_again, NEEDS_PAGING),
};

GT_MAIN("pager", tests)
