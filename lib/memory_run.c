/* SPDX-License-Identifier: MIT */
/* The state of pages: what the kernel says of the file, and what the page map says. */
#include "memory.h"

#include <string.h>
#include <unistd.h>

#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"

#define FEW 64	  /* pages: what is asked about first, since a run may be short */
#define MANY 4096 /* ... and at the most */
#define LONGEST_SEARCH (UINT64_C(4) << 30) /* bytes that one call looks at, at most, where pages are asked for one by one */

static uint64_t round_up(uint64_t value, uint64_t align)
{
	return gmemi_round_down(value + align - 1, align);
}

bool gmemi_run_by_seek(int fd, uint64_t page_size, uint64_t offset, uint64_t *length, bool *data)
{
	int64_t at = gmemi_sys_seek(fd, offset, SEEK_DATA), hole;

	*data = at == (int64_t)offset;
	if (at == -ENXIO) /* none any more */
		return true;
	if (at < (int64_t)offset)
		return false;
	if (!*data) {
		*length = gmemi_min(*length, gmemi_round_down((uint64_t)at - offset, page_size));
		return *length != 0;
	}
	hole = gmemi_sys_seek(fd, offset, SEEK_HOLE);
	if (hole <= (int64_t)offset)
		return false;
	*length = gmemi_min(*length, round_up((uint64_t)hole - offset, page_size));
	return true;
}

static size_t alike(const unsigned char *vector, size_t count)
{
	size_t n = 1;

	while (n < count && ((vector[n] ^ vector[0]) & 1) == 0)
		n++;
	return n;
}

/* Whoever maps huge pages takes them from the pool: only a mapping that is there already is asked. */
static struct gmemi_mapping *hold_to_ask(struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_mapping *m = gmemi_mapping_hold_present(mem, offset);

	if (m || gmemi_memory_shared_backing(mem) == GMEM_BACKING_HUGETLB)
		return m;
	if (gmemi_mapping_hold_some(mem, offset, length, &m) == 0)
		return m;
	gmemi_tolerated();
	return NULL;
}

/* As far as one mapping and the room reach: *length, and how many entries of vector that is. */
static bool ask_mapping(struct gmem *mem, uint64_t offset, uint64_t *length, unsigned char *vector, size_t room,
			size_t *entries)
{
	uint64_t unit = gmemi_sys_page_size();
	struct gmemi_mapping *m = hold_to_ask(mem, offset, *length);
	int r;

	if (!m)
		return false;
	*length = gmemi_min(*length, m->offset + m->length - offset);
	*length = gmemi_min(*length, room * unit);
	r = gmemi_sys_resident(gmemi_mapping_at(m, offset), *length, vector);
	gmemi_mapping_drop(mem, m);
	*entries = (size_t)(*length / unit);
	return r == 0;
}

bool gmemi_run_by_mincore(struct gmem *mem, uint64_t offset, uint64_t *length, bool *present)
{
	unsigned char vector[MANY];
	uint64_t most = *length, part;
	size_t room = FEW, entries, same;

	for (*length = 0; *length < most; *length += part, room = room < MANY ? room * 4 : MANY) {
		part = most - *length;
		if (!ask_mapping(mem, offset + *length, &part, vector, room, &entries))
			return *length != 0;
		if (*length == 0)
			*present = vector[0] & 1;
		else if ((vector[0] & 1) != *present)
			return true;
		same = alike(vector, entries);
		part = same * gmemi_sys_page_size();
		if (same < entries) {
			*length += part;
			return true;
		}
	}
	return true;
}

/* Pages of the range that the page cache has: none, all, or some. */
enum cached { CACHED_NONE, CACHED_ALL, CACHED_SOME, CACHED_UNKNOWN };

static enum cached cached(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t pages;
	int r = gmemi_sys_cached(gmemi_memory_shared_fd(mem), offset, length, &pages);

	if (r < 0)
		return CACHED_UNKNOWN;
	if (pages == 0)
		return CACHED_NONE;
	return pages >= length / mem->page_size ? CACHED_ALL : CACHED_SOME;
}

/* The answer for the page at offset, and how far it is the same. The kernel looks at every page that is there, so as much again
 * as is known already is asked about, and the last such part is halved. */
static enum cached run_of_cached(const struct gmem *mem, uint64_t offset, uint64_t *length)
{
	enum cached first = cached(mem, offset, mem->page_size);
	uint64_t same = mem->page_size, end = same, half;

	while (first != CACHED_UNKNOWN && same == end && same < *length) {
		end = gmemi_min(same * 2, *length);
		if (cached(mem, offset + same, end - same) == first)
			same = end;
	}
	while (end - same > mem->page_size) { /* [offset, same) is alike, [offset, end) is not */
		half = gmemi_round_down((end - same) / 2, mem->page_size);
		if (cached(mem, offset + same, half) == first)
			same += half;
		else
			end = same + half;
	}
	*length = same;
	return first;
}

