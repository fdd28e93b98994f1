/* SPDX-License-Identifier: MIT */
/* gmem_discard() and the page map: what pages are in it before and after, as whoever has its file sees it, and that a discard
 * and a populate call at the same time never leave old content under "discarded", or half of it under "filled". */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"

#define PAGES 70 /* more than one word of the page map */
#define CONTENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)

/* What another process would see: two bits a page, the lowest first. */
enum { EMPTY, FILLED, DISCARDED };

static struct memory memory;
static const _Atomic uint64_t *map;

static void set_up(void)
{
	void *address;

	memory = make_memory(LAZY_MEMFD, PAGES * page());
	address = mmap(NULL, page(), PROT_READ, MAP_SHARED, gmem_get_fd(memory.mem, GMEM_FD_PAGE_MAP), 0);
	assert_ptr_not_equal(address, MAP_FAILED);
	map = address;
}

static void tear_down(void)
{
	munmap((void *)map, page());
	end_memory(&memory);
}

static unsigned int state_of(uint64_t number)
{
	return (unsigned int)(map[number / 32] >> number % 32 * 2) & 3;
}

static void assert_in_map(uint64_t first, uint64_t count, unsigned int expected)
{
	for (uint64_t i = first; i < first + count; i++)
		if (state_of(i) != expected)
			fail_msg("page %llu is %u in the map, not %u", (unsigned long long)i, state_of(i), expected);
}

static void populate(uint64_t first, uint64_t count)
{
	unsigned char *content = pages_of_content(count, 0);

	assert_int_equal(gmem_populate(memory.mem, first * page(), count * page(), content, NULL, NULL), 0);
	free(content);
}

static void discard(uint64_t first, uint64_t count, uint64_t flags)
{
	struct gmem_discard_opts opts = { .size = sizeof(opts), .flags = flags };
	uint64_t done = 77;

	assert_int_equal(gmem_discard(memory.mem, first * page(), count * page(), &done, &opts), 0);
	assert_int_equal(done, count * page());
}

static void discarded_pages_are_zeros_for_good(void **state)
{
	(void)state;
	set_up();
	populate(0, 40);
	assert_in_map(0, 40, FILLED);
	assert_in_map(40, 30, EMPTY);
	discard(30, 20, 0); /* filled ones and empty ones */
	assert_in_map(0, 30, FILLED);
	assert_in_map(30, 20, DISCARDED);
	assert_in_map(50, 20, EMPTY);
	assert_state(memory.mem, 30 * page(), 20 * page(), GMEM_RUN_DISCARDED);
	discard(30, 20, 0);
	assert_in_map(30, 20, DISCARDED);
	tear_down();
}

static void stale_pages_are_empty_again(void **state)
{
	(void)state;
	set_up();
	populate(0, 40);
	discard(10, 10, 0);
	discard(15, 40, GMEM_DISCARD_REFETCH); /* discarded ones, filled ones, and empty ones */
	assert_in_map(0, 10, FILLED);
	assert_in_map(10, 5, DISCARDED);
	assert_in_map(15, 55, EMPTY);
	assert_state(memory.mem, 15 * page(), 55 * page(), 0);
	tear_down();
}

static void populated_pages_are_filled_again(void **state)
{
	(void)state;
	set_up();
	populate(0, PAGES);
	discard(0, 10, 0);
	discard(10, 10, GMEM_DISCARD_REFETCH);
	populate(5, 10);
	assert_in_map(0, 5, DISCARDED);
	assert_in_map(5, 10, FILLED);
	assert_in_map(15, 5, EMPTY);
	assert_in_map(20, PAGES - 20, FILLED);
	assert_state(memory.mem, 5 * page(), 10 * page(), CONTENT | GMEM_RUN_FILLED);
	tear_down();
}

