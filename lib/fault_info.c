/* SPDX-License-Identifier: MIT */
/* What an endpoint has counted. */
#include "fault.h"

#include <string.h>

#include "err.h"
#include "opts.h"
#include "range.h"

#define SHORTEST UINT64_C(256) /* nanoseconds: the end of the first bucket */

/* Bucket n ends at SHORTEST * 2^(n/2): two for each doubling. */
static uint64_t end_of(uint32_t bucket)
{
	uint64_t power = SHORTEST << bucket / 2;

	return bucket % 2 ? power + power / 2 - power / 12 : power; /* the square root of 2, near enough */
}

void gmemi_uffd_count_latency(struct gmem_uffd *uffd, uint64_t ns)
{
	uint32_t bucket = ns < SHORTEST ? 0 : 2 * (uint32_t)(__builtin_clzll(SHORTEST) - __builtin_clzll(ns)) + 1;

	if (bucket && bucket < GMEM_LATENCY_BUCKETS - 1 && ns >= end_of(bucket))
		bucket++;
	gmemi_count(&uffd->counters.latency[bucket < GMEM_LATENCY_BUCKETS ? bucket : GMEM_LATENCY_BUCKETS - 1], 1);
}

/* The end of the bucket below which `permille` of all lie. */
static uint64_t quantile(const struct gmem_uffd_info *info, uint64_t permille)
{
	uint64_t total = 0, below = 0;

	for (uint32_t i = 0; i < GMEM_LATENCY_BUCKETS; i++)
		total += info->latency[i];
	for (uint32_t i = 0; total && i < GMEM_LATENCY_BUCKETS; i++) {
		below += info->latency[i];
		if (below * 1000 >= total * permille)
			return end_of(i);
	}
	return 0;
}

static uint64_t flags_of(const struct gmem_uffd *uffd)
{
	return (uffd->user_mode ? GMEM_UFFD_USER_MODE_ONLY : 0) | (uffd->imported ? GMEM_UFFD_IMPORTED : 0) |
	       (atomic_load(&uffd->owner_gone) ? GMEM_UFFD_OWNER_GONE : 0);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* What its regions have. */
struct holdings {
	uint64_t empty;     /* bytes */
	uint64_t page_size; /* the largest */
};

#define SEARCH_PAGES (UINT64_C(1) << 18) /* some microseconds */

/* Regions come and go meanwhile: the lock is held for one after the other. */
static struct holdings look_at_regions(struct gmem_uffd *uffd)
{
	struct holdings all = { 0 };
	struct gmemi_region *region;
	uint64_t address = 0;

	while ((region = gmemi_region_next(uffd, &address))) {
		all.empty += region->page_size * gmemi_pagemap_count_empty(region->map, region->map_first,
									   gmemi_region_pages(region, region->length));
		if (region->page_size > all.page_size)
			all.page_size = region->page_size;
		gmemi_region_leave(region);
	}
	return all;
}

uint64_t gmemi_uffd_remaining(struct gmem_uffd *uffd)
{
	return look_at_regions(uffd).empty;
}

/* In one region. *left: how many pages more may be looked at. */
static bool search_region(const struct gmemi_region *region, struct gmemi_search *search, uint64_t next, uint64_t *left)
{
	uint64_t first = region->map_first, end = first + gmemi_region_pages(region, region->length);
	uint64_t from = search->page > first && search->page < end ? search->page : first;
	uint64_t stop = gmemi_min(end, from + *left), at = gmemi_pagemap_find_empty(region->map, from, stop);

	*left -= stop - from;
	search->page = at;
	if (at < stop)
		return true;
	if (stop == end) {
		search->address = next;
		search->page = 0;
	}
	return false;
}

enum gmemi_found gmemi_uffd_search_empty(struct gmem_uffd *uffd, struct gmemi_search *search)
{
	uint64_t left = SEARCH_PAGES, next = search->address;
	struct gmemi_region *region;
	bool whole;

	while (left && (region = gmemi_region_next(uffd, &next))) {
		bool found = search_region(region, search, next, &left);

		gmemi_region_leave(region);
		if (found) {
			search->whole = false;
			return GMEMI_FOUND_SOME;
		}
		next = search->address;
	}
	if (!left)
		return GMEMI_FOUND_NOT_YET;
	whole = search->whole;
	*search = (struct gmemi_search){ .whole = true };
	return whole ? GMEMI_FOUND_NONE : GMEMI_FOUND_NOT_YET;
}

int gmem_uffd_query(const struct gmem_uffd *uffd, struct gmem_uffd_info *info)
{
	const struct gmemi_fault_counters *c;
	struct gmem_uffd_info now;
	struct holdings all;
	int r;

	GMEMI_CALL();
	r = gmemi_uffd_check(uffd);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	c = &uffd->counters;
	all = look_at_regions((struct gmem_uffd *)(uintptr_t)uffd);
	now = (struct gmem_uffd_info){
		.flags = flags_of(uffd),
		.ranges = get(&uffd->ranges),
		.length = get(&uffd->length),
		.remaining = all.empty,
		.faults = get(&c->missing) + get(&c->minor),
		.missing = get(&c->missing),
		.minor = get(&c->minor),
		.write = get(&c->write),
		.protect = get(&c->protect),
		.removed = get(&c->removed),
		.filled = get(&c->filled),
		.zeroed = get(&c->zeroed),
		.present = get(&c->present),
		.duplicate = get(&c->duplicate),
		.poisoned = get(&c->poisoned),
		.retries = get(&c->retries),
		.source_errors = get(&c->source_errors),
		.bytes = get(&c->bytes),
		.pending = get(&c->pending),
		.throttled = get(&c->throttled),
		.page_size = all.page_size,
	};
	for (uint32_t i = 0; i < GMEM_LATENCY_BUCKETS; i++)
		now.latency[i] = get(&c->latency[i]);
	now.p50 = quantile(&now, 500);
	now.p90 = quantile(&now, 900);
	now.p99 = quantile(&now, 990);
	now.p999 = quantile(&now, 999);
	gmemi_info_out(info, &now, sizeof(now));
	return 0;
}
