/* SPDX-License-Identifier: MIT */
/* Regions and the memories that they are in: how they end, and what memory's own calls tell them. */
#include "fault.h"

#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "sys.h"

int gmemi_view_unregister(struct gmem_uffd *uffd, const struct gmemi_view *view)
{
	struct uffdi_range range = { .start = view->hva, .length = view->length };
	int r = gmemi_sys_ioctl(uffd->fd, UFFDI_UNREGISTER, &range);

	if (r < 0)
		return gmemi_failed(r, "UFFDIO_UNREGISTER", NULL);
	if (view->mapping) /* where it cannot be passed on, a child's copy of the memory has nothing to unmap there */
		(void)gmemi_sys_advise((void *)(uintptr_t)view->hva, view->length, MADV_DOFORK);
	return 0;
}

/* Nobody can read there any more; false = no way to do that. */
static bool shut(const struct gmemi_view *view)
{
	void *at = (void *)(uintptr_t)view->hva;

	return gmemi_sys_protect(at, view->length, PROT_NONE) == 0 ||
	       gmemi_sys_map(at, view->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0,
			     &at) == 0;
}

/* The memory ends while somebody may be waiting in a fault of it: he must not see zeros, so the mapping is shut first, and
 * stays watched, with the fd, where it cannot be. */
static bool close_view(struct gmem_uffd *uffd, const struct gmemi_view *view)
{
	struct uffdi_range range = { .start = view->hva, .length = view->length };

	if (!shut(view)) {
		gmemi_uffd_claim(uffd);
		return false;
	}
	if (gmemi_view_unregister(uffd, view) < 0)
		gmemi_tolerated();
	(void)gmemi_sys_ioctl(uffd->fd, UFFDI_WAKE, &range); /* what is not watched any more has woken nobody */
	return true;
}

/* --- regions ---------------------------------------------------------------------------------------------------------- */

struct gmemi_view *gmemi_region_take_out(struct gmem_uffd *uffd, struct gmemi_region *region)
{
	struct gmemi_view *views = NULL, *view;
	uint32_t busy;

	gmemi_lock(&uffd->index_lock);
	atomic_fetch_or(&region->busy, GMEMI_GONE);
	gmemi_index_remove_region(region->watched, region);
	while ((view = region->views)) {
		gmemi_index_remove_view(uffd, view);
		view->next = views;
		views = view;
	}
	gmemi_unlock(&uffd->index_lock);
	while ((busy = atomic_load(&region->busy)) != GMEMI_GONE)
		(void)gmemi_sys_wait(&region->busy, busy, UINT64_MAX);
	atomic_fetch_sub(&uffd->ranges, 1);
	atomic_fetch_sub(&uffd->length, region->length);
	return views;
}

void gmemi_views_free(struct gmemi_view *views)
{
	while (views) {
		struct gmemi_view *next = views->next;

		gmemi_view_free(views);
		views = next;
	}
}

void gmemi_region_end(struct gmem_uffd *uffd, struct gmemi_region *region, bool close)
{
	struct gmemi_view *views = gmemi_region_take_out(uffd, region);

	for (struct gmemi_view *view = views; close && view; view = view->next)
		if (!close_view(uffd, view))
			view->mapping = NULL; /* held for good */
	gmemi_views_free(views);
	gmemi_region_release(region);
}

/* --- memories --------------------------------------------------------------------------------------------------------- */

static bool covers(const struct gmemi_watch *watch, uint64_t offset, uint64_t length)
{
	const struct gmemi_watched *watched = (const struct gmemi_watched *)watch;
	const struct gmemi_region *region;
	bool covered;

	gmemi_lock(&watched->uffd->index_lock);
	region = gmemi_index_region(watched, offset);
	covered = region && region->offset < offset + length;
	gmemi_unlock(&watched->uffd->index_lock);
	return covered;
}

