/* SPDX-License-Identifier: MIT */
/* Watching ranges of memory no longer. */
#include "fault.h"

#include "err.h"
#include "range.h"

typedef unsigned long long ull;

/* A region in the range, from `offset` on; NULL = none any more. The register lock is held: it stays. */
static struct gmemi_region *next_region(struct gmem_uffd *uffd, const struct gmemi_watched *watched, uint64_t offset,
					uint64_t end)
{
	struct gmemi_region *region;

	gmemi_lock(&uffd->index_lock);
	region = gmemi_index_region(watched, offset);
	gmemi_unlock(&uffd->index_lock);
	return region && region->offset < end ? region : NULL;
}

/* Would somebody read zeros for content that has not come? Not where nothing is mapped any more, or nobody is left. */
static bool leaves_zeros(struct gmem_uffd *uffd, const struct gmemi_region *region)
{
	bool empty = false;

	if (atomic_load(&uffd->owner_gone))
		return false;
	gmemi_lock(&uffd->index_lock);
	for (const struct gmemi_view *view = region->views; view && !empty; view = view->next) {
		uint64_t first = gmemi_region_page(region, view->offset), end = first + gmemi_region_pages(region, view->length);

		empty = gmemi_pagemap_find_empty(region->map, first, end) < end;
	}
	gmemi_unlock(&uffd->index_lock);
	return empty;
}

static int check_unregister(struct gmem_uffd *uffd, const struct gmemi_watched *watched, uint64_t offset, uint64_t length)
{
	const struct gmemi_region *region = next_region(uffd, watched, offset, offset + length);

	if (!region)
		return gmemi_refuse(-ENOENT, "nothing in the range is watched");
	for (; region; region = next_region(uffd, watched, region->offset + region->length, offset + length)) {
		if (!gmemi_range_contains(offset, length, region->offset, region->length))
			return gmemi_refuse(-EINVAL,
					    "the region from 0x%llx on, of 0x%llx bytes, lies only partly in the range",
					    (ull)region->offset, (ull)region->length);
		if (leaves_zeros(uffd, region))
			return gmemi_refuse(-EBUSY, "pages of the region from 0x%llx on are empty, and would become zeros",
					    (ull)region->offset);
	}
	return 0;
}

/* Pages that were given up are zeros from now on because the file has none; by GMEM_STRATEGY_COPY one that it has is in use. */
static int unregister_region(struct gmem_uffd *uffd, struct gmemi_region *region)
{
	const struct gmemi_view *view;
	int r = region->strategy == GMEM_STRATEGY_FILL ? gmemi_region_punch(region, GMEMI_PAGE_DISCARDED) : 0;

	if (r < 0)
		return r;
	for (view = region->views; r == 0 && view; view = view->next)
		r = gmemi_view_unregister(uffd, view);
	if (r < 0 && !region->peer)
		return r; /* a peer's address space may have ended, or have changed: then nothing is watched there */
	gmemi_region_end(uffd, region, false);
	return 0;
}

static int unregister(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset, uint64_t length,
		      struct gmemi_untold *gone)
{
	struct gmemi_region *region;
	int r = check_unregister(uffd, watched, offset, length);

	if (r < 0)
		return r;
	while (r == 0 && (region = next_region(uffd, watched, offset, offset + length))) {
		struct gmemi_untold before = *gone;

		gmemi_untold_note(gone, region);
		r = unregister_region(uffd, region);
		if (r < 0)
			*gone = before;
	}
	gone->last = !watched->regions.count;
	gmemi_watched_drop_if_unused(watched);
	return r;
}

int gmemi_uffd_forget(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_watched *watched;
	struct gmemi_region *region = NULL;

	pthread_mutex_lock(&uffd->register_lock);
	watched = gmemi_index_watched(uffd, mem);
	if (watched)
		region = next_region(uffd, watched, offset, offset + length);
	for (; region; region = next_region(uffd, watched, offset, offset + length)) {
		if (!gmemi_range_contains(offset, length, region->offset, region->length))
			break;
		gmemi_region_end(uffd, region, false);
	}
	if (watched)
		gmemi_watched_drop_if_unused(watched);
	pthread_mutex_unlock(&uffd->register_lock);
	return region ? gmemi_refuse(-EINVAL, "the region from 0x%llx on lies only partly in the range", (ull)region->offset)
		      : 0;
}

int gmem_uffd_unregister(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_untold gone = { 0 };
	struct gmemi_watched *watched;
	int r;

	GMEMI_CALL();
	r = gmemi_uffd_check(uffd);
	if (r == 0)
		r = gmemi_range_check(offset, length, 1, mem ? mem->length : UINT64_MAX);
	if (r < 0)
		return r;
	pthread_mutex_lock(&uffd->register_lock);
	watched = gmemi_index_watched(uffd, mem);
	r = watched ? unregister(uffd, watched, offset, length, &gone)
		    : gmemi_refuse(-ENOENT, "this endpoint watches nothing of the memory");
	pthread_mutex_unlock(&uffd->register_lock);
	gmemi_uffd_tell_removed(uffd, mem, &gone);
	return r;
}
