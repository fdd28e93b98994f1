/* SPDX-License-Identifier: MIT */
/* Ranges that somebody asks for without touching them, and is told of when they are there: each step of one is a request as a
 * page fault makes it. */
#include "pager.h"

#include "err.h"
#include "range.h"
#include "sys.h"

#define AT_ONCE 8                 /* steps in one turn: whoever has faulted meanwhile need not wait for all of them */
#define STEP (UINT64_C(64) << 10) /* of one of them */
#define MOST_TRIES 64             /* of pages that are empty again and again */

int gmemi_pager_forward(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmemi_forward *forward)
{
	struct gmemi_forward **place;
	struct gmemi_endpoint *endpoint;
	int r = 0;

	endpoint = gmemi_endpoint_find(pager, uffd, &r);
	if (!endpoint)
		return r;
	forward->watched = gmemi_watched_hold(uffd, forward->mem);
	if (!forward->watched) {
		r = gmemi_refuse(-ENOENT, "this endpoint watches nothing of the memory");
	} else {
		gmemi_lock(&endpoint->lock);
		place = &endpoint->forwards;
		while (*place)
			place = &(*place)->next;
		*place = forward;
		gmemi_unlock(&endpoint->lock);
		gmemi_pager_want(endpoint, 0);
	}
	gmemi_endpoint_leave(endpoint); /* it may be the last, and all is told here */
	return r;
}

static void tell(struct gmemi_forward *forward, int code)
{
	gmemi_watched_let_go(forward->watched);
	forward->done(forward, code);
}

void gmemi_forwards_end(struct gmemi_endpoint *endpoint)
{
	struct gmemi_forward *forward;

	while ((forward = endpoint->forwards)) {
		endpoint->forwards = forward->next;
		tell(forward, -ENOENT);
	}
}

void gmemi_forwards_fail(struct gmemi_endpoint *endpoint, const struct gmemi_request *request, int error)
{
	for (struct gmemi_forward *f = endpoint->forwards; f; f = f->next)
		if (f->request == request && f->serial == request->serial)
			f->error = error;
	if (endpoint->forwards)
		gmemi_pager_want(endpoint, 0);
}

/* --- one step ----------------------------------------------------------------------------------------------------------- */

/* The lock is held, and given back. */
static void finish(struct gmemi_endpoint *endpoint, struct gmemi_forward *forward, int code)
{
	struct gmemi_forward **place = &endpoint->forwards;

	while (*place != forward)
		place = &(*place)->next;
	*place = forward->next;
	gmemi_unlock(&endpoint->lock);
	tell(forward, code);
}

static void wait_for(struct gmemi_forward *forward, const struct gmemi_request *request, uint64_t end)
{
	forward->request = request;
	forward->serial = request->serial;
	forward->asked_end = end;
}

/* The page that is next, and as many behind it as are in the same state. The region is entered. */
static uint64_t run_at(const struct gmemi_forward *forward, const struct gmemi_region *region, uint64_t *from,
		       enum gmemi_page_state *state)
{
	uint64_t page = region->page_size, first, end = gmemi_min(forward->end, region->offset + region->length);

	*from = region->offset + gmemi_round_down(forward->at - region->offset, page);
	end = gmemi_min(end, *from + (page > STEP ? page : STEP));
	first = gmemi_region_page(region, *from);
	return page * gmemi_pagemap_run(region->map, first, first + gmemi_region_pages(region, end - *from + page - 1), state);
}

/* What its request has made is behind it. */
static void advance(struct gmemi_forward *forward, const struct gmemi_region *region)
{
	enum gmemi_page_state state;
	uint64_t from, run = run_at(forward, region, &from, &state);

	if (state == GMEMI_PAGE_EMPTY)
		forward->tries++;
	else
		forward->at = gmemi_min(from + run, forward->asked_end);
	forward->request = NULL;
}

