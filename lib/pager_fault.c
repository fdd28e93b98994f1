/* SPDX-License-Identifier: MIT */
/* Page faults become requests: how much around the page, and whether somebody has asked for it already. */
#include "pager.h"

#include "err.h"
#include "range.h"
#include "sys.h"

#define SCATTERED (UINT64_C(16) << 10)
#define SEQUENTIAL (UINT64_C(64) << 10)
#define READ_AGAIN UINT64_C(5000000) /* nanoseconds after events that cannot be read */
#define IN_SEQUENCE 2                /* faults, each where the one before ended, that make a sequence */

/* --- around ------------------------------------------------------------------------------------------------------------- */

struct window {
	uint64_t offset, length;
};

static struct gmemi_stream *stream_at(struct gmemi_endpoint *endpoint, uint64_t hva)
{
	for (int i = 0; i < GMEMI_STREAMS; i++)
		if (endpoint->streams[i].end == hva)
			return &endpoint->streams[i];
	endpoint->next_stream = (endpoint->next_stream + 1) % GMEMI_STREAMS;
	endpoint->streams[endpoint->next_stream] = (struct gmemi_stream){ 0 };
	return &endpoint->streams[endpoint->next_stream];
}

/* As it lies in the memory: an aligned block around the page, or, in a sequence, what comes next. */
static struct window wish(struct gmemi_endpoint *endpoint, uint64_t offset, const struct gmemi_stream *stream)
{
	uint64_t size = endpoint->pager->around;

	if (endpoint->pager->around_mode == GMEM_AROUND_NONE)
		return (struct window){ offset, 1 };
	if (endpoint->pager->around_mode == GMEM_AROUND_ADAPTIVE) {
		if (stream->length >= IN_SEQUENCE)
			return (struct window){ offset, SEQUENTIAL };
		size = SCATTERED;
	}
	return (struct window){ gmemi_round_down(offset, size), size };
}

/* In a sequence, pages of zeros come along as well, and those that are there: by itself each of them would be a fault. */
static bool takes_along(const struct gmemi_endpoint *endpoint, const struct gmemi_stream *stream)
{
	return endpoint->pager->around_mode != GMEM_AROUND_NONE && stream->length >= IN_SEQUENCE;
}

static bool is_empty(const struct gmemi_region *region, uint64_t offset)
{
	return gmemi_pagemap_get(region->map, gmemi_region_page(region, offset)) == GMEMI_PAGE_EMPTY;
}

/* Only what is empty, without a gap, and in the region. */
static struct window cut(const struct gmemi_region *region, uint64_t offset, struct window wanted)
{
	uint64_t start = offset, end = wanted.offset + wanted.length, limit = region->offset + region->length,
		 page = region->page_size, first = gmemi_region_page(region, offset);
	enum gmemi_page_state state;

	end = end < offset + page ? offset + page : gmemi_min(end, limit);
	end = offset + page * gmemi_pagemap_run(region->map, first, first + gmemi_region_pages(region, end - offset), &state);
	while (start > region->offset && start >= wanted.offset + page && is_empty(region, start - page))
		start -= page;
	return (struct window){ start, end - start };
}

/* The lock is held. */
static struct window around(struct gmemi_endpoint *endpoint, const struct gmemi_region *region, const struct gmem_fault *fault,
			    bool *along)
{
	struct gmemi_stream *stream = stream_at(endpoint, fault->hva);
	struct window window = cut(region, fault->offset, wish(endpoint, fault->offset, stream));

	if (gmemi_request_at(endpoint, region, window.offset, window.length))
		window = (struct window){ fault->offset, region->page_size };
	*along = takes_along(endpoint, stream);
	stream->end = fault->hva + (window.offset + window.length - fault->offset);
	stream->length++;
	return window;
}

