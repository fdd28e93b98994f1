/* SPDX-License-Identifier: MIT */
/* Discarding and filling the same pages at the same time: with a page map what it says is what there is, at the end. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../live/content.h"
#include "../live/huge.h"
#include "fill.h"
#include "gt.h"
#include "map.h"

#define LENGTH (STRESS_LENGTH / 2)
#define FILLERS 4u
#define DISCARDERS 2u

/* --- who does it --- */

struct fight {
	struct arena *a;
	atomic_uint fillers; /* who have not done yet */
};

static void fill_pages(struct crew *crew, unsigned int number)
{
	struct fight *f = crew->arg;
	uint64_t seed = stress_seed(f->a, number);

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
	uint64_t seed = stress_seed(a, number);

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

static void never_a_mix(uint32_t backing, uint64_t length)
{
	struct arena a = arena_make(backing, true, length);
	struct stress_time time = stress_begin();

	a.contested = true;
	do {
		if (time.rounds % 3 == 0)
			arena_renew(&a);
		fight(&a);
		map_assert_true(&a);
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

struct middle {
	struct arena *a;
	unsigned int parts;
};

/* A huge page is asked for in parts: frees it when it is half full. */
static int free_then_read(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct middle *middle = user;
	struct arena *a = middle->a;

	(void)flags;
	if (offset < a->page && middle->parts++ == 2 && gmem_discard(a->mem, 0, a->page, NULL, NULL))
		return -EIO;
	memcpy(buffer, a->image + offset, length);
	return GMEM_ANSWER_DATA;
}

/* The page is as if all of it had been stored before it was freed: neither half content nor called filled. */
static void hugetlb_freed_in_the_middle_of_a_page(void **state)
{
	const struct gmem_source_ops ops = { .size = sizeof(ops), .read = free_then_read };
	struct arena a = arena_make(GMEM_BACKING_HUGETLB, true, huge_length(2 * HUGE_PAGE));
	struct middle middle = { .a = &a };
	struct gmem_source *source;
	uint64_t done;
	struct map map;

	(void)state;
	assert_int_equal(gmem_source_create(&ops, &middle, &source), 0);
	assert_int_equal(gmem_populate_source(a.mem, 0, a.length, source, 0, &done, NULL), 0);
	assert_int_equal(done, a.length);
	gmem_source_destroy(source);
	assert_true(middle.parts > 2);
	map = map_open(&a);
	for (uint64_t page = 0; page < a.length / a.page; page++)
		assert_int_equal(map_state(&map, page), page == 0 ? MAP_DISCARDED : MAP_FILLED);
	map_close(&map);
	map_assert_true(&a);
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
	assert_int_equal(run.state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
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
	GT(hugetlb_freed_in_the_middle_of_a_page, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(memfd_without_a_map, GT_NEEDS_NOTHING),
#ifndef __SANITIZE_THREAD__
	GT(hugetlb_never_a_mix, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(guest_memfd_without_a_map, GT_NEEDS_GUEST_MEMFD),
#endif
};

GT_MAIN("stress discard", tests)
