/* SPDX-License-Identifier: MIT */
/* Discarding and filling the same pages at the same time. With a page map what it says is what there is, at any time for
 * what it calls filled, and at the end for everything. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../live/content.h"
#include "../live/huge.h"
#include "../live/pages.h"
#include "../live/promise.h"
#include "fill.h"
#include "gt.h"

#define LENGTH (STRESS_LENGTH / 2)
#define FILLERS 4u
#define DISCARDERS 2u

static const char *const names[] = { "empty", "filled", "discarded", "broken" };
enum { EMPTY, FILLED, DISCARDED };

/* --- the page map, read by hand --- */

/* Two bits a page, 32 pages a word. */
struct map {
	const _Atomic uint64_t *words;
	size_t size;
};

static struct map map_open(struct arena *a)
{
	size_t words = a->length / a->page / 32 + 1;
	struct map map = { .size = words * sizeof(uint64_t) };

	map.words = (const void *)promise_map(gmem_get_fd(a->mem, GMEM_FD_PAGE_MAP), map.size);
	return map;
}

static void map_close(struct map *map)
{
	munmap((void *)(uintptr_t)map->words, map->size);
}

static unsigned int state_of(const struct map *map, uint64_t page)
{
	return (unsigned int)(atomic_load(&map->words[page / 32]) >> page % 32 * 2 & 3);
}

/* --- who does it --- */

static uint64_t seed_of(const struct arena *a, unsigned int number)
{
	return a->seed * (2 * number + 3) + 1;
}

struct fight {
	struct arena *a;
	atomic_uint fillers; /* who have not done yet */
};

static void fill_pages(struct crew *crew, unsigned int number)
{
	struct fight *f = crew->arg;
	uint64_t seed = seed_of(f->a, number);

	if (number % 2) { /* all of it */
		fill_some_way(crew, f->a, &(struct range){ 0, f->a->length }, &seed);
	} else {
		for (int i = 0; i < 6 && crew_goes_on(crew); i++) {
			struct range range = stress_range(f->a, &seed, f->a->page);

			fill_some_way(crew, f->a, &range, &seed);
		}
	}
	if (atomic_fetch_sub(&f->fillers, 1) == 1) /* the last one lets the others go */
		atomic_store(&crew->stop, true);
}

/* Page after page mostly: what is filled at that moment is soon hit. */
static void discard_pages(struct crew *crew, unsigned int number)
{
	struct fight *f = crew->arg;
	struct arena *a = f->a;
	uint64_t seed = seed_of(a, number);

	for (int i = 0; i < 300 && crew_goes_on(crew); i++) {
		struct gmem_discard_opts opts = { .size = sizeof(opts) };
		struct range range = stress_range(a, &seed, a->page);
		uint64_t length = content_random(&seed) % 16 ? a->page : range.length, done;

		opts.flags = a->lazy && content_random(&seed) % 4 == 0 ? GMEM_DISCARD_REFETCH : 0;
		if (gmem_discard(a->mem, range.offset, length, &done, &opts) || done != length)
			crew_failed(crew, "discarding: %s", gmem_last_error());
	}
}

static void fight(struct arena *a)
{
	struct fight f = { .a = a, .fillers = FILLERS };
	struct crew crew;

	crew_begin(&crew, &f);
	content_random(&a->seed);
	for (unsigned int i = 0; i < FILLERS; i++)
		crew_start(&crew, fill_pages, i);
	for (unsigned int i = 0; i < DISCARDERS; i++)
		crew_start(&crew, discard_pages, FILLERS + i);
	crew_wait(&crew);
	crew_end(&crew);
}

/* --- what is there at the end --- */

static void assert_page(const struct arena *a, uint64_t page, const unsigned char *at, unsigned int state)
{
	bool zeros = stress_is_zero(at, a->page);

	if (state == FILLED ? memcmp(at, a->image + page * a->page, a->page) != 0 : !zeros)
		fail_msg("page 0x%llx is %s, and holds %s", (unsigned long long)page, names[state],
			 zeros ? "zeros" : "something else");
}

