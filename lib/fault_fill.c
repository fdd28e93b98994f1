/* SPDX-License-Identifier: MIT */
/* GMEM_STRATEGY_FILL: the file gets the content, then the page map says so, then the kernel maps it. */
#include "fault_job.h"

#include "err.h"
#include "range.h"

#define COPY_MISSES 8 /* pages that were there when they were to be made: the region's pages are allocated ahead */
#define REFILLS 3     /* of one page that somebody frees again and again while it is mapped */

static void set_bits(uint64_t *words, size_t page, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		gmemi_bitmap_assign(words, page + i, true);
}

static int store_zeros(struct gmemi_job *job, size_t page, size_t pages)
{
	int r = gmemi_job_put_zeros(job, page, pages);

	if (r < 0)
		return r;
	set_bits(job->fresh, page, pages);
	set_bits(job->zeroed, page, pages);
	gmemi_count(&job->uffd->counters.zeroed, pages);
	return 0;
}

/* UFFDIO_COPY allocates, fills, maps and wakes in one, but maps before anybody can look at the page map once more. That is good
 * where all who may change it hold claims: in this process. */
static bool may_copy(const struct gmemi_job *job)
{
	return atomic_load_explicit(&job->region->copies, memory_order_relaxed) &&
	       !atomic_load_explicit(&gmemi_job_memory(job)->map_lent, memory_order_relaxed);
}

static int store_data(struct gmemi_job *job, size_t page, size_t pages)
{
	bool copy = may_copy(job);
	int r = copy ? 0 : gmemi_job_put(job, page, pages);

	if (r < 0)
		return r;
	set_bits(job->fresh, page, pages);
	if (copy)
		set_bits(job->copied, page, pages);
	gmemi_count(&job->uffd->counters.filled, pages);
	gmemi_count(&job->uffd->counters.bytes, gmemi_job_bytes(job, pages));
	return 0;
}

static int store_or_leave_zeros(struct gmemi_job *job, size_t page, size_t end)
{
	int r = 0;

	while (r == 0 && page < end) {
		size_t side = gmemi_job_one_side(job, page, end);

		if (gmemi_job_needs(job, page) || job->wanted->along)
			r = store_zeros(job, page, side);
		else
			gmemi_job_leave_zeros(job, page, side);
		page += side;
	}
	return r;
}

static int store_empty(struct gmemi_job *job, size_t page, size_t end)
{
	int r = 0;

	if (job->wanted->how == GMEM_RESOLVE_PRESENT)
		return gmemi_job_refuse_empty(job, page, end);
	while (r == 0 && page < end) {
		bool zero;
		size_t run = gmemi_job_alike(job, page, end, &zero);

		r = zero ? store_or_leave_zeros(job, page, page + run) : store_data(job, page, run);
		page += run;
	}
	return r;
}

/* Pages that the map has an answer for: those that are needed are mapped, after zeros if they were given up. */
static int take_known(struct gmemi_job *job, size_t page, size_t end, enum gmemi_page_state state)
{
	int r = 0;

	while (r == 0 && page < end) {
		size_t side = gmemi_job_one_side(job, page, end);

		if ((gmemi_job_needs(job, page) || job->wanted->along) && state == GMEMI_PAGE_DISCARDED) {
			r = store_zeros(job, page, side);
		} else if (gmemi_job_needs(job, page) || job->wanted->along) {
			set_bits(job->fresh, page, side);
			gmemi_count(&job->uffd->counters.present, side);
		}
		page += side;
	}
	return r;
}

static int store_all(struct gmemi_job *job)
{
	size_t page = 0;
	int r = 0;

	while (r == 0 && page < job->pages) {
		enum gmemi_page_state state;
		size_t run = gmemi_job_run(job, page, job->pages, &state);

		r = state == GMEMI_PAGE_EMPTY ? store_empty(job, page, page + run) : take_known(job, page, page + run, state);
		page += run;
	}
	return r;
}

