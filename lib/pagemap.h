/* SPDX-License-Identifier: MIT */
/* Floor 1: the page map, two bits a page in a sealed memfd, changed by compare-and-swap so that several processes can share
 * it. */
#ifndef GMEMI_PAGEMAP_H
#define GMEMI_PAGEMAP_H

#include <stdatomic.h>
#include <stdint.h>

#define GMEMI_PAGES_PER_WORD 32
#define GMEMI_PAGE_MASK UINT64_C(3) /* of a page's bits */

enum gmemi_page_state { GMEMI_PAGE_EMPTY = 0, GMEMI_PAGE_FILLED = 1, GMEMI_PAGE_DISCARDED = 2 };

struct gmemi_pagemap {
	int fd;
	uint64_t bytes;
	_Atomic uint64_t *words; /* two bits a page, the lowest first */
};

/* A map of `pages` pages, all empty: its file is sized and sealed for good. */
int gmemi_pagemap_create(uint64_t pages, struct gmemi_pagemap **map);
/* The same for this process alone, without a file: there may be one for each of many ranges. */
int gmemi_pagemap_create_here(uint64_t pages, struct gmemi_pagemap **map);
/* One that another process made, in a file which others may change at any time: only its length is relied on. The fd is
 * duplicated. */
int gmemi_pagemap_open(int fd, uint64_t pages, struct gmemi_pagemap **map);
void gmemi_pagemap_destroy(struct gmemi_pagemap *map); /* NULL is fine */
/* The file: lent. */
int gmemi_pagemap_fd(const struct gmemi_pagemap *map);

static inline unsigned int gmemi_pagemap_shift(uint64_t page)
{
	return (unsigned int)(page % GMEMI_PAGES_PER_WORD) * 2;
}

/* That the page is in. */
static inline uint64_t gmemi_pagemap_word(const struct gmemi_pagemap *map, uint64_t page)
{
	return atomic_load_explicit(&map->words[page / GMEMI_PAGES_PER_WORD], memory_order_acquire);
}

static inline enum gmemi_page_state gmemi_pagemap_get(const struct gmemi_pagemap *map, uint64_t page)
{
	return (enum gmemi_page_state)(gmemi_pagemap_word(map, page) >> gmemi_pagemap_shift(page) & GMEMI_PAGE_MASK);
}

/* It is going to be looked at. */
static inline void gmemi_pagemap_prefetch(const struct gmemi_pagemap *map, uint64_t page)
{
	__builtin_prefetch((const void *)&map->words[page / GMEMI_PAGES_PER_WORD], 1);
}

uint64_t gmemi_pagemap_run_of_many(const struct gmemi_pagemap *map, uint64_t page, uint64_t end, enum gmemi_page_state *state);

/* How many pages from `page` on, below `end`, are in the same state as it. Most often there is one. */
static inline uint64_t gmemi_pagemap_run(const struct gmemi_pagemap *map, uint64_t page, uint64_t end,
					 enum gmemi_page_state *state)
{
	if (end - page != 1)
		return gmemi_pagemap_run_of_many(map, page, end, state);
	*state = gmemi_pagemap_get(map, page);
	return 1;
}

/* The first page from `page` on, below `end`, that is empty; or `end`. */
uint64_t gmemi_pagemap_find_empty(const struct gmemi_pagemap *map, uint64_t page, uint64_t end);
/* How many of these pages are empty. */
uint64_t gmemi_pagemap_count_empty(const struct gmemi_pagemap *map, uint64_t first, uint64_t count);
/* from -> to, unless somebody was faster: returns the state found, which is `from` when it was changed. */
enum gmemi_page_state gmemi_pagemap_change(struct gmemi_pagemap *map, uint64_t page, enum gmemi_page_state from,
					   enum gmemi_page_state to);
/* Whatever the pages were, they are this now. */
void gmemi_pagemap_set(struct gmemi_pagemap *map, uint64_t first, uint64_t count, enum gmemi_page_state state);

#endif