/* hugetlbfs does not tell which pages it has. */
static void assert_there(const struct arena *a, uint64_t page, unsigned int state, const unsigned char *resident)
{
	if (a->backing != GMEM_BACKING_HUGETLB && (resident[page] & 1) != (state == FILLED))
		fail_msg("page 0x%llx is %s, and %s", (unsigned long long)page, names[state],
			 state == FILLED ? "a hole" : "not freed");
}

static void assert_told(struct arena *a, uint64_t page, unsigned int state)
{
	const uint64_t bits[] = { 0, GMEM_RUN_FILLED, GMEM_RUN_DISCARDED, UINT64_MAX };
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(a->mem, page * a->page, &run), 0);
	assert_int_equal(run.state & (GMEM_RUN_FILLED | GMEM_RUN_DISCARDED), bits[state]);
}

static void assert_as_mapped(struct arena *a)
{
	uint64_t pages = a->length / a->page;
	struct map map = map_open(a);
	unsigned char resident[LENGTH / 4096], *at;

	if (a->backing != GMEM_BACKING_HUGETLB)
		pages_resident(gmem_get_fd(a->mem, GMEM_FD_MEMORY), pages, resident);
	for (uint64_t page = 0; page < pages; page++)
		assert_there(a, page, state_of(&map, page), resident);
	at = arena_map(a);
	for (uint64_t page = 0; page < pages; page++) {
		assert_told(a, page, state_of(&map, page));
		assert_page(a, page, at + page * a->page, state_of(&map, page));
	}
	munmap(at, a->length);
	map_close(&map);
}

static void never_a_mix(uint32_t backing, uint64_t length)
{
	struct arena a = arena_make(backing, true, length);
	struct stress_time time = stress_begin();

	a.contested = true;
	do {
		if (time.rounds % 3 == 0)
			arena_renew(&a);
		fight(&a);
		assert_as_mapped(&a);
	} while (stress_goes_on(&time) || time.rounds < 3);
	arena_end(&a);
}

static void memfd_never_a_mix(void **state)
{
	(void)state;
	never_a_mix(GMEM_BACKING_MEMFD, LENGTH);
}

#ifndef __SANITIZE_THREAD__ /* a race on purpose, which memory that takes no write() cannot hide */
static void hugetlb_never_a_mix(void **state)
{
	(void)state;
	never_a_mix(GMEM_BACKING_HUGETLB, huge_length(4 * HUGE_PAGE));
}
#endif

/* --- in the middle of a page --- */

#define ODD 100u /* where the call begins: no page begins where a buffer does */

#define MIDDLE_PAGES 256u

struct middle {
	struct arena *a;
	bool freed[MIDDLE_PAGES];
	unsigned int count;
};

/* Frees the page that the call is in the middle of, each time it is asked for more. */
static int free_then_read(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct middle *middle = user;
	struct arena *a = middle->a;
	uint64_t page = (offset + ODD) / a->page;

	(void)flags;
	if (offset && (offset + ODD) % a->page) {
		if (gmem_discard(a->mem, page * a->page, a->page, NULL, NULL))
			return -EIO;
		middle->freed[page] = true;
		middle->count++;
	}
	memset(buffer, 0x77, length);
	return GMEM_ANSWER_DATA;
}

static void assert_freed(const struct middle *middle)
{
	unsigned char resident[MIDDLE_PAGES];
	struct map map = map_open(middle->a);

	pages_resident(gmem_get_fd(middle->a->mem, GMEM_FD_MEMORY), MIDDLE_PAGES, resident);
	for (unsigned int page = 0; page < MIDDLE_PAGES; page++) {
		assert_int_equal(state_of(&map, page), middle->freed[page] ? DISCARDED : FILLED);
		assert_int_equal(resident[page] & 1, !middle->freed[page]);
	}
	map_close(&map);
}

