/* SPDX-License-Identifier: MIT */
/* What a source delivers by itself, in the thread that brings it: late answers, and pages that nobody has asked for. */
#include "pager.h"

#include <string.h>

#include "err.h"
#include "range.h"
#include "sys.h"

#define PAUSE UINT64_C(50000) /* nanoseconds, of an address space that is changing */
#define PAUSES 20000          /* a second: nobody reads its events */

/* A range of a region that a delivery is about. */
struct delivery {
	struct gmemi_endpoint *endpoint;
	struct gmemi_region *region; /* entered */
	uint64_t offset, length;
	const unsigned char *data; /* NULL = zeros */
	struct gmemi_wanted wanted;
	uint64_t comers; /* who were there before */
};

static bool is_about(const struct delivery *d, const struct gmemi_request *request)
{
	return request->region == d->region && gmemi_range_overlaps(request->offset, request->length, d->offset, d->length);
}

/* What somebody waits for in the range, from the first to the last of them. */
static struct gmemi_wanted wanted_of(struct delivery *d)
{
	struct gmemi_wanted wanted = { .how = d->data ? GMEM_RESOLVE_DATA : GMEM_RESOLVE_ZERO, .data = d->data };
	uint64_t first = UINT64_MAX, end = 0;

	gmemi_lock(&d->endpoint->lock);
	d->comers = d->endpoint->comers;
	for (const struct gmemi_request *r = d->endpoint->pending; r; r = r->next) {
		if (!is_about(d, r) || !r->needed_length)
			continue;
		first = gmemi_min(first, r->needed);
		end = r->needed + r->needed_length > end ? r->needed + r->needed_length : end;
	}
	gmemi_unlock(&d->endpoint->lock);
	if (first < end) {
		wanted.needed = first;
		wanted.needed_length = end - first;
	}
	return wanted;
}

static int make_pages(const struct delivery *d)
{
	struct gmemi_wanted wanted = d->wanted;
	_Atomic uint32_t nothing = 0;
	uint64_t done = 0, did;
	uint32_t pauses = 0;
	int r = 0;

	while (r == 0 && done < d->length) {
		wanted.data = d->data ? d->data + done : NULL;
		r = gmemi_region_resolve(d->endpoint->uffd, d->region, d->offset + done, d->length - done, &wanted, &did);
		done += did;
		if (r == -EAGAIN && pauses++ < PAUSES) {
			gmemi_tolerated();
			gmemi_count(&d->endpoint->uffd->counters.retries, 1);
			(void)gmemi_sys_wait(&nothing, 0, PAUSE);
			r = 0;
		}
	}
	if (done) {
		gmemi_lock(&d->endpoint->lock);
		gmemi_endpoint_came(d->endpoint);
		gmemi_unlock(&d->endpoint->lock);
	}
	return r;
}

static bool is_waiting(const struct gmemi_request *request)
{
	return request->state == GMEMI_REQUEST_LATER || request->state == GMEMI_REQUEST_PARKED ||
	       request->state == GMEMI_REQUEST_RETRY || request->state == GMEMI_REQUEST_QUEUED;
}

static bool is_served(const struct delivery *d, const struct gmemi_request *request)
{
	return request->comer <= d->comers &&
	       gmemi_range_contains(d->offset, d->length, request->needed, request->needed_length);
}

/* The part of [offset, offset + length) that the request is for, in 64ths of it. */
static uint64_t parts_of(const struct gmemi_request *request, uint64_t offset, uint64_t length)
{
	uint64_t part = (request->length + 63) / 64, end = request->offset + request->length, first = 0, last;

	if (!gmemi_range_overlaps(request->offset, request->length, offset, length))
		return 0;
	if (offset > request->offset)
		first = (offset - request->offset) / part;
	last = (gmemi_min(offset + length, end) - 1 - request->offset) / part;
	return UINT64_MAX << first & UINT64_MAX >> (63 - last);
}

/* The source takes the question for answered. */
static void ask_anew(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	uint64_t now = gmemi_sys_now(), limit = endpoint->pager->deadline_ns;

	if (request->state == GMEMI_REQUEST_READING)
		request->early = -EAGAIN;
	if (request->state != GMEMI_REQUEST_LATER && request->state != GMEMI_REQUEST_PARKED)
		return;
	request->state = GMEMI_REQUEST_RETRY;
	request->due = now;
	request->deadline = limit > UINT64_MAX - now ? UINT64_MAX : now + limit;
	gmemi_pager_want(endpoint, now);
}

void gmemi_request_join(struct gmemi_endpoint *endpoint, struct gmemi_request *request, uint64_t offset, uint64_t length,
			uint64_t now)
{
	gmemi_request_need(endpoint, request, offset, length, now);
	if (request->delivered & parts_of(request, offset, length))
		ask_anew(endpoint, request);
}

/* Pages that were delivered, and given up for new content before that was said here. */
static bool is_empty_again(const struct delivery *d, const struct gmemi_request *request)
{
	uint64_t first = d->offset > request->offset ? d->offset : request->offset;
	uint64_t end = gmemi_min(d->offset + d->length, request->offset + request->length);

	return gmemi_pagemap_count_empty(d->region->map, gmemi_region_page(d->region, first),
					 gmemi_region_pages(d->region, end - first)) != 0;
}

