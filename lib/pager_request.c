/* SPDX-License-Identifier: MIT */
/* Carrying out requests: asking the source, making the pages, trying again, giving up. */
#include "pager.h"

#include <string.h>

#include "err.h"
#include "range.h"
#include "sys.h"

#define READ_AT_ONCE (UINT64_C(2) << 20) /* what a source is asked for at most */
#define FIRST_RETRY UINT64_C(1000000)    /* nanoseconds, of a source that failed; doubled each time */
#define LAST_RETRY UINT64_C(1000000000)
#define FIRST_AGAIN UINT64_C(20000) /* ... of an address space that was changing */
#define LAST_AGAIN UINT64_C(5000000)

/* --- failure ------------------------------------------------------------------------------------------------------------ */

static uint64_t backoff(uint64_t first, uint64_t last, uint32_t tries)
{
	return tries < 32 ? gmemi_min(first << tries, last) : last;
}

static void again_at(struct gmemi_endpoint *endpoint, struct gmemi_request *request, enum gmemi_request_state state,
		     uint64_t when)
{
	request->state = state;
	request->due = when;
	request->tries++;
	gmemi_pager_want(endpoint, when);
}

/* Nobody waits: the background comes by again, or says that it could not. */
static void give_up_background(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	endpoint->failed = true;
	endpoint->background_due = gmemi_sys_now() + LAST_RETRY;
	gmemi_request_end(endpoint, request);
	gmemi_unlock(&endpoint->lock);
	gmemi_endpoint_changed(endpoint);
}

static void poison(struct gmemi_endpoint *endpoint, const struct gmemi_request *request, int *verdict)
{
	struct gmemi_wanted wanted = { .how = GMEM_RESOLVE_POISON,
				       .needed = request->needed,
				       .needed_length = request->needed_length };
	uint64_t done;
	int r;

	if (!gmemi_region_reenter(request->region))
		return;
	r = gmemi_region_resolve(endpoint->uffd, request->region, request->needed, request->needed_length, &wanted, &done);
	if (r == 0) /* who waits for a page that was not empty any more */
		gmemi_kernel_wake(endpoint->uffd, request->region, request->needed, request->needed_length);
	gmemi_region_leave(request->region);
	if (r == 0)
		return;
	gmemi_tolerated();
	*verdict = r == -EAGAIN ? -EAGAIN : GMEM_FAILURE_WAIT;
}

/* The deadline is over, or the source has not got it. The program decides while nothing is locked; a delivery may come first. */
static void give_up(struct gmemi_endpoint *endpoint, struct gmemi_request *request, int error)
{
	struct gmemi_request copy;
	int verdict;

	if (!request->needed_length) {
		give_up_background(endpoint, request);
		return;
	}
	if (atomic_load(&request->region->busy) & GMEMI_GONE) {
		gmemi_request_end(endpoint, request);
		gmemi_unlock(&endpoint->lock);
		return;
	}
	request->state = GMEMI_REQUEST_PARKED;
	request->due = UINT64_MAX;
	endpoint->failed = true;
	copy = *request;
	gmemi_region_claim(copy.region);
	gmemi_unlock(&endpoint->lock);
	verdict = gmemi_endpoint_tell(endpoint, GMEM_PAGER_SOURCE_FAILED, &copy, error);
	if (verdict == GMEM_FAILURE_POISON)
		poison(endpoint, &copy, &verdict);
	gmemi_lock(&endpoint->lock);
	if (request->serial == copy.serial && request->state == GMEMI_REQUEST_PARKED) {
		bool waits = verdict == GMEM_FAILURE_WAIT;

		if (!waits && (verdict == -EAGAIN || request->comer != copy.comer)) {
			again_at(endpoint, request, GMEMI_REQUEST_RETRY, gmemi_sys_now() + LAST_AGAIN);
		} else {
			gmemi_forwards_fail(endpoint, request, error);
			if (!waits)
				gmemi_request_end(endpoint, request);
		}
	}
	gmemi_unlock(&endpoint->lock);
	gmemi_region_release(copy.region);
	gmemi_endpoint_changed(endpoint);
}

/* A wide read may have failed for what nobody waits for; and one of several pages that somebody waits for, for one of them: who
 * waits for the others is heard of again. */
static bool narrow(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	uint64_t page = request->region->page_size;

	if (!request->needed_length || request->length == page)
		return false;
	if (request->length == request->needed_length && gmemi_region_reenter(request->region)) {
		gmemi_kernel_wake(endpoint->uffd, request->region, request->needed + page, request->needed_length - page);
		gmemi_region_leave(request->region);
		request->needed_length = page;
	}
	request->offset = request->needed;
	request->length = request->needed_length;
	return true;
}