/* Of pages that are there, or were given up: what lies behind the page in the same state. The lock is held. */
static struct window behind(struct gmemi_endpoint *endpoint, const struct gmemi_region *region, const struct gmem_fault *fault,
			    bool *along)
{
	struct gmemi_stream *stream = stream_at(endpoint, fault->hva);
	struct window window = { fault->offset, region->page_size };

	*along = takes_along(endpoint, stream);
	if (*along)
		window = cut(region, fault->offset, (struct window){ fault->offset, SEQUENTIAL });
	if (gmemi_request_at(endpoint, region, window.offset, window.length))
		window.length = region->page_size;
	stream->end = fault->hva + window.length;
	stream->length++;
	return window;
}

/* --- one fault ---------------------------------------------------------------------------------------------------------- */

/* Takes over the request, or gives it back. The region is entered, and left here. */
static void bring_in(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_region *region,
		     const struct gmem_fault *fault, struct gmemi_request *request, uint64_t now)
{
	struct gmemi_request *other;
	struct window window;
	bool along;

	gmemi_lock(&endpoint->lock);
	other = gmemi_request_at(endpoint, region, fault->offset, region->page_size);
	if (other) {
		gmemi_request_join(endpoint, other, fault->offset, region->page_size, now);
		gmemi_request_put(endpoint, request);
		gmemi_unlock(&endpoint->lock);
		gmemi_region_leave(region);
		return;
	}
	window = around(endpoint, region, fault, &along);
	gmemi_request_begin(endpoint, request, region, window.offset, window.length, now);
	request->along = along;
	gmemi_request_need(endpoint, request, fault->offset, region->page_size, now);
	endpoint->cursor = fault->hva;
	endpoint->complete = false;
	gmemi_background_resume(endpoint, now);
	gmemi_region_claim(region);
	gmemi_region_leave(region);
	gmemi_request_try(seat, endpoint, request); /* gives the lock back */
	gmemi_background_ahead(endpoint, region, window.offset + window.length);
	gmemi_region_release(region);
}

/* What the map has an answer for. The region is entered, and left here. */
static void show(struct gmemi_endpoint *endpoint, struct gmemi_region *region,
		 const struct gmem_fault *fault, struct gmemi_request *request, uint64_t now)
{
	struct window window;
	bool along;

	gmemi_lock(&endpoint->lock);
	window = behind(endpoint, region, fault, &along);
	gmemi_request_begin(endpoint, request, region, window.offset, window.length, now);
	request->along = along;
	gmemi_request_need(endpoint, request, fault->offset, region->page_size, now);
	gmemi_region_leave(region);
	gmemi_request_present(endpoint, request); /* gives the lock back */
}

static void give_back(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	gmemi_lock(&endpoint->lock);
	gmemi_request_put(endpoint, request);
	gmemi_endpoint_hear_again(endpoint);
	gmemi_unlock(&endpoint->lock);
}

static void serve_page(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, const struct gmem_fault *fault,
		       struct gmemi_request *request, uint64_t now)
{
	struct gmemi_region *region = gmemi_region_enter_at(endpoint->uffd, fault->hva);

	if (!region) { /* unregistered since: whoever waited there went on */
		give_back(endpoint, request);
		return;
	}
	if (is_empty(region, fault->offset))
		bring_in(seat, endpoint, region, fault, request, now);
	else
		show(endpoint, region, fault, request, now);
}

/* The program looks, then whoever writes may. Where the address space is changing, which may be for an event that is still to be
 * read, he tries again, and is heard of again. */
static void serve_protected(struct gmemi_endpoint *endpoint, const struct gmem_fault *fault)
{
	struct gmemi_request about = { .mem = fault->mem, .needed = fault->offset, .needed_length = fault->length };
	struct gmemi_region *region;

	gmemi_endpoint_tell(endpoint, GMEM_PAGER_PROTECTED, &about, 0);
	region = gmemi_region_enter_at(endpoint->uffd, fault->hva);
	if (!region)
		return;
	if (gmemi_kernel_protect(endpoint->uffd, region, fault->offset, fault->length, false) < 0)
		gmemi_kernel_wake(endpoint->uffd, region, fault->offset, fault->length);
	gmemi_tolerated();
	gmemi_region_leave(region);
}

/* --- events ------------------------------------------------------------------------------------------------------------- */