/* Pages without content from offset on: allocated or not. */
static uint64_t state_of_empty(const struct gmem *mem, uint64_t offset, uint64_t *length)
{
	uint64_t run = *length;

	switch (run_of_cached(mem, offset, &run)) {
	case CACHED_UNKNOWN:
		return GMEM_RUN_ALLOCATED_UNKNOWN;
	case CACHED_ALL:
		*length = run;
		return GMEM_RUN_ALLOCATED;
	default:
		*length = run;
		return 0;
	}
}

static uint64_t state_of(const struct gmem *mem, uint64_t offset, uint64_t *length, bool known, bool content)
{
	if (!known) {
		uint64_t state = state_of_empty(mem, offset, length);

		return state ? state | GMEM_RUN_INITIALISED_UNKNOWN : 0; /* what is not there has no content either */
	}
	return content ? GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED : state_of_empty(mem, offset, length);
}

/* SEEK_DATA knows of pages in swap, where mincore() does not. */
static uint64_t state_in_memfd(struct gmem *mem, uint64_t offset, uint64_t *length)
{
	bool data, known = gmemi_run_by_seek(gmemi_memory_shared_fd(mem), mem->page_size, offset, length, &data);

	return state_of(mem, offset, length, known, known && data);
}

static bool may_see(const struct gmem *mem)
{
	struct gmemi_file about;
	int fd = gmemi_memory_shared_fd(mem);

	return gmemi_memory_mappable(mem) && gmemi_sys_describe(fd, &about) == 0 && gmemi_sys_may_see(fd, about.owner);
}

/* No swap and no lseek(). What is not there has no content, and mincore() would look for each of its pages. */
static uint64_t state_in_guest_memfd(struct gmem *mem, uint64_t offset, uint64_t *length)
{
	uint64_t whole = gmemi_min(*length, LONGEST_SEARCH);
	bool present = false, known;

	if (run_of_cached(mem, offset, length) == CACHED_NONE)
		return 0;
	*length = whole;
	known = may_see(mem) && gmemi_run_by_mincore(mem, offset, length, &present);
	if (!known)
		*length = whole;
	return state_of(mem, offset, length, known, present);
}

/* mincore() tells of huge pages that are mapped here; the file only tells how many it has. */
static uint64_t state_in_hugetlb(struct gmem *mem, uint64_t offset, uint64_t *length)
{
	struct gmemi_file about;
	uint64_t whole = *length;
	bool present;

	if (gmemi_sys_describe(gmemi_memory_shared_fd(mem), &about) == 0) {
		if (about.allocated == 0)
			return 0;
		if (about.allocated >= about.size)
			return GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED;
	}
	if (gmemi_run_by_mincore(mem, offset, length, &present)) {
		*length = round_up(*length, mem->page_size);
		if (present)
			return GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED;
	} else {
		*length = whole;
	}
	return GMEM_RUN_ALLOCATED_UNKNOWN | GMEM_RUN_INITIALISED_UNKNOWN;
}

static uint64_t state_in_file(struct gmem *mem, uint64_t offset, uint64_t *length)
{
	switch (gmemi_memory_shared_backing(mem)) {
	case GMEM_BACKING_MEMFD:
		return state_in_memfd(mem, offset, length);
	case GMEM_BACKING_GUEST_MEMFD:
		return state_in_guest_memfd(mem, offset, length);
	default:
		*length = gmemi_min(*length, round_up(LONGEST_SEARCH, mem->page_size));
		return state_in_hugetlb(mem, offset, length);
	}
}

static uint64_t state_in_map(const struct gmem *mem, uint64_t offset, uint64_t *length)
{
	static const uint64_t bits[] = { [GMEMI_PAGE_FILLED] = GMEM_RUN_FILLED, [GMEMI_PAGE_DISCARDED] = GMEM_RUN_DISCARDED };
	uint64_t page = offset / mem->page_size, most = gmemi_min(*length, LONGEST_SEARCH) / mem->page_size, n = 1;
	enum gmemi_page_state first;

	if (!mem->map)
		return 0;
	first = gmemi_pagemap_get(mem->map, page);
	while (n < most && gmemi_pagemap_get(mem->map, page + n) == first)
		n++;
	*length = n * mem->page_size;
	return first < sizeof(bits) / sizeof(bits[0]) ? bits[first] : 0;
}

int gmem_query_run(struct gmem *mem, uint64_t offset, struct gmem_run *run)
{
	struct gmem_run now = { 0 };
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = gmemi_info_check(run, "run");
	if (r == 0)
		r = gmemi_range_check(offset, mem->page_size, mem->page_size, mem->length);
	if (r < 0)
		return r;
	now.length = mem->length - offset;
	now.state = state_in_map(mem, offset, &now.length);
	now.state |= state_in_file(mem, offset, &now.length);
	gmemi_info_out(run, &now, sizeof(now));
	return 0;
}
