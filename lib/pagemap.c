/* SPDX-License-Identifier: MIT */
#include "pagemap.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "sys.h"

#define TMPFS_MAGIC 0x01021994

/* Size and seals: what shares the file can rely on its length. */
static int make_file(uint64_t bytes)
{
	int fd = gmemi_sys_memfd("gmem-page-map", 0);
	int r;

	if (fd < 0)
		return gmemi_failed(fd, "memfd_create() of the page map", NULL);
	r = gmemi_sys_resize(fd, bytes);
	if (r == 0)
		r = gmemi_sys_seal(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (r == 0)
		return fd;
	gmemi_sys_close(fd);
	return gmemi_failed(r, "sizing and sealing the page map", NULL);
}

/* Takes the fd, also when it fails. */
static int open_map(struct gmemi_pagemap *map, int fd, uint64_t bytes)
{
	void *words;
	int r;

	map->fd = fd;
	r = gmemi_sys_map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map->fd, 0, &words);
	if (r < 0) {
		gmemi_sys_close(map->fd);
		return gmemi_failed(r, "mapping the page map", NULL);
	}
	map->words = words;
	map->bytes = bytes;
	return 0;
}

static uint64_t words_for(uint64_t pages)
{
	return pages / GMEMI_PAGES_PER_WORD + (pages % GMEMI_PAGES_PER_WORD != 0);
}

int gmemi_pagemap_create_here(uint64_t pages, struct gmemi_pagemap **result)
{
	struct gmemi_pagemap *map = gmemi_alloc(1, sizeof(*map));

	if (!map)
		return -ENOMEM;
	map->fd = -1;
	map->words = gmemi_alloc(words_for(pages), sizeof(*map->words));
	if (!map->words) {
		gmemi_free(map);
		return -ENOMEM;
	}
	*result = map;
	return 0;
}

/* Takes the fd, also when it fails. */
static int new_map(int fd, uint64_t bytes, struct gmemi_pagemap **result)
{
	struct gmemi_pagemap *map = gmemi_alloc(1, sizeof(*map));
	int r;

	if (!map) {
		gmemi_sys_close(fd);
		return -ENOMEM;
	}
	r = open_map(map, fd, bytes);
	if (r < 0) {
		gmemi_free(map);
		return r;
	}
	*result = map;
	return 0;
}

int gmemi_pagemap_create(uint64_t pages, struct gmemi_pagemap **result)
{
	uint64_t bytes = words_for(pages) * sizeof(uint64_t);
	int fd = make_file(bytes);

	return fd < 0 ? fd : new_map(fd, bytes, result);
}

/* What could be cut short, or has huge pages, which may run out, could be SIGBUS. */
static int check_file(int fd, uint64_t bytes)
{
	int seals = gmemi_sys_seals(fd), r;
	struct gmemi_file about;

	if (seals < 0 && seals != -EINVAL)
		return gmemi_failed(seals, "asking for the seals of the page map", NULL);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || gmemi_sys_magic(fd) != TMPFS_MAGIC)
		return gmemi_refuse(-EINVAL, "the page map is no memfd that is sealed against shrinking");
	r = gmemi_sys_describe(fd, &about);
	if (r < 0)
		return gmemi_failed(r, "fstat() of the page map", NULL);
	return about.size >= bytes ? 0
				   : gmemi_refuse(-EINVAL, "the page map has %llu bytes, not %llu",
						  (unsigned long long)about.size, (unsigned long long)bytes);
}

int gmemi_pagemap_open(int fd, uint64_t pages, struct gmemi_pagemap **result)
{
	uint64_t bytes = words_for(pages) * sizeof(uint64_t);
	int r = check_file(fd, bytes), own;

	if (r < 0)
		return r;
	own = gmemi_sys_dup(fd);
	return own < 0 ? gmemi_failed(own, "duplicating the page map", NULL) : new_map(own, bytes, result);
}

void gmemi_pagemap_destroy(struct gmemi_pagemap *map)
{
	if (!map)
		return;
	if (map->fd >= 0) {
		gmemi_sys_unmap((void *)map->words, map->bytes);
		gmemi_sys_close(map->fd);
	} else {
		gmemi_free((void *)map->words);
	}
	gmemi_free(map);
}

