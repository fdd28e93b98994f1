/* SPDX-License-Identifier: MIT */
/* The page map: two bits a page, won by one, in a file that keeps its size. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "inject.h"
#include "pagemap.h"

#define PAGES 1000 /* not a multiple of the 32 pages of a word */
#define THREADS 4

static struct gmemi_pagemap *make(uint64_t pages)
{
	struct gmemi_pagemap *map = NULL;

	gmemi_enter("test_call");
	assert_int_equal(gmemi_pagemap_create(pages, &map), 0);
	assert_non_null(map);
	return map;
}

static uint64_t word_in_file(const struct gmemi_pagemap *map, uint64_t word)
{
	uint64_t value;

	assert_int_equal(pread(gmemi_pagemap_fd(map), &value, sizeof(value), (off_t)(word * sizeof(value))), sizeof(value));
	return value;
}

static void a_new_map_is_empty(void **state)
{
	struct gmemi_pagemap *map = make(PAGES);

	(void)state;
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(gmemi_pagemap_get(map, page), GMEMI_PAGE_EMPTY);
	gmemi_pagemap_destroy(map);
}

static void destroying_nothing_is_fine(void **state)
{
	(void)state;
	inject_arm(0, 0);
	gmemi_pagemap_destroy(NULL);
	assert_int_equal(inject_disarm(), 0); /* no call was made */
}

static void a_change_from_the_wrong_state_changes_nothing(void **state)
{
	struct gmemi_pagemap *map = make(PAGES);

	(void)state;
	assert_int_equal(gmemi_pagemap_change(map, 40, GMEMI_PAGE_EMPTY, GMEMI_PAGE_FILLED), GMEMI_PAGE_EMPTY);
	assert_int_equal(gmemi_pagemap_change(map, 40, GMEMI_PAGE_EMPTY, GMEMI_PAGE_DISCARDED), GMEMI_PAGE_FILLED);
	assert_int_equal(gmemi_pagemap_get(map, 40), GMEMI_PAGE_FILLED);
	assert_int_equal(gmemi_pagemap_change(map, 40, GMEMI_PAGE_FILLED, GMEMI_PAGE_DISCARDED), GMEMI_PAGE_FILLED);
	assert_int_equal(gmemi_pagemap_change(map, 40, GMEMI_PAGE_DISCARDED, GMEMI_PAGE_EMPTY), GMEMI_PAGE_DISCARDED);
	assert_int_equal(gmemi_pagemap_get(map, 40), GMEMI_PAGE_EMPTY);
	gmemi_pagemap_destroy(map);
}

/* 0 and 31 are the ends of a word, 32 and 63 those of the next. */
static void a_page_has_its_own_two_bits_in_the_file(void **state)
{
	struct gmemi_pagemap *map = make(64);

	(void)state;
	gmemi_pagemap_set(map, 0, 1, GMEMI_PAGE_FILLED);
	gmemi_pagemap_set(map, 31, 1, GMEMI_PAGE_DISCARDED);
	gmemi_pagemap_set(map, 32, 1, GMEMI_PAGE_DISCARDED);
	gmemi_pagemap_set(map, 63, 1, GMEMI_PAGE_FILLED);
	assert_int_equal(word_in_file(map, 0), UINT64_C(1) | UINT64_C(2) << 62);
	assert_int_equal(word_in_file(map, 1), UINT64_C(2) | UINT64_C(1) << 62);
	gmemi_pagemap_destroy(map);
}

static void set_range_and_check(struct gmemi_pagemap *map, uint64_t first, uint64_t count)
{
	gmemi_pagemap_set(map, 0, PAGES, GMEMI_PAGE_FILLED);
	gmemi_pagemap_set(map, first, count, GMEMI_PAGE_DISCARDED);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(gmemi_pagemap_get(map, page),
				 page >= first && page - first < count ? GMEMI_PAGE_DISCARDED : GMEMI_PAGE_FILLED);
}

