/* SPDX-License-Identifier: MIT */
/* Which page of which memory an address is, and where a page is mapped: sorted tables, searched by halving. */
#include "fault.h"

#include <string.h>

#include "alloc.h"
#include "range.h"
#include "sys.h"

#define FIRST_ROOM 16

/* The first item that does not come before the key. */
static size_t position(const struct gmemi_table *table, int (*compare)(const void *item, uint64_t key), uint64_t key)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(table->items[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int make_room(struct gmemi_table *table)
{
	size_t room = table->room ? table->room * 2 : FIRST_ROOM;
	void **items;

	if (table->count < table->room)
		return 0;
	items = gmemi_alloc(room, sizeof(*items));
	if (!items)
		return -ENOMEM;
	if (table->count)
		memcpy(items, table->items, table->count * sizeof(*items));
	gmemi_free(table->items);
	table->items = items;
	table->room = room;
	return 0;
}

static int insert(struct gmemi_table *table, void *item, int (*compare)(const void *item, uint64_t key), uint64_t key)
{
	int r = make_room(table);
	size_t at;

	if (r < 0)
		return r;
	at = position(table, compare, key);
	memmove(&table->items[at + 1], &table->items[at], (table->count - at) * sizeof(*table->items));
	table->items[at] = item;
	table->count++;
	return 0;
}

static void take_off(struct gmemi_table *table, const void *item, int (*compare)(const void *item, uint64_t key), uint64_t key)
{
	size_t at = position(table, compare, key);

	while (table->items[at] != item)
		at++;
	table->count--;
	memmove(&table->items[at], &table->items[at + 1], (table->count - at) * sizeof(*table->items));
}

void gmemi_table_end(struct gmemi_table *table)
{
	gmemi_free(table->items);
	*table = (struct gmemi_table){ 0 };
}

/* Before the key = ends at or below it: what is found first contains the key or lies behind it. */
static int compare_view(const void *item, uint64_t address)
{
	const struct gmemi_view *view = item;

	return view->hva + (view->length - 1) < address ? -1 : 1;
}

static int compare_region(const void *item, uint64_t offset)
{
	const struct gmemi_region *region = item;

	return region->offset + (region->length - 1) < offset ? -1 : 1;
}

int gmemi_index_add_view(struct gmem_uffd *uffd, struct gmemi_view *view)
{
	int r = insert(&uffd->views, view, compare_view, view->hva);

	if (r < 0)
		return r;
	view->next = view->region->views;
	view->region->views = view;
	return 0;
}

void gmemi_index_remove_view(struct gmem_uffd *uffd, struct gmemi_view *view)
{
	struct gmemi_view **link = &view->region->views;

	take_off(&uffd->views, view, compare_view, view->hva);
	while (*link != view)
		link = &(*link)->next;
	*link = view->next;
}

int gmemi_index_add_region(struct gmemi_watched *watched, struct gmemi_region *region)
{
	return insert(&watched->regions, region, compare_region, region->offset);
}

void gmemi_index_remove_region(struct gmemi_watched *watched, struct gmemi_region *region)
{
	take_off(&watched->regions, region, compare_region, region->offset);
}

void gmemi_view_free(struct gmemi_view *view)
{
	if (view->mapping)
		gmemi_mapping_drop(view->region->watched->mem, view->mapping);
	gmemi_free(view);
}

struct gmemi_view *gmemi_index_view(const struct gmem_uffd *uffd, uint64_t address)
{
	size_t at = position(&uffd->views, compare_view, address);

	return at < uffd->views.count ? uffd->views.items[at] : NULL;
}

struct gmemi_region *gmemi_index_region(const struct gmemi_watched *watched, uint64_t offset)
{
	size_t at = position(&watched->regions, compare_region, offset);

	return at < watched->regions.count ? watched->regions.items[at] : NULL;
}

static struct gmemi_watched *find_watched(struct gmem_uffd *uffd, struct gmem *mem, unsigned int claims)
{
	struct gmemi_watched *watched;

	if (!mem)
		return &uffd->fileless;
	gmemi_lock(&mem->lock);
	watched = (struct gmemi_watched *)mem->watch;
	if (watched && watched->uffd == uffd)
		atomic_fetch_add_explicit(&watched->claims, claims, memory_order_relaxed);
	else
		watched = NULL;
	gmemi_unlock(&mem->lock);
	return watched;
}

struct gmemi_watched *gmemi_index_watched(struct gmem_uffd *uffd, struct gmem *mem)
{
	return find_watched(uffd, mem, 0);
}

struct gmemi_watched *gmemi_watched_hold(struct gmem_uffd *uffd, struct gmem *mem)
{
	return find_watched(uffd, mem, 1);
}

void gmemi_watched_let_go(struct gmemi_watched *watched)
{
	struct gmem_uffd *uffd = watched->uffd;

	if (!watched->mem || atomic_fetch_sub_explicit(&watched->claims, 1, memory_order_acq_rel) > 1)
		return;
	gmemi_table_end(&watched->regions);
	gmemi_free(watched);
	gmemi_uffd_release(uffd);
}

struct gmemi_region *gmemi_region_enter(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset)
{
	struct gmemi_region *region;

	gmemi_lock(&uffd->index_lock);
	region = gmemi_index_region(watched, offset);
	if (region && (region->offset > offset || !gmemi_region_reenter(region)))
		region = NULL;
	gmemi_unlock(&uffd->index_lock);
	return region;
}

struct gmemi_region *gmemi_region_enter_at(struct gmem_uffd *uffd, uint64_t hva)
{
	struct gmemi_region *region = NULL;
	struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	view = gmemi_index_view(uffd, hva);
	if (view && view->hva <= hva && gmemi_region_reenter(view->region))
		region = view->region;
	gmemi_unlock(&uffd->index_lock);
	return region;
}

struct gmemi_region *gmemi_region_next(struct gmem_uffd *uffd, uint64_t *address)
{
	struct gmemi_region *region = NULL;
	struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	while (!region && (view = gmemi_index_view(uffd, *address))) {
		*address = view->hva + view->length;
		if (view->region->views == view && gmemi_region_reenter(view->region))
			region = view->region;
	}
	gmemi_unlock(&uffd->index_lock);
	return region;
}

void gmemi_region_release(struct gmemi_region *region)
{
	if (atomic_fetch_sub_explicit(&region->claims, 1, memory_order_acq_rel) > 1)
		return;
	if (region->own_map)
		gmemi_pagemap_destroy(region->map);
	gmemi_free(region);
}