/* Somebody has asked for the page already. False: in vain. */
static bool join(struct gmemi_endpoint *endpoint, struct gmemi_forward *forward, struct gmemi_request *other, uint64_t from,
		 uint64_t now)
{
	uint64_t page = other->region->page_size;

	if (other->state == GMEMI_REQUEST_PARKED)
		return false;
	gmemi_request_join(endpoint, other, from, page, now);
	wait_for(forward, other, from + page);
	return true;
}

/* The region is entered, and left here; the lock is given back. */
static void ask(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_forward *forward,
		struct gmemi_region *region, struct gmemi_request *request, uint64_t now)
{
	enum gmemi_page_state state;
	uint64_t from, run = run_at(forward, region, &from, &state);

	while (run > region->page_size && gmemi_request_at(endpoint, region, from, run))
		run = gmemi_round_down(run / 2, region->page_size);
	gmemi_request_begin(endpoint, request, region, from, run, now);
	gmemi_request_need(endpoint, request, from, run, now);
	wait_for(forward, request, from + run);
	if (state == GMEMI_PAGE_EMPTY) {
		endpoint->complete = false;
		gmemi_background_resume(endpoint, now);
	}
	gmemi_region_claim(region);
	gmemi_region_leave(region);
	if (state == GMEMI_PAGE_EMPTY)
		gmemi_request_try(seat, endpoint, request);
	else
		gmemi_request_present(endpoint, request);
	gmemi_region_release(region);
}

/* The same, but: false = no request is left, and the lock is still held. */
static bool go_on(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_forward *forward,
		  struct gmemi_region *region, uint64_t now)
{
	struct gmemi_request *other, *request;
	uint64_t page = region->page_size, from = region->offset + gmemi_round_down(forward->at - region->offset, page);

	other = gmemi_request_at(endpoint, region, from, page);
	request = other ? NULL : gmemi_request_get(endpoint);
	if (request) {
		ask(seat, endpoint, forward, region, request, now);
		return true;
	}
	gmemi_region_leave(region);
	if (other && !join(endpoint, forward, other, from, now))
		finish(endpoint, forward, other->error ? other->error : -EIO);
	else if (other)
		gmemi_unlock(&endpoint->lock);
	return other;
}

/* The lock is held, and given back if true. */
static bool step(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_forward *forward, uint64_t now)
{
	struct gmemi_region *region;

	if (forward->error) {
		finish(endpoint, forward, forward->error);
		return true;
	}
	region = gmemi_region_enter(endpoint->uffd, forward->watched, forward->at);
	if (!region) {
		finish(endpoint, forward, -ENOENT);
		return true;
	}
	if (forward->request)
		advance(forward, region);
	if (forward->at >= forward->end || forward->tries > MOST_TRIES) {
		gmemi_region_leave(region);
		finish(endpoint, forward, forward->at >= forward->end ? 0 : -EIO);
		return true;
	}
	if (!gmemi_range_contains(region->offset, region->length, forward->at, 1)) {
		gmemi_region_leave(region); /* the next one has the rest */
		gmemi_unlock(&endpoint->lock);
		return true;
	}
	return go_on(seat, endpoint, forward, region, now);
}

/* One that does not wait for a request. */
static struct gmemi_forward *next_forward(const struct gmemi_endpoint *endpoint)
{
	struct gmemi_forward *forward = endpoint->forwards;

	while (forward && !forward->error && forward->request && forward->request->serial == forward->serial)
		forward = forward->next;
	return forward;
}

void gmemi_forwards_step(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, uint64_t now)
{
	for (int i = 0; i < AT_ONCE; i++) {
		struct gmemi_forward *forward;

		gmemi_lock(&endpoint->lock);
		forward = next_forward(endpoint);
		if (!forward || !step(seat, endpoint, forward, now)) { /* heard of again when a request ends */
			gmemi_unlock(&endpoint->lock);
			return;
		}
	}
	gmemi_pager_want(endpoint, 0);
}