void gmemi_request_failed(struct gmemi_endpoint *endpoint, struct gmemi_request *request, int error)
{
	uint64_t now = gmemi_sys_now(), wait = backoff(FIRST_RETRY, LAST_RETRY, request->tries);

	gmemi_tolerated();
	gmemi_count(&endpoint->uffd->counters.source_errors, 1);
	request->error = error;
	if (narrow(endpoint, request)) {
		again_at(endpoint, request, GMEMI_REQUEST_RETRY, now);
	} else if (error == -ENODATA || now >= request->deadline) {
		give_up(endpoint, request, error);
		return;
	} else {
		again_at(endpoint, request, GMEMI_REQUEST_RETRY, gmemi_min(now + wait, request->deadline));
	}
	gmemi_unlock(&endpoint->lock);
}

/* The lock is held. */
static void queue(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	request->state = GMEMI_REQUEST_QUEUED;
	atomic_store_explicit(&endpoint->queued, true, memory_order_relaxed);
}

/* --- making pages ------------------------------------------------------------------------------------------------------- */

struct attempt {
	struct gmemi_request *request;
	struct gmemi_region *region;
	uint64_t offset, length;
	struct gmemi_wanted wanted;
	uint64_t comer;
	uint32_t serial;
};

/* The lock is held. */
static struct attempt attempt_of(struct gmemi_request *request, enum gmem_resolve how, const unsigned char *data)
{
	struct attempt attempt = {
		.request = request, .region = request->region, .comer = request->comer, .serial = request->serial
	};
	bool alone = how == GMEM_RESOLVE_PRESENT && !request->along;

	attempt.wanted = (struct gmemi_wanted){ .how = how,
						.data = data,
						.needed = request->needed,
						.needed_length = request->needed_length,
						.ages = how != GMEM_RESOLVE_PRESENT,
						.age = request->age,
						.along = request->along };
	attempt.offset = alone ? request->needed : request->offset;
	attempt.length = alone ? request->needed_length : request->length;
	return attempt;
}

static int carry_out(struct gmemi_endpoint *endpoint, const struct attempt *attempt, uint64_t *done)
{
	int r;

	*done = 0;

	if (!gmemi_region_reenter(attempt->region))
		return -ENOENT; /* not watched any more: nobody waits */
	r = gmemi_region_resolve(endpoint->uffd, attempt->region, attempt->offset, attempt->length, &attempt->wanted, done);
	gmemi_region_leave(attempt->region);
	return r;
}

bool gmemi_request_is_over(const struct gmemi_request *request)
{
	struct gmemi_region *region = request->region;
	uint64_t offset = request->needed_length ? request->needed : request->offset;
	uint64_t length = request->needed_length ? request->needed_length : request->length, empty;

	if (!gmemi_region_reenter(region))
		return true;
	empty = gmemi_pagemap_count_empty(region->map, gmemi_region_page(region, offset), gmemi_region_pages(region, length));
	gmemi_region_leave(region);
	return empty == 0;
}

/* The address space was changing, or the page was given up for a new content meanwhile. */
static void resolve_again(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	uint64_t when = gmemi_sys_now() + backoff(FIRST_AGAIN, LAST_AGAIN, request->tries);

	gmemi_tolerated();
	gmemi_count(&endpoint->uffd->counters.retries, 1);
	if (!request->needed_length)
		gmemi_request_end(endpoint, request); /* what was brought in is in the map */
	else
		again_at(endpoint, request, gmemi_request_is_over(request) ? GMEMI_REQUEST_RESOLVE : GMEMI_REQUEST_RETRY, when);
	gmemi_unlock(&endpoint->lock);
}

/* With the lock, which is given back. True: somebody has come to wait for it meanwhile, and *next is for that: perhaps for a page
 * that had been made, and was given up since. */
static bool settle(struct gmemi_endpoint *endpoint, const struct attempt *attempt, int r, struct attempt *next)
{
	struct gmemi_request *request = attempt->request;

	if (r == -EAGAIN || r == -EBADFD) {
		if (r == -EBADFD)
			request->along = false; /* not all of it is there: what is needed by itself may be */
		resolve_again(endpoint, request);
	} else if (r < 0 && r != -ENOENT) {
		gmemi_request_failed(endpoint, request, r);
	} else if (r == 0 && request->comer != attempt->comer) {
		*next = attempt_of(request, GMEM_RESOLVE_PRESENT, NULL);
		gmemi_unlock(&endpoint->lock);
		return true;
	} else {
		gmemi_request_end(endpoint, request);
		gmemi_unlock(&endpoint->lock);
	}
	return false;
}