static void take_delivery(const struct delivery *d, struct gmemi_request *request)
{
	request->delivered |= parts_of(request, d->offset, d->length);
	if (is_empty_again(d, request)) {
		ask_anew(d->endpoint, request);
	} else if (is_waiting(request) && gmemi_request_is_over(request)) {
		if (!request->needed_length || is_served(d, request)) {
			gmemi_request_end(d->endpoint, request);
			return;
		}
		request->state = GMEMI_REQUEST_RESOLVE; /* somebody has come while the pages were made */
		request->due = 0;
		gmemi_pager_want(d->endpoint, 0);
	}
}

/* Those that have got all they need end. */
static void take_deliveries(const struct delivery *d)
{
	struct gmemi_request *request, *next;

	gmemi_lock(&d->endpoint->lock);
	for (request = d->endpoint->pending; request; request = next) {
		next = request->next;
		if (is_about(d, request))
			take_delivery(d, request);
	}
	gmemi_unlock(&d->endpoint->lock);
}

/* Those that a thread asks for at this moment: the answer is known before the source has said that it will come. */
static void refuse_early(const struct delivery *d, int answer)
{
	for (struct gmemi_request *r = d->endpoint->pending; r; r = r->next)
		if (is_about(d, r) && r->state == GMEMI_REQUEST_READING)
			r->early = answer;
}

/* One that the source speaks of: asked again, or failed. NULL = no more. */
static struct gmemi_request *next_refused(const struct delivery *d)
{
	struct gmemi_request *r = d->endpoint->pending;

	while (r && !(is_about(d, r) && (r->state == GMEMI_REQUEST_LATER || r->state == GMEMI_REQUEST_PARKED)))
		r = r->next;
	return r;
}

static void ask_again(const struct delivery *d)
{
	struct gmemi_request *request;

	gmemi_lock(&d->endpoint->lock);
	refuse_early(d, -EAGAIN);
	while ((request = next_refused(d)))
		ask_anew(d->endpoint, request);
	gmemi_unlock(&d->endpoint->lock);
}

static struct gmemi_request *next_failed(const struct delivery *d)
{
	struct gmemi_request *r = d->endpoint->pending;

	while (r && !(is_about(d, r) && r->state == GMEMI_REQUEST_LATER))
		r = r->next;
	return r;
}

static void fail(const struct delivery *d, int error)
{
	gmemi_lock(&d->endpoint->lock);
	refuse_early(d, error);
	gmemi_unlock(&d->endpoint->lock);
	for (;;) {
		struct gmemi_request *request;

		gmemi_lock(&d->endpoint->lock);
		request = next_failed(d);
		if (!request)
			break;
		gmemi_request_failed(d->endpoint, request, error); /* gives the lock back */
	}
	gmemi_unlock(&d->endpoint->lock);
}

/* Whole pages of it; the others are the source's mistake. */
static int deliver_to(struct delivery *d, int answer)
{
	uint64_t page = d->region->page_size;
	int r;

	if (answer == -EAGAIN) {
		ask_again(d);
		return 0;
	}
	if (answer < 0) {
		fail(d, answer);
		return 0;
	}
	if (!gmemi_aligned(d->offset - d->region->offset, page) || !gmemi_aligned(d->length, page))
		return gmemi_refuse(-EINVAL, "what is delivered is not of whole pages of 0x%llx bytes",
				    (unsigned long long)page);
	d->wanted = wanted_of(d);
	r = make_pages(d);
	if (r == 0)
		take_deliveries(d);
	return r;
}

static int deliver_to_region(struct gmemi_endpoint *endpoint, struct gmemi_region *region, uint64_t content, uint64_t length,
			     const unsigned char *data, int answer)
{
	uint64_t first = content > region->content ? content : region->content;
	uint64_t end = gmemi_min(content + length, region->content + region->length);
	struct delivery d = { .endpoint = endpoint, .region = region };

	if (first >= end)
		return 0;
	d.offset = region->offset + (first - region->content);
	d.length = end - first;
	d.data = answer == GMEM_ANSWER_DATA ? data + (first - content) : NULL;
	return deliver_to(&d, answer);
}

static int deliver_to_regions(struct gmemi_endpoint *endpoint, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct gmemi_region *region;
	uint64_t address = 0;
	int r = 0;

	while ((region = gmemi_region_next(endpoint->uffd, &address))) {
		int result = deliver_to_region(endpoint, region, offset, length, data, answer);

		gmemi_region_leave(region);
		r = r < 0 ? r : result;
	}
	return r;
}

int gmemi_endpoint_deliver(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct gmemi_endpoint *endpoint = (struct gmemi_endpoint *)((char *)user - offsetof(struct gmemi_endpoint, user));
	struct gmem_pager *pager = endpoint->pager;
	const struct gmem_pager *before;
	int r;

	if (!gmemi_endpoint_enter(pager, endpoint->tag))
		return 0; /* it is being let go */
	before = gmemi_pager_go_inside(pager);
	r = deliver_to_regions(endpoint, offset, length, data, answer);
	if (r == -ESRCH) {
		gmemi_tolerated();
		gmemi_endpoint_orphaned(endpoint);
		r = 0;
	}
	gmemi_pager_go_outside(before);
	gmemi_endpoint_leave(endpoint);
	return r;
}