/* How many may be read of it now; the lock is held. */
static uint32_t within_budget(struct gmemi_endpoint *endpoint, uint32_t most)
{
	uint64_t until = endpoint->budget.until;
	uint32_t count;

	if (!endpoint->budget.each)
		return most;
	count = gmemi_budget_take(&endpoint->budget, most, gmemi_sys_now());
	if (count)
		return count;
	if (endpoint->budget.until != until)
		gmemi_count(&endpoint->uffd->counters.throttled, 1);
	gmemi_pager_want(endpoint, endpoint->budget.until);
	return 0;
}

/* Before events are read there is a request for each: none may be lost. As many are taken as there is room for, so that the lock
 * is not taken for each. */
static uint32_t get_spares(struct gmemi_endpoint *endpoint, struct gmemi_spares *spares, uint32_t wanted)
{
	uint32_t may, count;

	if (spares->count >= wanted && !endpoint->budget.each)
		return wanted;
	gmemi_lock(&endpoint->lock);
	may = within_budget(endpoint, wanted);
	while (spares->count < GMEMI_SPARES && (spares->requests[spares->count] = gmemi_request_get(endpoint)))
		spares->count++;
	count = spares->count < may ? spares->count : may;
	gmemi_budget_give(&endpoint->budget, may - count);
	endpoint->deaf = endpoint->deaf || count == 0;
	gmemi_unlock(&endpoint->lock);
	return count;
}

/* So many events were allowed and did not come. */
static void give_back_budget(struct gmemi_endpoint *endpoint, uint32_t unread)
{
	if (!unread || !endpoint->budget.each)
		return;
	gmemi_lock(&endpoint->lock);
	gmemi_budget_give(&endpoint->budget, unread);
	gmemi_endpoint_hear_again(endpoint);
	gmemi_unlock(&endpoint->lock);
}

void gmemi_endpoint_put_spares(struct gmemi_endpoint *endpoint, struct gmemi_spares *spares)
{
	if (!spares->count)
		return;
	gmemi_lock(&endpoint->lock);
	while (spares->count)
		gmemi_request_put(endpoint, spares->requests[--spares->count]);
	gmemi_endpoint_hear_again(endpoint);
	gmemi_unlock(&endpoint->lock);
}

static void cannot_read(struct gmemi_endpoint *endpoint, int error)
{
	gmemi_tolerated();
	if (error == -ESRCH) {
		gmemi_endpoint_orphaned(endpoint);
		return;
	}
	gmemi_lock(&endpoint->lock);
	endpoint->deaf = true;
	gmemi_unlock(&endpoint->lock);
	gmemi_pager_want(endpoint, gmemi_sys_now() + READ_AGAIN);
}

static void serve_events(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, const struct gmem_fault *faults, int count,
			 struct gmemi_spares *spares)
{
	uint64_t now = gmemi_sys_now();

	for (int i = 0; i < count; i++) {
		if (faults[i].kind == GMEM_FAULT_PAGE) {
			gmemi_seat_saw(seat, faults[i].thread);
			serve_page(seat, endpoint, &faults[i], spares->requests[--spares->count], now);
		} else if (faults[i].kind == GMEM_FAULT_PROTECTED) {
			serve_protected(endpoint, &faults[i]);
		}
	}
}

int gmemi_endpoint_serve(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_spares *spares, bool *drained)
{
	struct gmem_fault faults[GMEMI_SPARES];
	/* Of several threads each takes one: the next may be better off with another. */
	uint32_t count = get_spares(endpoint, spares, endpoint->pager->threads > 1 ? 1 : seat->batch + 1);
	int got = count ? gmemi_uffd_read(endpoint->uffd, faults, count) : 0;

	seat->batch = got < GMEMI_SPARES && got > 0 ? (uint32_t)got : seat->batch; /* no more are got ready than come */
	*drained = got < (int)count || count == 0; /* without a request nothing is read before there is one */
	if (got > 0)
		serve_events(seat, endpoint, faults, got, spares);
	give_back_budget(endpoint, got > 0 ? count - (uint32_t)got : count);
	if (got < 0)
		cannot_read(endpoint, got);
	return got > 0 ? got : 0;
}