/* The page is as if all of it had been stored before it was freed: neither half content nor called filled. */
static void freed_in_the_middle_of_a_page(void **state)
{
	const struct gmem_source_ops ops = { .size = sizeof(ops), .read = free_then_read };
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, MIDDLE_PAGES * promise_page());
	struct middle middle = { .a = &a };
	struct gmem_source *source;
	uint64_t done;

	(void)state;
	assert_int_equal(gmem_source_create(&ops, &middle, &source), 0);
	assert_int_equal(gmem_populate_source(a.mem, ODD, a.length - ODD, source, 0, &done, NULL), 0);
	assert_int_equal(done, a.length - ODD);
	gmem_source_destroy(source);
	assert_true(middle.count > 0);
	assert_freed(&middle);
	arena_end(&a);
}

/* --- what is there meanwhile --- */

struct watched {
	struct arena *a;
	struct map map;
	unsigned char *at;
	atomic_uint fillers;
};

static void watch(struct crew *crew, unsigned int number)
{
	struct watched *w = crew->arg;
	const struct arena *a = w->a;

	(void)number;
	while (crew_goes_on(crew))
		for (uint64_t page = 0; page < a->length / a->page; page++)
			if (state_of(&w->map, page) == FILLED &&
			    memcmp(w->at + page * a->page, a->image + page * a->page, a->page) != 0)
				crew_failed(crew, "page 0x%llx is said to be filled before it is", (unsigned long long)page);
}

/* The last one lets the others go. */
static void fill_watched(struct crew *crew, unsigned int number)
{
	struct watched *w = crew->arg;
	struct range half = { number * w->a->length / 2, w->a->length / 2 };
	uint64_t seed = seed_of(w->a, number);

	fill_some_way(crew, w->a, &half, &seed);
	if (atomic_fetch_sub(&w->fillers, 1) == 1)
		atomic_store(&crew->stop, true);
}

/* A pager maps for the guest what the map calls filled, at once. */
static void filled_is_there(void **state)
{
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct watched w = { .a = &a };
	struct crew crew;

	(void)state;
	crew_begin(&crew, &w);
	do {
		arena_renew(&a);
		content_random(&a.seed);
		w.map = map_open(&a);
		w.at = arena_map(&a);
		w.fillers = 2;
		crew_start(&crew, watch, 2);
		crew_start(&crew, fill_watched, 0);
		crew_start(&crew, fill_watched, 1);
		crew_wait(&crew);
		munmap(w.at, a.length);
		map_close(&w.map);
		arena_assert_filled(&a);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&a);
}

static void discard_all(struct crew *crew, unsigned int number)
{
	struct watched *w = crew->arg;

	(void)number;
	for (uint64_t at = 0; at < w->a->length && crew_goes_on(crew); at += 16 * w->a->page)
		if (gmem_discard(w->a->mem, at, 16 * w->a->page, NULL, NULL))
			crew_failed(crew, "discarding: %s", gmem_last_error());
	atomic_store(&crew->stop, true);
}

/* Nobody fills: what is filled before and after a look has been so meanwhile. */
static void watch_freed(struct crew *crew, unsigned int number)
{
	struct watched *w = crew->arg;
	const struct arena *a = w->a;

	(void)number;
	while (crew_goes_on(crew))
		for (uint64_t page = 0; page < a->length / a->page; page++)
			if (state_of(&w->map, page) == FILLED &&
			    memcmp(w->at + page * a->page, a->image + page * a->page, a->page) != 0 &&
			    state_of(&w->map, page) == FILLED)
				crew_failed(crew, "page 0x%llx is freed before it is said to be", (unsigned long long)page);
}

/* Or a pager would map zeros for the guest as content. */
static void marked_before_it_is_freed(void **state)
{
	const struct gmem_populate_opts all = { .size = sizeof(all), .flags = GMEM_POPULATE_KEEP_ZEROS };
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct watched w = { .a = &a, .map = map_open(&a), .at = arena_map(&a) };
	struct crew crew;

	(void)state;
	crew_begin(&crew, &w);
	do {
		assert_int_equal(gmem_populate(a.mem, 0, a.length, a.image, NULL, &all), 0);
		crew_start(&crew, watch_freed, 0);
		crew_start(&crew, discard_all, 1);
		crew_wait(&crew);
	} while (stress_goes_on(&time));
	munmap(w.at, a.length);
	map_close(&w.map);
	crew_end(&crew);
	arena_end(&a);
}

