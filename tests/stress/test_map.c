/* SPDX-License-Identifier: MIT */
/* The page map while others fill and discard: a pager relies on it at any moment. */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "../live/content.h"
#include "fill.h"
#include "gt.h"
#include "map.h"

#define LENGTH (STRESS_LENGTH / 2)
#define FILLERS 8u
#define DISCARDERS 2u

#define AIM (MIB / 4) /* what a call reads and stores at a time; and what is freed at a time here */

/* A memory, and where in it something is being done. */
struct target {
	struct arena *a;
	struct map map;
	int fd;
	_Atomic uint64_t offset;
	atomic_ulong looks; /* at what is there */
};

static void target_begin(struct target *target, struct arena *a)
{
	target->a = a;
	target->map = map_open(a);
	target->fd = gmem_get_fd(a->mem, GMEM_FD_MEMORY);
	target->offset = 0;
	target->looks = 0;
}

static int read_and_tell(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct target *target = user;

	(void)flags;
	memcpy(buffer, target->a->image + offset, length);
	atomic_store(&target->offset, offset);
	return GMEM_ANSWER_DATA;
}

/* What was read last is what is being stored. */
static void fill_target(struct crew *crew, unsigned int number)
{
	const struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_and_tell };
	const struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };
	struct target *target = crew->arg;
	struct gmem_source *source;

	(void)number;
	if (gmem_source_create(&ops, target, &source)) {
		crew_failed(crew, "%s", gmem_last_error());
		return;
	}
	if (gmem_populate_source(target->a->mem, 0, target->a->length, source, 0, NULL, &opts))
		crew_failed(crew, "filling: %s", gmem_last_error());
	gmem_source_destroy(source);
	atomic_store(&crew->stop, true);
}

/* Read, not mapped: a fault would wait for the end of what frees the page. */
static bool holds_image(const struct target *target, uint64_t page)
{
	const struct arena *a = target->a;
	unsigned char content[4096];

	return pread(target->fd, content, a->page, (off_t)(page * a->page)) == (ssize_t)a->page &&
	       memcmp(content, a->image + page * a->page, a->page) == 0;
}

/* The first page at the target that is called filled and does not hold the image, or -1. */
static int64_t find_false(const struct target *target)
{
	const struct arena *a = target->a;
	uint64_t first = atomic_load(&target->offset) / a->page;

	for (uint64_t page = first; page < first + AIM / a->page; page++)
		if (map_state(&target->map, page) == MAP_FILLED && !holds_image(target, page))
			return (int64_t)page;
	return -1;
}

/* --- filled means that it is there --- */

static void watch_filled(struct crew *crew, unsigned int number)
{
	(void)number;
	while (crew_goes_on(crew)) {
		int64_t page = find_false(crew->arg);

		if (page >= 0)
			crew_failed(crew, "page 0x%llx is said to be filled before it is", (unsigned long long)page);
	}
}

/* A pager maps for the guest what the map calls filled, at once. */
static void filled_is_there(void **state)
{
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct target target;
	struct crew crew;

	(void)state;
	crew_begin(&crew, &target);
	do {
		arena_renew(&a);
		target_begin(&target, &a);
		crew_start(&crew, watch_filled, 0);
		crew_start(&crew, watch_filled, 1);
		crew_start(&crew, fill_target, 2);
		crew_wait(&crew);
		arena_assert_filled(&a);
		map_close(&target.map);
	} while (stress_goes_on(&time) || time.rounds < 10);
	crew_end(&crew);
	arena_end(&a);
}

/* --- and it is marked before it is freed --- */

/* Lets those who watch look there before it happens. */
static void aim(struct crew *crew, struct target *target, uint64_t offset)
{
	unsigned long looks = atomic_load(&target->looks);

	atomic_store(&target->offset, offset);
	while (atomic_load(&target->looks) < looks + 4 && crew_goes_on(crew))
		sched_yield();
}

static void discard_target(struct crew *crew, unsigned int number)
{
	struct target *target = crew->arg;

	(void)number;
	for (uint64_t at = 0; at < target->a->length && crew_goes_on(crew); at += AIM) {
		aim(crew, target, at);
		if (gmem_discard(target->a->mem, at, AIM, NULL, NULL))
			crew_failed(crew, "discarding: %s", gmem_last_error());
	}
	atomic_store(&crew->stop, true);
}

/* Nobody fills: what is called filled before and after a look has been so meanwhile. */
static void watch_freed(struct crew *crew, unsigned int number)
{
	struct target *target = crew->arg;

	(void)number;
	while (crew_goes_on(crew)) {
		int64_t page = find_false(target);

		atomic_fetch_add(&target->looks, 1);
		if (page >= 0 && map_state(&target->map, (uint64_t)page) == MAP_FILLED)
			crew_failed(crew, "page 0x%llx is freed before it is said to be", (unsigned long long)page);
	}
}

/* Or a pager would map zeros for the guest as content. */
static void marked_before_it_is_freed(void **state)
{
	const struct gmem_populate_opts all = { .size = sizeof(all), .flags = GMEM_POPULATE_KEEP_ZEROS };
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct target target;
	struct crew crew;

	(void)state;
	target_begin(&target, &a);
	crew_begin(&crew, &target);
	do {
		assert_int_equal(gmem_populate(a.mem, 0, a.length, a.image, NULL, &all), 0);
		crew_start(&crew, watch_freed, 0);
		crew_start(&crew, watch_freed, 1);
		crew_start(&crew, discard_target, 2);
		crew_wait(&crew);
	} while (stress_goes_on(&time) || time.rounds < 10);
	map_close(&target.map);
	crew_end(&crew);
	arena_end(&a);
}

/* --- the very pages that are being stored --- */

static void hit_target(struct crew *crew, unsigned int number)
{
	struct target *target = crew->arg;
	struct arena *a = target->a;
	uint64_t seed = stress_seed(a, number);

	while (crew_goes_on(crew)) {
		uint64_t offset = atomic_load(&target->offset) + content_random(&seed) % (AIM / a->page) * a->page;

		if (gmem_discard(a->mem, offset, a->page, NULL, NULL))
			crew_failed(crew, "discarding: %s", gmem_last_error());
	}
}

/* Stored and not yet marked, or marked and not yet stored, is what nobody may find. */
static void hit_where_it_fills(void **state)
{
	struct arena a = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
	struct stress_time time = stress_begin();
	struct target target;
	struct crew crew;

	(void)state;
	target_begin(&target, &a);
	crew_begin(&crew, &target);
	do {
		content_random(&a.seed);
		crew_start(&crew, fill_target, 0);
		for (unsigned int i = 1; i <= DISCARDERS; i++)
			crew_start(&crew, hit_target, i);
		crew_wait(&crew);
		map_assert_true(&a);
	} while (stress_goes_on(&time) || time.rounds < 20);
	map_close(&target.map);
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
	uint64_t seed = stress_seed(match->a, number);

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
		for (unsigned int i = 0; i < FILLERS; i++)
			crew_start(&crew, fill_until_told, i);
		for (unsigned int i = 0; i < DISCARDERS; i++)
			crew_start(&crew, discard_some, i);
		crew_wait(&crew);
		map_assert_true(&a);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&a);
}

static const struct gt_test tests[] = {
	GT(filled_is_there, GT_NEEDS_UFFD_MINOR),
	GT(marked_before_it_is_freed, GT_NEEDS_UFFD_MINOR),
	GT(hit_where_it_fills, GT_NEEDS_UFFD_MINOR),
	GT(discarding_comes_through, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("stress map", tests)