int gmemi_pagemap_fd(const struct gmemi_pagemap *map)
{
	return map->fd;
}

/* The first page of the next word. */
static uint64_t next_word(uint64_t page)
{
	return (page / GMEMI_PAGES_PER_WORD + 1) * GMEMI_PAGES_PER_WORD;
}

/* The two bits of every page in a word, all the same. */
static uint64_t spread(enum gmemi_page_state state)
{
	return (uint64_t)state * UINT64_C(0x5555555555555555);
}

uint64_t gmemi_pagemap_run_of_many(const struct gmemi_pagemap *map, uint64_t page, uint64_t end, enum gmemi_page_state *state)
{
	uint64_t at = page,
		 word = gmemi_pagemap_word(map, page); /* looked at once: others may change it, and a run has one page at least */

	*state = (enum gmemi_page_state)(word >> gmemi_pagemap_shift(page) & GMEMI_PAGE_MASK);
	while (at < end) {
		uint64_t differ = (word ^ spread(*state)) >> gmemi_pagemap_shift(at);

		if (differ) {
			at += (uint64_t)__builtin_ctzll(differ) / 2;
			break;
		}
		at = next_word(at);
		if (at < end)
			word = gmemi_pagemap_word(map, at);
	}
	return at < end ? at - page : end - page;
}

/* The lower bit of each page of the word with this page in it that is empty, none before that page. */
static uint64_t empty_from(const struct gmemi_pagemap *map, uint64_t page)
{
	uint64_t word = gmemi_pagemap_word(map, page);

	return ~(word | word >> 1) & spread(GMEMI_PAGE_FILLED) & UINT64_MAX << gmemi_pagemap_shift(page);
}

/* Of a word with bits at even places alone. */
static uint64_t count_bits(uint64_t bits)
{
	bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
	bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return bits * UINT64_C(0x0101010101010101) >> 56;
}

uint64_t gmemi_pagemap_find_empty(const struct gmemi_pagemap *map, uint64_t page, uint64_t end)
{
	for (; page < end; page = next_word(page)) {
		uint64_t empty = empty_from(map, page);

		if (empty) {
			page += ((uint64_t)__builtin_ctzll(empty) - gmemi_pagemap_shift(page)) / 2;
			break;
		}
	}
	return page < end ? page : end;
}

uint64_t gmemi_pagemap_count_empty(const struct gmemi_pagemap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, empty = 0;

	for (uint64_t page = first; page < end; page = next_word(page)) {
		uint64_t found = empty_from(map, page);

		if (next_word(page) > end)
			found &= ~(UINT64_MAX << gmemi_pagemap_shift(end));
		empty += count_bits(found);
	}
	return empty;
}

enum gmemi_page_state gmemi_pagemap_change(struct gmemi_pagemap *map, uint64_t page, enum gmemi_page_state from,
					   enum gmemi_page_state to)
{
	_Atomic uint64_t *word = &map->words[page / GMEMI_PAGES_PER_WORD];
	uint64_t old = atomic_load_explicit(word, memory_order_acquire), new;
	unsigned int shift = gmemi_pagemap_shift(page);

	do {
		if ((old >> shift & GMEMI_PAGE_MASK) != from)
			return (enum gmemi_page_state)(old >> shift & GMEMI_PAGE_MASK);
		new = (old & ~(GMEMI_PAGE_MASK << shift)) | (uint64_t)to << shift;
	} while (!atomic_compare_exchange_weak_explicit(word, &old, new, memory_order_acq_rel, memory_order_acquire));
	return from;
}

void gmemi_pagemap_set(struct gmemi_pagemap *map, uint64_t first, uint64_t count, enum gmemi_page_state state)
{
	for (uint64_t page = first; page < first + count; page++) {
		enum gmemi_page_state from = gmemi_pagemap_get(map, page), found;

		while ((found = gmemi_pagemap_change(map, page, from, state)) != from)
			from = found;
	}
}