/* --- neither keeps the other out --- */

struct match {
	struct arena *a;
	atomic_uint discarders;
};

static void fill_until_told(struct crew *crew, unsigned int number)
{
	const struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };
	struct match *match = crew->arg;

	(void)number;
	while (crew_goes_on(crew))
		if (gmem_populate(match->a->mem, 0, match->a->length, match->a->image, NULL, &opts))
			crew_failed(crew, "filling: %s", gmem_last_error());
}

/* The last one lets the others go. */
static void discard_some(struct crew *crew, unsigned int number)
{
	struct match *match = crew->arg;
	uint64_t seed = seed_of(match->a, number);

	for (int i = 0; i < 10; i++) {
		uint64_t offset = stress_range(match->a, &seed, match->a->page).offset;

		if (gmem_discard(match->a->mem, offset, match->a->page, NULL, NULL))
			crew_failed(crew, "discarding: %s", gmem_last_error());
	}
	if (atomic_fetch_sub(&match->discarders, 1) == 1)
		atomic_store(&crew->stop, true);
}

/* Calls that fill come one after the other in many threads, each with the lock most of the time: if they were let by, this
 * would not end. */
static void discarding_comes_through(void **state)
{
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct match match = { .a = &a };
	struct crew crew;

	(void)state;
	crew_begin(&crew, &match);
	do {
		match.discarders = DISCARDERS;
		content_random(&a.seed);
		for (unsigned int i = 0; i < 2 * FILLERS; i++)
			crew_start(&crew, fill_until_told, i);
		for (unsigned int i = 0; i < DISCARDERS; i++)
			crew_start(&crew, discard_some, i);
		crew_wait(&crew);
		assert_as_mapped(&a);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&a);
}

/* --- without a page map --- */

static void assert_image_or_zero(struct arena *a)
{
	unsigned char *at = arena_map(a);

	for (uint64_t i = 0; i < a->length; i++)
		if (at[i] && at[i] != a->image[i])
			fail_msg("byte 0x%llx is neither of the image nor 0", (unsigned long long)i);
	munmap(at, a->length);
}

static void assert_empty(struct arena *a)
{
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_discard(a->mem, 0, a->length, NULL, NULL), 0);
	assert_int_equal(gmem_query_run(a->mem, 0, &run), 0);
	assert_int_equal(run.state, 0);
	assert_int_equal(run.length, a->length);
}

/* Whatever happened, the next call makes it right. */
static void without_a_map(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH);
	struct stress_time time = stress_begin();

	a.contested = true;
	do {
		arena_renew(&a);
		fight(&a);
		assert_image_or_zero(&a);
		assert_int_equal(gmem_populate_fd(a.mem, 0, a.length, a.file, 0, NULL, NULL), 0);
		arena_assert_filled(&a);
		assert_empty(&a);
	} while (stress_goes_on(&time));
	arena_end(&a);
}

static void memfd_without_a_map(void **state)
{
	(void)state;
	without_a_map(GMEM_BACKING_MEMFD);
}

#ifndef __SANITIZE_THREAD__
static void guest_memfd_without_a_map(void **state)
{
	(void)state;
	without_a_map(GMEM_BACKING_GUEST_MEMFD);
}
#endif

static const struct gt_test tests[] = {
	GT(memfd_never_a_mix, GT_NEEDS_UFFD_MINOR),
	GT(freed_in_the_middle_of_a_page, GT_NEEDS_UFFD_MINOR),
	GT(filled_is_there, GT_NEEDS_UFFD_MINOR),
	GT(marked_before_it_is_freed, GT_NEEDS_UFFD_MINOR),
	GT(discarding_comes_through, GT_NEEDS_UFFD_MINOR),
	GT(memfd_without_a_map, GT_NEEDS_NOTHING),
#ifndef __SANITIZE_THREAD__
	GT(hugetlb_never_a_mix, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(guest_memfd_without_a_map, GT_NEEDS_GUEST_MEMFD),
#endif
};

GT_MAIN("stress discard", tests)
