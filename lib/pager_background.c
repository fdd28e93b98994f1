/* SPDX-License-Identifier: MIT */
/* What nobody waits for: filling the rest, ranges that were asked for ahead, and allocating behind a fault. */
#include "pager.h"

#include <fcntl.h>

#include "err.h"
#include "range.h"
#include "sys.h"

#define STEP (UINT64_C(64) << 10) /* what whoever waits has to wait for, at most */
#define ADVICE (UINT64_C(1) << 20)
#define LOOK_AGAIN UINT64_C(10000000) /* nanoseconds, while what was asked for may yet fail, or be given up */
#define SECOND UINT64_C(1000000000)

static bool is_wanted(const struct gmemi_endpoint *endpoint)
{
	return ((endpoint->rate && !endpoint->complete) || endpoint->finishing || endpoint->prefetch_count) &&
	       endpoint->background < GMEMI_BACKGROUND_REQUESTS && endpoint->unused;
}

uint64_t gmemi_background_due(const struct gmemi_endpoint *endpoint)
{
	if (!is_wanted(endpoint))
		return UINT64_MAX;
	return endpoint->prefetch_count ? 0 : endpoint->background_due;
}

/* A piece that is empty and not asked for, of a region that is claimed. */
struct piece {
	struct gmemi_region *region;
	uint64_t offset, length;
	uint64_t hva; /* of the first byte that was looked at */
};

/* Cuts the piece to what is empty at its beginning; false: it has nothing, and what is next begins at *skip bytes. */
static bool cut(const struct gmemi_endpoint *endpoint, struct piece *piece, uint64_t *skip)
{
	const struct gmemi_region *region = piece->region;
	uint64_t page = region->page_size, first = gmemi_region_page(region, piece->offset), run;
	uint64_t end = first + gmemi_region_pages(region, piece->length);
	const struct gmemi_request *other;
	enum gmemi_page_state state;

	*skip = (gmemi_pagemap_find_empty(region->map, first, end) - first) * page;
	if (*skip)
		return false;
	run = gmemi_pagemap_run(region->map, first, gmemi_min(end, first + (page > STEP ? 1 : STEP / page)), &state) * page;
	*skip = run;
	if (state != GMEMI_PAGE_EMPTY) /* somebody was faster */
		return false;
	piece->length = run;
	other = gmemi_request_at(endpoint, region, piece->offset, page);
	if (other) {
		*skip = gmemi_min(run, other->offset + other->length - piece->offset);
		return false;
	}
	while (piece->length > page && gmemi_request_at(endpoint, region, piece->offset, piece->length))
		piece->length = gmemi_round_down(piece->length / 2, page);
	return true;
}

/* Within a region that is still watched: the first piece from offset on. */
static bool search(const struct gmemi_endpoint *endpoint, struct piece *piece)
{
	uint64_t end = piece->offset + piece->length, skip;
	bool found = false;

	if (!gmemi_region_reenter(piece->region))
		return false;
	while (!found && piece->offset < end) {
		piece->length = end - piece->offset;
		found = cut(endpoint, piece, &skip);
		if (!found)
			piece->offset += skip;
	}
	gmemi_region_leave(piece->region);
	return found;
}

/* What the program asked for comes first. */
static bool next_prefetch(struct gmemi_endpoint *endpoint, struct piece *piece)
{
	while (endpoint->prefetch_count) {
		struct gmemi_prefetch *first = &endpoint->prefetches[endpoint->prefetch_first];
		uint64_t end = first->offset + first->length;

		*piece = (struct piece){ .region = first->region, .offset = first->offset, .length = first->length };
		if (search(endpoint, piece)) {
			gmemi_region_claim(piece->region);
			first->offset = piece->offset + piece->length;
			first->length = end - first->offset;
			return true;
		}
		gmemi_region_release(first->region);
		endpoint->prefetch_first = (endpoint->prefetch_first + 1) % GMEMI_PREFETCHES;
		endpoint->prefetch_count--;
	}
	return false;
}

/* The part of a view from an address on, claimed; NULL region = there is none behind it. */
static struct piece view_from(struct gmem_uffd *uffd, uint64_t address, uint64_t *next)
{
	struct piece piece = { 0 };
	const struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	view = gmemi_index_view(uffd, address);
	if (view) {
		uint64_t within = address > view->hva ? gmemi_round_down(address - view->hva, view->region->page_size) : 0;

		piece = (struct piece){ view->region, view->offset + within, view->length - within, view->hva + within };
		*next = view->hva + view->length;
		gmemi_region_claim(piece.region);
	}
	gmemi_unlock(&uffd->index_lock);
	return piece;
}

/* In the views from an address on, below end; the cursor is left behind what was found. */
static bool search_views(struct gmemi_endpoint *endpoint, uint64_t at, uint64_t end, struct piece *piece)
{
	uint64_t next, from;

	while (at < end) {
		*piece = view_from(endpoint->uffd, at, &next);
		if (!piece->region)
			return false;
		from = piece->offset;
		if (search(endpoint, piece)) {
			endpoint->cursor = piece->hva + (piece->offset - from) + piece->length;
			return true;
		}
		gmemi_region_release(piece->region);
		at = next;
	}
	return false;
}