/* From now on the file holds what the page is: false = it was given up meanwhile. Zeros are right all the same. */
static bool mark_filled(const struct gmemi_job *job, size_t page)
{
	struct gmemi_pagemap *map = job->region->map;
	uint64_t number = gmemi_job_page(job, page);
	enum gmemi_page_state found = gmemi_pagemap_change(map, number, GMEMI_PAGE_EMPTY, GMEMI_PAGE_FILLED);

	if (found == GMEMI_PAGE_DISCARDED && gmemi_bitmap_test(job->zeroed, page))
		found = gmemi_pagemap_change(map, number, GMEMI_PAGE_DISCARDED, GMEMI_PAGE_FILLED);
	else if (found == GMEMI_PAGE_DISCARDED)
		return false;
	return true;
}

/* There already, or mapped nowhere any more: put into the file all the same. */
static int put_instead(struct gmemi_job *job, size_t page)
{
	if (atomic_fetch_add(&job->region->copy_misses, 1) >= COPY_MISSES)
		atomic_store(&job->region->copies, false);
	gmemi_bitmap_assign(job->copied, page, false);
	return gmemi_job_put(job, page, 1);
}

/* As publish(), of pages that the kernel is to make. */
static int publish_copies(struct gmemi_job *job, size_t page, size_t pages, size_t *done, bool *lost)
{
	enum gmemi_page_state state;
	uint64_t bytes = 0;
	size_t run;
	int r = 0;

	gmemi_gate_enter(&job->uffd->events);
	run = gmemi_job_run(job, page, page + pages, &state);
	*lost = state == GMEMI_PAGE_DISCARDED;
	if (!*lost)
		r = gmemi_kernel_copy_new(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, run),
					  gmemi_job_data(job, page), &bytes);
	*done = (size_t)gmemi_region_pages(job->region, bytes);
	gmemi_pagemap_set(job->region->map, gmemi_job_page(job, page), *done, GMEMI_PAGE_FILLED);
	gmemi_gate_leave(&job->uffd->events);
	if (*lost)
		gmemi_bitmap_assign(job->copied, page, false);
	return r == -EEXIST || r == -ENOENT ? put_instead(job, page + *done) : r;
}

/* Marks and maps from `page` on: *done pages. *lost: the next one was given up. */
static int publish(struct gmemi_job *job, size_t page, size_t pages, size_t *done, bool *lost)
{
	uint64_t bytes = 0;
	size_t marked = 0;
	int r = 0;

	gmemi_gate_enter(&job->uffd->events);
	while (marked < pages && mark_filled(job, page + marked))
		marked++;
	if (marked)
		r = gmemi_kernel_continue(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, marked),
					  &bytes);
	gmemi_gate_leave(&job->uffd->events);
	*done = (size_t)gmemi_region_pages(job->region, bytes);
	*lost = r == 0 && marked < pages;
	return r;
}

/* What was put into a page that was given up meanwhile goes again; whoever needs the page gets zeros. */
static int replace_lost(struct gmemi_job *job, size_t page)
{
	if (gmemi_job_needs(job, page))
		return store_zeros(job, page, 1);
	gmemi_bitmap_assign(job->fresh, page, false);
	return gmemi_memory_punch(gmemi_job_memory(job), gmemi_job_offset(job, page), job->region->page_size);
}

static int publish_some(struct gmemi_job *job, size_t page, size_t pages, size_t *done, bool *lost)
{
	bool copied = gmemi_bitmap_test(job->copied, page);

	pages = gmemi_bitmap_run(job->copied, page, page + pages);
	return copied ? publish_copies(job, page, pages, done, lost) : publish(job, page, pages, done, lost);
}

static int map_all(struct gmemi_job *job, size_t *done)
{
	uint32_t refills = 0;
	size_t page = 0;
	int r = 0;

	while (r == 0 && page < job->pages) {
		size_t run = gmemi_bitmap_run(job->fresh, page, job->pages), did = run;
		bool lost = false;

		if (gmemi_bitmap_test(job->fresh, page))
			r = publish_some(job, page, run < GMEMI_STEP_PAGES ? run : GMEMI_STEP_PAGES, &did, &lost);
		page += did;
		refills = did ? 0 : refills + 1;
		if (lost)
			r = replace_lost(job, page);
		else if (r == -EFAULT &&
			 refills <= REFILLS) /* the file has nothing there: freed by somebody who does not tell */
			r = gmemi_job_allocate(job, page, 1);
	}
	*done = page;
	return r;
}

int gmemi_job_fill(struct gmemi_job *job, size_t *done)
{
	int r = store_all(job);

	*done = 0;
	return r < 0 ? r : map_all(job, done);
}
