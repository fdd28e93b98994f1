/* SPDX-License-Identifier: MIT */
/* What the program asks for by itself: ranges ahead, and the end of paging. */
#include "pager.h"

#include "err.h"
#include "range.h"
#include "sys.h"

/* The region that the range begins in, claimed; NULL = it is not watched. */
static struct gmemi_region *region_for(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_watched *watched = gmemi_index_watched(uffd, mem);
	struct gmemi_region *region = watched ? gmemi_region_enter(uffd, watched, offset) : NULL;

	if (!region)
		return NULL;
	gmemi_region_claim(region);
	gmemi_region_leave(region);
	if (gmemi_range_contains(region->offset, region->length, offset, length) &&
	    gmemi_aligned((offset - region->offset) | length, region->page_size))
		return region;
	gmemi_region_release(region);
	return NULL;
}

static int queue_prefetch(struct gmemi_endpoint *endpoint, struct gmemi_region *region, uint64_t offset, uint64_t length)
{
	bool room;

	gmemi_lock(&endpoint->lock);
	room = endpoint->prefetch_count < GMEMI_PREFETCHES;
	if (room) {
		uint32_t at = (endpoint->prefetch_first + endpoint->prefetch_count++) % GMEMI_PREFETCHES;

		endpoint->prefetches[at] = (struct gmemi_prefetch){ region, offset, length };
		gmemi_background_resume(endpoint, gmemi_sys_now());
	}
	gmemi_unlock(&endpoint->lock);
	if (room)
		return 0;
	gmemi_region_release(region);
	return gmemi_refuse(-EAGAIN, "%d ranges are queued already", GMEMI_PREFETCHES);
}

int gmem_pager_prefetch(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_endpoint *endpoint;
	struct gmemi_region *region;
	int r;

	GMEMI_CALL();
	r = gmemi_endpoint_check(pager, uffd);
	if (r == 0)
		r = gmemi_range_check(offset, length, mem ? mem->page_size : gmemi_sys_page_size(),
				      mem ? mem->length : UINT64_MAX);
	endpoint = r < 0 ? NULL : gmemi_endpoint_find(pager, uffd, &r);
	if (!endpoint)
		return r;
	region = region_for(uffd, mem, offset, length);
	r = region ? queue_prefetch(endpoint, region, offset, length)
		   : gmemi_refuse(-ENOENT, "the range is not all in one watched region");
	gmemi_endpoint_leave(endpoint);
	return r;
}

/* --- finish ------------------------------------------------------------------------------------------------------------- */

/* Everything that is watched: memory by memory. -EBUSY: a page is empty again. */
static int unregister_all(struct gmem_uffd *uffd)
{
	for (;;) {
		struct gmemi_view *view;
		struct gmem *mem = NULL;
		uint64_t offset = 0, length = 0;
		int r;

		gmemi_lock(&uffd->index_lock);
		view = gmemi_index_view(uffd, 0);
		if (view) {
			mem = view->region->watched->mem;
			offset = view->region->offset;
			length = view->region->length;
		}
		gmemi_unlock(&uffd->index_lock);
		if (!view)
			return 0;
		r = gmem_uffd_unregister(uffd, mem, offset, length);
		if (r < 0 && r != -ENOENT)
			return r;
	}
}

static void set_finishing(struct gmemi_endpoint *endpoint, bool on)
{
	gmemi_lock(&endpoint->lock);
	endpoint->finishing = on;
	if (on) {
		endpoint->failed = false;
		endpoint->background_due = 0; /* whatever the cap has put off */
	}
	gmemi_unlock(&endpoint->lock);
	if (on)
		gmemi_pager_want(endpoint, 0);
}

/* 1 = nothing is empty any more, 0 = not yet, or why it never will be. */
static int look(struct gmemi_endpoint *endpoint)
{
	bool failed, complete;

	if (atomic_load(&endpoint->claims) & GMEMI_ENDED)
		return gmemi_refuse(-ENOENT, "the endpoint has been let go meanwhile");
	if (atomic_load(&endpoint->pager->stopping))
		return gmemi_refuse(-ESHUTDOWN, "the pager was stopped");
	gmemi_lock(&endpoint->lock);
	failed = endpoint->failed;
	complete = endpoint->complete;
	gmemi_unlock(&endpoint->lock);
	if (gmemi_endpoint_empty(endpoint->uffd) == 0)
		return complete; /* the program is told before it is let go */
	return failed ? gmemi_refuse(-EIO, "the source of some pages has failed: they stay watched") : 0;
}

static int wait_until_full(struct gmemi_endpoint *endpoint, uint64_t timeout_ns)
{
	uint64_t begun = gmemi_sys_now();

	for (;;) {
		uint32_t seen = atomic_load(&endpoint->changes);
		uint64_t passed = gmemi_sys_now() - begun;
		int r = look(endpoint);

		if (r)
			return r;
		if (timeout_ns != GMEM_FOREVER && passed >= timeout_ns)
			return gmemi_refuse(-ETIMEDOUT, "pages are still empty: call again");
		r = gmemi_sys_wait(&endpoint->changes, seen, timeout_ns == GMEM_FOREVER ? timeout_ns : timeout_ns - passed);
		if (r == -EINTR)
			return gmemi_refuse(-EINTR, "a signal came");
	}
}

static int finish(struct gmemi_endpoint *endpoint, uint64_t timeout_ns)
{
	int r;

	set_finishing(endpoint, true);
	do {
		r = wait_until_full(endpoint, timeout_ns);
		if (r == 1)
			r = unregister_all(endpoint->uffd);
	} while (r == -EBUSY);
	if (r != -ETIMEDOUT && r != -EINTR) /* then it goes on filling, until the next call */
		set_finishing(endpoint, false);
	if (r == 0 && gmemi_endpoint_end(endpoint))
		gmemi_endpoint_wait_alone(endpoint);
	return r;
}

int gmem_pager_finish(struct gmem_pager *pager, struct gmem_uffd *uffd, uint64_t timeout_ns)
{
	struct gmemi_endpoint *endpoint;
	int r;

	GMEMI_CALL();
	r = gmemi_endpoint_check_waiting(pager, uffd);
	endpoint = r < 0 ? NULL : gmemi_endpoint_find(pager, uffd, &r);
	if (!endpoint)
		return r;
	r = finish(endpoint, timeout_ns);
	gmemi_endpoint_leave(endpoint);
	return r;
}