/* Whoever waits tries again, and finds the page, or asks the pager once more. */
static void filled(struct gmemi_watch *watch, uint64_t offset, uint64_t length)
{
	struct gmemi_watched *watched = (struct gmemi_watched *)watch;
	struct gmem_uffd *uffd = watched->uffd;
	uint64_t end = offset + length;

	while (offset < end) {
		struct gmemi_region *region;
		uint64_t part;

		gmemi_lock(&uffd->index_lock);
		region = gmemi_index_region(watched, offset);
		if (region)
			gmemi_region_claim(region);
		gmemi_unlock(&uffd->index_lock);
		if (!region)
			return;
		offset = offset > region->offset ? offset : region->offset;
		if (offset < end && gmemi_region_reenter(region)) {
			part = gmemi_min(end, region->offset + region->length) - offset;
			gmemi_kernel_wake(uffd, region, offset, part);
			gmemi_region_leave(region);
		}
		offset = region->offset + region->length;
		gmemi_region_release(region);
	}
}

/* An event that is being read is known to the page map after that. */
static void settle(struct gmemi_watch *watch)
{
	struct gmem_uffd *uffd = ((struct gmemi_watched *)watch)->uffd;

	gmemi_gate_enter(&uffd->events);
	gmemi_gate_leave(&uffd->events);
}

/* gmem_destroy(). In a forked child the kernel's userfaultfd is the parent's: nothing is said to it. */
static void leave(struct gmemi_watch *watch)
{
	struct gmemi_watched *watched = (struct gmemi_watched *)watch;
	struct gmemi_untold gone = { .last = true };
	struct gmem_uffd *uffd = watched->uffd;

	if (gmemi_vm_forked(uffd->vm)) {
		gmemi_uffd_release(uffd); /* the copies stay: they may be in the middle of anything */
		return;
	}
	pthread_mutex_lock(&uffd->register_lock);
	while (watched->regions.count) {
		struct gmemi_region *region = watched->regions.items[watched->regions.count - 1];

		gmemi_untold_note(&gone, region);
		gmemi_region_end(uffd, region, !region->peer);
	}
	gmemi_watch_end(watched->mem);
	pthread_mutex_unlock(&uffd->register_lock);
	gmemi_uffd_tell_removed(uffd, watched->mem, &gone);
	gmemi_watched_let_go(watched);
}

static int new_watched(struct gmem_uffd *uffd, struct gmem *mem, struct gmemi_watched **result)
{
	struct gmemi_watched *watched = gmemi_alloc(1, sizeof(*watched));
	int r;

	if (!watched)
		return -ENOMEM;
	*watched = (struct gmemi_watched){ .watch = { covers, filled, settle, leave }, .uffd = uffd, .mem = mem };
	atomic_init(&watched->claims, 1);
	gmemi_uffd_claim(uffd);
	r = gmemi_watch_begin(mem, &watched->watch);
	if (r < 0)
		gmemi_watched_let_go(watched);
	else
		*result = watched;
	return r;
}

int gmemi_watched_for(struct gmem_uffd *uffd, struct gmem *mem, struct gmemi_watched **watched)
{
	*watched = gmemi_index_watched(uffd, mem);
	return *watched ? 0 : new_watched(uffd, mem, watched);
}

void gmemi_watched_drop_if_unused(struct gmemi_watched *watched)
{
	if (!watched->mem || watched->regions.count)
		return;
	gmemi_watch_end(watched->mem);
	gmemi_watched_let_go(watched);
}

int gmemi_region_punch(struct gmemi_region *region, enum gmemi_page_state unwanted)
{
	struct gmem *mem = region->watched->mem;
	uint64_t at = region->offset, end = at + region->length;
	int r = 0;

	while (r == 0 && at < end) {
		uint64_t page = at / mem->page_size, most = gmemi_min((end - at) / mem->page_size, UINT64_C(1) << 20), run;
		enum gmemi_page_state state;
		struct gmemi_claim claim;

		run = gmemi_pagemap_run(mem->map, page, page + most, &state) * mem->page_size;
		gmemi_content_claim(mem, &claim, at, run);
		run = gmemi_pagemap_run(mem->map, page, page + run / mem->page_size, &state) * mem->page_size;
		if (state == unwanted)
			r = gmemi_memory_punch(mem, at, run);
		gmemi_content_leave(mem, &claim);
		at += run;
	}
	return r;
}