static void setting_a_range_stops_at_its_ends(void **state)
{
	static const struct {
		uint64_t first, count;
	} ranges[] = { { 0, 0 },   { 0, 1 },   { 31, 1 },  { 31, 2 },    { 32, 32 },       { 30, 70 },        { 0, 32 },
		       { 33, 30 }, { 5, 200 }, { 64, 64 }, { 0, PAGES }, { PAGES - 1, 1 }, { PAGES - 33, 33 } };
	struct gmemi_pagemap *map = make(PAGES);

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		set_range_and_check(map, ranges[i].first, ranges[i].count);
	gmemi_pagemap_destroy(map);
}

/* Around words of 32 pages, beside the naive way. */
static void empty_pages_are_found_and_counted(void **state)
{
	unsigned int seed = 20261128;
	struct gmemi_pagemap *map;

	(void)state;
	assert_int_equal(gmemi_pagemap_create_here(PAGES, &map), 0);
	for (int round = 0; round < 300; round++) {
		uint64_t first = (uint64_t)rand_r(&seed) % PAGES, end = first + (uint64_t)rand_r(&seed) % (PAGES - first + 1);
		uint64_t count = 0, found = end;

		for (uint64_t page = 0; page < PAGES; page++) /* less and less of it is empty */
			if (rand_r(&seed) % 300 < round)
				gmemi_pagemap_set(map, page, 1, rand_r(&seed) % 2 ? GMEMI_PAGE_FILLED : GMEMI_PAGE_DISCARDED);
			else
				gmemi_pagemap_set(map, page, 1, GMEMI_PAGE_EMPTY);
		for (uint64_t page = end; page-- > first;)
			if (gmemi_pagemap_get(map, page) == GMEMI_PAGE_EMPTY) {
				count++;
				found = page;
			}
		assert_int_equal(gmemi_pagemap_count_empty(map, first, end - first), count);
		assert_int_equal(gmemi_pagemap_find_empty(map, first, end), found);
	}
	gmemi_pagemap_destroy(map);
}

static void the_file_has_room_for_its_pages_in_whole_words(void **state)
{
	static const uint64_t pages[] = { 1, 31, 32, 33, 64, PAGES, 262144 };

	(void)state;
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		struct gmemi_pagemap *map = make(pages[i]);
		struct stat about;

		assert_int_equal(fstat(gmemi_pagemap_fd(map), &about), 0);
		assert_int_equal(about.st_size, (pages[i] + 31) / 32 * 8);
		gmemi_pagemap_destroy(map);
	}
}

static void the_file_is_sealed_for_good(void **state)
{
	struct gmemi_pagemap *map = make(PAGES);
	int fd = gmemi_pagemap_fd(map);
	struct stat about;

	(void)state;
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(fstat(fd, &about), 0);
	errno = 0;
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	errno = 0;
	assert_int_equal(ftruncate(fd, about.st_size * 2), -1);
	assert_int_equal(errno, EPERM);
	errno = 0;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
	gmemi_pagemap_destroy(map);
}

/* As a pager in another process would see it. */
static void who_maps_the_file_sees_the_states(void **state)
{
	struct gmemi_pagemap *map = make(32);
	volatile uint64_t *words = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, gmemi_pagemap_fd(map), 0);

	(void)state;
	assert_ptr_not_equal((void *)(uintptr_t)words, MAP_FAILED);
	gmemi_pagemap_set(map, 3, 2, GMEMI_PAGE_FILLED);
	assert_int_equal(words[0], UINT64_C(5) << 6);
	words[0] = UINT64_C(2) << 10;
	assert_int_equal(gmemi_pagemap_get(map, 5), GMEMI_PAGE_DISCARDED);
	assert_int_equal(gmemi_pagemap_get(map, 3), GMEMI_PAGE_EMPTY);
	munmap((void *)(uintptr_t)words, 8);
	gmemi_pagemap_destroy(map);
}

struct race {
	struct gmemi_pagemap *map;
	pthread_barrier_t start;
	atomic_uint wins[PAGES];
	atomic_uint next_thread;
};

