/* SPDX-License-Identifier: MIT */
/* Requests of an endpoint: which are free, which are under way, and who waits for what of them. */
#include "pager.h"

#include "err.h"
#include "range.h"
#include "sys.h"

struct gmemi_request *gmemi_request_get(struct gmemi_endpoint *endpoint)
{
	struct gmemi_request *request = endpoint->unused;

	if (request)
		endpoint->unused = request->next;
	return request;
}

void gmemi_request_put(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	request->next = endpoint->unused;
	endpoint->unused = request;
}

void gmemi_request_begin(struct gmemi_endpoint *endpoint, struct gmemi_request *request, struct gmemi_region *region,
			 uint64_t offset, uint64_t length, uint64_t now)
{
	uint64_t limit = endpoint->pager->deadline_ns;

	*request = (struct gmemi_request){
		.next = endpoint->pending,
		.region = region,
		.mem = region->watched->mem,
		.offset = offset,
		.length = length,
		.since = now,
		.due = UINT64_MAX,
		.deadline = limit > UINT64_MAX - now ? UINT64_MAX : now + limit,
		.serial = request->serial,
		.state = GMEMI_REQUEST_READING,
	};
	gmemi_region_claim(region);
	endpoint->pending = request;
	endpoint->background++;
}

void gmemi_request_need(struct gmemi_endpoint *endpoint, struct gmemi_request *request, uint64_t offset, uint64_t length,
			uint64_t now)
{
	uint64_t end = offset + length, needed_end = request->needed + request->needed_length;

	if (request->needed_length) {
		offset = gmemi_min(offset, request->needed);
		end = end > needed_end ? end : needed_end;
	}
	request->needed = offset;
	request->needed_length = end - offset;
	request->comer = ++endpoint->comers;
	if (request->faults++ == 0) {
		request->since = now;
		endpoint->background--;
		gmemi_pager_want(endpoint, gmemi_background_due(endpoint));
	}
	gmemi_count(&endpoint->uffd->counters.pending, 1);
}

struct gmemi_request *gmemi_request_at(const struct gmemi_endpoint *endpoint, const struct gmemi_region *region,
				       uint64_t offset, uint64_t length)
{
	struct gmemi_request *request = endpoint->pending;

	while (request &&
	       !(request->region == region && gmemi_range_overlaps(request->offset, request->length, offset, length)))
		request = request->next;
	return request;
}

static void count_latency(struct gmemi_endpoint *endpoint, const struct gmemi_request *request)
{
	uint64_t ns = gmemi_sys_now() - request->since;

	for (uint32_t i = 0; i < request->faults; i++)
		gmemi_uffd_count_latency(endpoint->uffd, ns);
}

void gmemi_request_end(struct gmemi_endpoint *endpoint, struct gmemi_request *request)
{
	struct gmemi_request **link = &endpoint->pending;

	while (*link != request)
		link = &(*link)->next;
	*link = request->next;
	if (request->faults) {
		atomic_fetch_sub_explicit(&endpoint->uffd->counters.pending, request->faults, memory_order_relaxed);
		count_latency(endpoint, request);
	} else {
		endpoint->background--;
	}
	gmemi_region_release(request->region);
	request->state = GMEMI_REQUEST_FREE;
	request->serial++;
	gmemi_request_put(endpoint, request);
	gmemi_endpoint_hear_again(endpoint);
	/* Both may have been waiting for a request. */
	gmemi_pager_want(endpoint, endpoint->forwards ? 0 : gmemi_background_due(endpoint));
}