/* From where the last fault was to the end, then from the beginning. */
static bool next_empty(struct gmemi_endpoint *endpoint, struct piece *piece)
{
	uint64_t begin = endpoint->cursor;

	return search_views(endpoint, begin, UINT64_MAX, piece) || search_views(endpoint, 0, begin, piece);
}

/* Nothing is empty but what is being asked for. */
static void nothing_left(struct gmemi_endpoint *endpoint, uint64_t now)
{
	endpoint->background_due = endpoint->finishing || endpoint->pending ? now + LOOK_AGAIN : UINT64_MAX;
	endpoint->look_due = now;
	gmemi_endpoint_changed(endpoint);
}

static void pay(struct gmemi_endpoint *endpoint, uint64_t bytes, uint64_t now)
{
	uint64_t due = endpoint->background_due;

	if (due == UINT64_MAX || due < now)
		due = now;
	if (endpoint->rate && endpoint->rate != UINT64_MAX && !endpoint->finishing)
		due += bytes * SECOND / endpoint->rate;
	endpoint->background_due = due;
}

/* The lock is held. Its region is claimed for the caller. NULL: nothing to do, or no request to do it with. */
static struct gmemi_request *next_request(struct gmemi_endpoint *endpoint, uint64_t now, uint64_t *content)
{
	struct gmemi_request *request = gmemi_request_get(endpoint);
	struct piece piece;

	if (!request)
		return NULL;
	if (!next_prefetch(endpoint, &piece) && !((endpoint->rate || endpoint->finishing) && next_empty(endpoint, &piece))) {
		gmemi_request_put(endpoint, request);
		nothing_left(endpoint, now);
		return NULL;
	}
	if (!gmemi_region_reenter(piece.region)) {
		gmemi_request_put(endpoint, request);
		gmemi_region_release(piece.region);
		return NULL;
	}
	endpoint->complete = false;
	gmemi_request_begin(endpoint, request, piece.region, piece.offset, piece.length, now);
	*content = piece.region->content + (piece.offset - piece.region->offset);
	gmemi_region_leave(piece.region);
	pay(endpoint, piece.length, now);
	return request;
}

void gmemi_background_step(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, uint64_t now)
{
	struct gmemi_request *request = NULL;
	struct gmemi_region *region;
	uint64_t content;

	gmemi_lock(&endpoint->lock);
	if (gmemi_background_due(endpoint) <= now)
		request = next_request(endpoint, now, &content);
	if (!request) {
		gmemi_unlock(&endpoint->lock);
		return;
	}
	region = request->region;
	gmemi_request_try(seat, endpoint, request); /* gives the lock back */
	gmemi_region_release(region);
	if (gmemi_aligned(content, ADVICE))
		gmemi_source_advise(endpoint->source, content + ADVICE, ADVICE);
	gmemi_request_run_queue(seat, endpoint);
}

/* Up to the first page that is not empty: what was given up is not taken again. */
static uint64_t end_of_empty(const struct gmemi_region *region, uint64_t from, uint64_t end)
{
	uint64_t first = gmemi_region_page(region, from);
	enum gmemi_page_state state;
	uint64_t run = gmemi_pagemap_run(region->map, first, first + gmemi_region_pages(region, end - from), &state);

	return state == GMEMI_PAGE_EMPTY ? from + run * region->page_size : from;
}

/* Pages that are allocated already are filled at two thirds of the price. The fault is resolved by now. */
void gmemi_background_ahead(struct gmemi_endpoint *endpoint, struct gmemi_region *region, uint64_t offset)
{
	uint64_t end, from;

	if (!endpoint->ahead || !gmemi_region_reenter(region))
		return;
	end = gmemi_min(offset + endpoint->ahead, region->offset + region->length);
	end = gmemi_round_down(end - region->offset, region->page_size) + region->offset;
	gmemi_lock(&endpoint->lock);
	from = endpoint->ahead_end > offset && endpoint->ahead_end < end ? endpoint->ahead_end : offset;
	if (endpoint->ahead_end > offset && endpoint->ahead_end - offset > endpoint->ahead / 2 && endpoint->ahead_end <= end)
		from = end; /* half of it is still there */
	if (from < end)
		endpoint->ahead_end = end = end_of_empty(region, from, end);
	gmemi_unlock(&endpoint->lock);
	if (from < end && region->strategy == GMEM_STRATEGY_FILL)
		(void)gmemi_sys_fallocate(gmemi_memory_shared_fd(region->watched->mem), FALLOC_FL_KEEP_SIZE, from, end - from);
	gmemi_region_leave(region);
}

void gmemi_background_resume(struct gmemi_endpoint *endpoint, uint64_t now)
{
	if (endpoint->rate && endpoint->background_due == UINT64_MAX)
		endpoint->background_due = now;
	if (endpoint->rate || endpoint->prefetch_count)
		gmemi_pager_want(endpoint, gmemi_background_due(endpoint));
}
