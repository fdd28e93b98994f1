/* SPDX-License-Identifier: MIT */
/* GMEM_STRATEGY_FILL: the file gets the content, then the page map says so, then the kernel maps it. */
#include "fault_job.h"

#include "err.h"
#include "range.h"

#define REFILLS 3 /* of one page that somebody frees again and again while it is mapped */

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

static int store_data(struct gmemi_job *job, size_t page, size_t pages)
{
	int r = gmemi_job_put(job, page, pages);

	if (r < 0)
		return r;
	set_bits(job->fresh, page, pages);
	gmemi_count(&job->uffd->counters.filled, pages);
	gmemi_count(&job->uffd->counters.bytes, gmemi_job_bytes(job, pages));
	return 0;
}

static int store_or_leave_zeros(struct gmemi_job *job, size_t page, size_t end)
{
	int r = 0;

	while (r == 0 && page < end) {
		size_t side = gmemi_job_one_side(job, page, end);

		if (gmemi_job_needs(job, page))
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
		return gmemi_job_refuse_empty(job, page);
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

		if (gmemi_job_needs(job, page) && state == GMEMI_PAGE_DISCARDED) {
			r = store_zeros(job, page, side);
		} else if (gmemi_job_needs(job, page)) {
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

/* Marks and maps from `page` on: *done pages. *lost: the next one was given up. */
static int publish(struct gmemi_job *job, size_t page, size_t pages, size_t *done, bool *lost)
{
	uint64_t bytes = 0;
	size_t marked = 0;
	int r = 0;

	gmemi_events_share(job->uffd);
	while (marked < pages && mark_filled(job, page + marked))
		marked++;
	if (marked)
		r = gmemi_kernel_continue(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, marked), &bytes);
	gmemi_events_leave(job->uffd);
	*done = (size_t)(bytes / job->region->page_size);
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

static int map_all(struct gmemi_job *job, size_t *done)
{
	uint32_t refills = 0;
	size_t page = 0;
	int r = 0;

	while (r == 0 && page < job->pages) {
		size_t run = gmemi_bitmap_run(job->fresh, page, job->pages), did = run;
		bool lost = false;

		if (gmemi_bitmap_test(job->fresh, page))
			r = publish(job, page, run < GMEMI_STEP_PAGES ? run : GMEMI_STEP_PAGES, &did, &lost);
		page += did;
		refills = did ? 0 : refills + 1;
		if (lost)
			r = replace_lost(job, page);
		else if (r == -EFAULT && refills <= REFILLS) /* the file has nothing there: freed by somebody who does not tell */
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