/* The lock is held, and given back. The caller has claimed the region: the request may end meanwhile. */
static void resolve(struct gmemi_endpoint *endpoint, struct gmemi_request *request, enum gmem_resolve how,
		    const unsigned char *data)
{
	struct attempt attempt = attempt_of(request, how, data), next = attempt;
	bool more = true;

	gmemi_unlock(&endpoint->lock);
	while (more) {
		uint64_t done;
		int r = carry_out(endpoint, &attempt, &done);

		if (r == -ESRCH) {
			gmemi_tolerated();
			gmemi_endpoint_orphaned(endpoint);
			r = -ENOENT;
		}
		gmemi_lock(&endpoint->lock);
		if (done)
			gmemi_endpoint_came(endpoint);
		more = request->serial == attempt.serial;
		if (more)
			more = settle(endpoint, &attempt, r, &next);
		else
			gmemi_unlock(&endpoint->lock);
		attempt = next;
	}
}

void gmemi_request_present(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	struct gmemi_region *region = request->region;

	request->state = GMEMI_REQUEST_READING;
	gmemi_region_claim(region);
	resolve(endpoint, request, GMEM_RESOLVE_PRESENT, NULL);
	gmemi_region_release(region);
}

/* --- asking the source -------------------------------------------------------------------------------------------------- */

/* In a part of the buffer. ZERO there becomes zeros, when other parts are not. */
static int read_part(struct gmemi_endpoint *endpoint, uint64_t content, uint64_t length, unsigned char *buffer, bool wait,
		     bool demand)
{
	if (!wait)
		return gmemi_source_read_now(endpoint->source, content, length, buffer);
	return gmemi_source_read(endpoint->source, content, length, buffer, demand ? GMEM_READ_DEMAND : 0);
}

static int read_parts(struct gmemi_endpoint *endpoint, uint64_t content, uint64_t length, unsigned char *buffer, bool wait,
		      bool demand)
{
	bool data = false;

	for (uint64_t at = 0; at < length; at += READ_AT_ONCE) {
		uint64_t part = gmemi_min(length - at, READ_AT_ONCE);
		int r = read_part(endpoint, content + at, part, buffer + at, wait, demand);

		if (r < 0 || r == GMEM_ANSWER_LATER)
			return r;
		if (r == GMEM_ANSWER_DATA && !data)
			memset(buffer, 0, at); /* the parts before were zeros */
		if (r == GMEM_ANSWER_ZERO && data)
			memset(buffer + at, 0, part);
		data = data || r == GMEM_ANSWER_DATA;
	}
	return data ? GMEM_ANSWER_DATA : GMEM_ANSWER_ZERO;
}

/* Before the source is asked, and its answer may come. The lock is held. */
static struct gmemi_request begin_asking(struct gmemi_request *request)
{
	request->early = 0;
	request->delivered = 0;
	request->age = request->mem ? gmemi_content_age(request->mem) : 0;
	return *request; /* others may come to wait for it too, or time may end it */
}

static int ask(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, const struct gmemi_request *copy, bool wait)
{
	int r = gmemi_seat_room(seat, copy->length);

	if (r < 0)
		return r;
	return read_parts(endpoint, copy->region->content + (copy->offset - copy->region->offset), copy->length, seat->buffer,
			  wait, copy->needed_length);
}

/* The source's answer; the lock is held, and given back. */
static void take_answer(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_request *request, int answer)
{
	if (answer < 0) {
		gmemi_request_failed(endpoint, request, answer);
	} else if (answer != GMEM_ANSWER_LATER) {
		resolve(endpoint, request, answer == GMEM_ANSWER_ZERO ? GMEM_RESOLVE_ZERO : GMEM_RESOLVE_DATA, seat->buffer);
	} else if (gmemi_request_is_over(request)) { /* delivered before the source had said that it would */
		resolve(endpoint, request, GMEM_RESOLVE_PRESENT, NULL);
	} else if (request->early == -EAGAIN) {
		again_at(endpoint, request, GMEMI_REQUEST_RETRY, gmemi_sys_now() + backoff(FIRST_AGAIN, LAST_AGAIN, request->tries));
		gmemi_unlock(&endpoint->lock);
	} else if (request->early) {
		gmemi_request_failed(endpoint, request, request->early);
	} else {
		request->state = GMEMI_REQUEST_LATER;
		gmemi_pager_want(endpoint, request->deadline);
		gmemi_unlock(&endpoint->lock);
	}
}

void gmemi_request_try(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	struct gmemi_request copy = begin_asking(request);
	int answer;

	gmemi_unlock(&endpoint->lock);
	answer = ask(seat, endpoint, &copy, false);
	gmemi_lock(&endpoint->lock);
	if (request->serial != copy.serial) {
		gmemi_unlock(&endpoint->lock);
	} else if (answer == -EAGAIN) {
		gmemi_tolerated();
		queue(endpoint, request);
		gmemi_pager_want(endpoint, request->deadline);
		gmemi_unlock(&endpoint->lock);
	} else {
		take_answer(seat, endpoint, request, answer);
	}
}

