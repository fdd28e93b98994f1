/* SPDX-License-Identifier: MIT */
#include "map.h"

#include <string.h>
#include <sys/mman.h>

#include "../live/pages.h"
#include "../live/promise.h"
#include "gt.h"

static const char *const names[] = { "empty", "filled", "discarded", "broken" };

struct map map_open(struct arena *a)
{
	size_t words = a->length / a->page / 32 + 1;
	struct map map = { .size = words * sizeof(uint64_t) };

	map.words = (const void *)promise_map(gmem_get_fd(a->mem, GMEM_FD_PAGE_MAP), map.size);
	return map;
}

void map_close(struct map *map)
{
	munmap((void *)(uintptr_t)map->words, map->size);
}

unsigned int map_state(const struct map *map, uint64_t page)
{
	return (unsigned int)(atomic_load(&map->words[page / 32]) >> page % 32 * 2 & 3);
}

static void assert_page(const struct arena *a, uint64_t page, const unsigned char *at, unsigned int state)
{
	bool zeros = stress_is_zero(at, a->page);

	if (state == MAP_FILLED ? memcmp(at, a->image + page * a->page, a->page) != 0 : !zeros)
		fail_msg("page 0x%llx is %s, and holds %s", (unsigned long long)page, names[state],
			 zeros ? "zeros" : "something else");
}

/* hugetlbfs does not tell which pages it has. */
static void assert_there(const struct arena *a, uint64_t page, unsigned int state, const unsigned char *resident)
{
	if (a->backing != GMEM_BACKING_HUGETLB && (resident[page] & 1) != (state == MAP_FILLED))
		fail_msg("page 0x%llx is %s, and %s", (unsigned long long)page, names[state],
			 state == MAP_FILLED ? "a hole" : "not freed");
}

static void assert_told(struct arena *a, uint64_t page, unsigned int state)
{
	const uint64_t bits[] = { 0, GMEM_RUN_FILLED, GMEM_RUN_DISCARDED, UINT64_MAX };
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(a->mem, page * a->page, &run), 0);
	assert_int_equal(run.state & (GMEM_RUN_FILLED | GMEM_RUN_DISCARDED), bits[state]);
}

void map_assert_true(struct arena *a)
{
	uint64_t pages = a->length / a->page;
	struct map map = map_open(a);
	unsigned char resident[STRESS_LENGTH / 4096], *at;

	assert_true(a->backing == GMEM_BACKING_HUGETLB || pages <= sizeof(resident));
	if (a->backing != GMEM_BACKING_HUGETLB)
		pages_resident(gmem_get_fd(a->mem, GMEM_FD_MEMORY), pages, resident);
	for (uint64_t page = 0; page < pages; page++)
		assert_there(a, page, map_state(&map, page), resident);
	at = arena_map(a);
	for (uint64_t page = 0; page < pages; page++) {
		assert_told(a, page, map_state(&map, page));
		assert_page(a, page, at + page * a->page, map_state(&map, page));
	}
	munmap(at, a->length);
	map_close(&map);
}