static void *win_pages(void *arg)
{
	struct race *race = arg;
	unsigned int me = atomic_fetch_add(&race->next_thread, 1);

	pthread_barrier_wait(&race->start);
	/* Half of the threads come from the other end, so that they meet in the middle of words. */
	for (unsigned int i = 0; i < PAGES; i++) {
		unsigned int page = me % 2 ? PAGES - 1 - i : i;

		if (gmemi_pagemap_change(race->map, page, GMEMI_PAGE_EMPTY, GMEMI_PAGE_FILLED) == GMEMI_PAGE_EMPTY)
			atomic_fetch_add(&race->wins[page], 1);
	}
	return NULL;
}

static void run_race(struct race *race)
{
	pthread_t threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, win_pages, race), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void every_page_is_won_exactly_once(void **state)
{
	static struct race race;

	(void)state;
	race.map = make(PAGES);
	assert_int_equal(pthread_barrier_init(&race.start, NULL, THREADS), 0);
	for (unsigned int round = 0; round < 50; round++) {
		gmemi_pagemap_set(race.map, 0, PAGES, GMEMI_PAGE_EMPTY);
		for (unsigned int page = 0; page < PAGES; page++)
			atomic_store(&race.wins[page], 0);
		run_race(&race);
		for (unsigned int page = 0; page < PAGES; page++)
			assert_int_equal(atomic_load(&race.wins[page]), 1);
	}
	pthread_barrier_destroy(&race.start);
	gmemi_pagemap_destroy(race.map);
}

static void *set_own_pages(void *arg)
{
	struct race *race = arg;
	unsigned int me = atomic_fetch_add(&race->next_thread, 1) % THREADS;

	pthread_barrier_wait(&race->start);
	for (unsigned int page = me; page < PAGES; page += THREADS)
		gmemi_pagemap_set(race->map, page, 1, page % 2 ? GMEMI_PAGE_FILLED : GMEMI_PAGE_DISCARDED);
	return NULL;
}

static void neighbours_in_a_word_do_not_disturb_each_other(void **state)
{
	static struct race race;
	pthread_t threads[THREADS];

	(void)state;
	race.map = make(PAGES);
	assert_int_equal(pthread_barrier_init(&race.start, NULL, THREADS), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, set_own_pages, &race), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned int page = 0; page < PAGES; page++)
		assert_int_equal(gmemi_pagemap_get(race.map, page), page % 2 ? GMEMI_PAGE_FILLED : GMEMI_PAGE_DISCARDED);
	pthread_barrier_destroy(&race.start);
	gmemi_pagemap_destroy(race.map);
}

static int make_one(void *arg)
{
	struct gmemi_pagemap *map = NULL;
	int r;

	(void)arg;
	gmemi_enter("test_call");
	r = gmemi_pagemap_create(PAGES, &map);
	assert_true(r == 0 || !map);
	inject_pause();
	if (r == 0)
		gmemi_pagemap_destroy(map);
	inject_resume();
	return r;
}

static void no_failure_of_creation_leaks(void **state)
{
	(void)state;
	assert_true(inject_each(make_one, NULL) >= 5); /* allocation, memfd, size, seals, mapping */
}

static const struct gt_test tests[] = {
	GT(a_new_map_is_empty, GT_NEEDS_NOTHING),
	GT(destroying_nothing_is_fine, GT_NEEDS_NOTHING),
	GT(a_change_from_the_wrong_state_changes_nothing, GT_NEEDS_NOTHING),
	GT(a_page_has_its_own_two_bits_in_the_file, GT_NEEDS_NOTHING),
	GT(setting_a_range_stops_at_its_ends, GT_NEEDS_NOTHING),
	GT(empty_pages_are_found_and_counted, GT_NEEDS_NOTHING),
	GT(the_file_has_room_for_its_pages_in_whole_words, GT_NEEDS_NOTHING),
	GT(the_file_is_sealed_for_good, GT_NEEDS_NOTHING),
	GT(who_maps_the_file_sees_the_states, GT_NEEDS_NOTHING),
	GT(every_page_is_won_exactly_once, GT_NEEDS_NOTHING),
	GT(neighbours_in_a_word_do_not_disturb_each_other, GT_NEEDS_NOTHING),
	GT(no_failure_of_creation_leaks, GT_NEEDS_NOTHING),
};

GT_MAIN("pagemap", tests)
