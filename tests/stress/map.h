/* SPDX-License-Identifier: MIT */
/* The page map, read by hand: two bits a page, 32 pages a word. */
#ifndef MAP_H
#define MAP_H

#include "stress.h"

enum { MAP_EMPTY, MAP_FILLED, MAP_DISCARDED };

struct map {
	const _Atomic uint64_t *words;
	size_t size;
};

struct map map_open(struct arena *a);
void map_close(struct map *map);
unsigned int map_state(const struct map *map, uint64_t page);

/* What it says is what there is, of every page: filled ones hold the image, and are there; all others are zeros, and not there.
 * gmem_query_run() says the same. */
void map_assert_true(struct arena *a);

#endif