/* The oldest that somebody waits for, or else the oldest. */
static struct gmemi_request *next_queued(const struct gmemi_endpoint *endpoint)
{
	struct gmemi_request *best = NULL;

	for (struct gmemi_request *r = endpoint->pending; r; r = r->next)
		if (r->state == GMEMI_REQUEST_QUEUED && (!best || (r->needed_length != 0) >= (best->needed_length != 0)))
			best = r; /* the list is youngest first */
	return best;
}

/* One, with the lock held, which is given back. */
static void run_queued(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	struct gmemi_request copy;
	int answer;

	request->state = GMEMI_REQUEST_READING;
	copy = begin_asking(request);
	gmemi_region_claim(copy.region);
	endpoint->reading++;
	gmemi_unlock(&endpoint->lock);
	gmemi_seat_blocks(seat);
	answer = ask(seat, endpoint, &copy, true);
	gmemi_seat_unblocks(seat);
	gmemi_lock(&endpoint->lock);
	endpoint->reading--;
	if (request->serial == copy.serial && request->state == GMEMI_REQUEST_READING) {
		take_answer(seat, endpoint, request, answer);
	} else { /* it has been given up, or delivered */
		gmemi_tolerated();
		gmemi_unlock(&endpoint->lock);
	}
	gmemi_region_release(copy.region);
}

/* The next that this thread may ask for. The lock is held. */
static struct gmemi_request *take_queued(struct gmemi_endpoint *endpoint)
{
	struct gmemi_request *request = next_queued(endpoint);

	atomic_store_explicit(&endpoint->queued, request != NULL, memory_order_relaxed);
	return endpoint->reading < endpoint->pager->threads ? request : NULL;
}

void gmemi_request_run_queue(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint)
{
	while (gmemi_request_is_queued(endpoint)) {
		struct gmemi_request *request;

		gmemi_lock(&endpoint->lock);
		request = take_queued(endpoint);
		if (!request || atomic_load(&endpoint->claims) & GMEMI_ENDED) {
			gmemi_unlock(&endpoint->lock);
			return;
		}
		run_queued(seat, endpoint, request);
	}
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

static bool is_gone(const struct gmemi_request *request)
{
	return atomic_load(&request->region->busy) & GMEMI_GONE && request->state != GMEMI_REQUEST_READING;
}

void gmemi_request_drop_gone(struct gmemi_endpoint *endpoint)
{
	struct gmemi_request *request, *next;

	for (request = endpoint->pending; request; request = next) {
		next = request->next;
		if (is_gone(request))
			gmemi_request_end(endpoint, request);
	}
}

static bool is_late(const struct gmemi_request *request, uint64_t now)
{
	return now >= request->deadline && (request->state == GMEMI_REQUEST_QUEUED || request->state == GMEMI_REQUEST_READING ||
					    request->state == GMEMI_REQUEST_LATER);
}

static struct gmemi_request *next_due(const struct gmemi_endpoint *endpoint, uint64_t now)
{
	for (struct gmemi_request *r = endpoint->pending; r; r = r->next)
		if ((r->due <= now && (r->state == GMEMI_REQUEST_RETRY || r->state == GMEMI_REQUEST_RESOLVE)) ||
		    is_late(r, now))
			return r;
	return NULL;
}

static void run_one_due(struct gmemi_endpoint *endpoint, struct gmemi_request *request, uint64_t now)
{
	enum gmemi_request_state state = request->state;

	request->due = UINT64_MAX;
	if (is_late(request, now) && state == GMEMI_REQUEST_LATER && gmemi_request_is_over(request)) {
		/* Discarded, populated or unregistered while the source took its time. */
		gmemi_request_present(endpoint, request);
	} else if (is_late(request, now)) {
		gmemi_count(&endpoint->uffd->counters.source_errors, 1);
		give_up(endpoint, request, state == GMEMI_REQUEST_QUEUED && request->error ? request->error : -ETIMEDOUT);
	} else if (state == GMEMI_REQUEST_RESOLVE) {
		gmemi_request_present(endpoint, request);
	} else {
		queue(endpoint, request);
		gmemi_unlock(&endpoint->lock);
	}
}

void gmemi_request_run_due(struct gmemi_endpoint *endpoint, uint64_t now)
{
	struct gmemi_request *request;

	for (;;) {
		gmemi_lock(&endpoint->lock);
		request = next_due(endpoint, now);
		if (!request) {
			gmemi_unlock(&endpoint->lock);
			break;
		}
		run_one_due(endpoint, request, now);
	}
}