static void a_refused_call_marks_nothing(void **state)
{
	struct gmem_discard_opts opts = { .size = sizeof(opts), .flags = GMEM_DISCARD_REFETCH };

	(void)state;
	set_up();
	populate(0, PAGES);
	assert_int_equal(gmem_discard(memory.mem, 0, (PAGES + 1) * page(), NULL, NULL), -EINVAL);
	assert_int_equal(gmem_discard(memory.mem, page(), PAGES * page(), NULL, &opts), -EINVAL);
	assert_int_equal(gmem_discard(memory.mem, 0, 1, NULL, &opts), -EINVAL);
	assert_in_map(0, PAGES, FILLED);
	tear_down();
}

/* A pager that sees "empty" or "filled" while pages go away would bring old content back. */
static void pages_are_marked_before_they_are_freed(void **state)
{
	uint64_t done = 77;

	(void)state;
	set_up();
	populate(0, PAGES);
	inject_arm(1, ENOSPC);
	assert_int_equal(gmem_discard(memory.mem, 0, 10 * page(), &done, NULL), -ENOSPC);
	inject_disarm();
	assert_string_equal(inject_where(), "fallocate");
	assert_int_equal(done, 0);
	assert_in_map(0, 10, DISCARDED);
	assert_in_map(10, PAGES - 10, FILLED);
	discard(0, 10, 0);
	assert_int_equal(absent_bytes(memory.mem, 0, 10 * page()), 10 * page());
	tear_down();
}

/* Races */

#define ROUNDS 600

static struct race {
	pthread_barrier_t turn; /* at the beginning of a round, and at its end */
	struct gmem_discard_opts opts;
	atomic_int failed;
	unsigned char *whole;
} race;

static void *populate_all(void *arg)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = page() };

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&race.turn);
		race.failed |= gmem_populate(memory.mem, 0, memory.length, race.whole, NULL, &opts);
		pthread_barrier_wait(&race.turn);
	}
	return arg;
}

static void discard_all(void)
{
	for (uint64_t at = 0; at < memory.length; at += page())
		race.failed |= gmem_discard(memory.mem, at, page(), NULL, &race.opts);
}

/* Whoever was last, the map and the content of a page are of the same call. */
static void check_page(const unsigned char *is, uint64_t number)
{
	static const unsigned char zeros[65536];
	unsigned int said = state_of(number);

	assert_true(said <= DISCARDED);
	if (memcmp(is, said == FILLED ? race.whole + number * page() : zeros, page()) != 0)
		fail_msg("page %llu is %u in the map, and has other content", (unsigned long long)number, said);
}

static void race_against(uint64_t flags)
{
	pthread_t populates;
	void *address;

	set_up();
	race.opts = (struct gmem_discard_opts){ .size = sizeof(race.opts), .flags = flags };
	race.whole = pages_of_content(PAGES, 0);
	assert_int_equal(pthread_barrier_init(&race.turn, NULL, 2), 0);
	assert_int_equal(gmem_map(memory.mem, 0, memory.length, &address, NULL), 0);
	assert_int_equal(pthread_create(&populates, NULL, populate_all, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&race.turn);
		discard_all();
		pthread_barrier_wait(&race.turn);
		for (uint64_t number = 0; number < PAGES; number++)
			check_page((unsigned char *)address + number * page(), number);
	}
	pthread_join(populates, NULL);
	assert_int_equal(race.failed, 0);
	pthread_barrier_destroy(&race.turn);
	free(race.whole);
	tear_down();
}

static void a_discard_and_a_populate_at_a_time(void **state)
{
	(void)state;
	race_against(0);
	race_against(GMEM_DISCARD_REFETCH);
}

static const struct gt_test tests[] = {
	GT(discarded_pages_are_zeros_for_good, GT_NEEDS_NOTHING),
	GT(stale_pages_are_empty_again, GT_NEEDS_NOTHING),
	GT(populated_pages_are_filled_again, GT_NEEDS_NOTHING),
	GT(a_refused_call_marks_nothing, GT_NEEDS_NOTHING),
	GT(pages_are_marked_before_they_are_freed, GT_NEEDS_NOTHING),
	GT(a_discard_and_a_populate_at_a_time, GT_NEEDS_NOTHING),
};

GT_MAIN("discard_map", tests)
