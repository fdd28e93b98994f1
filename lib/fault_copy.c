/* SPDX-License-Identifier: MIT */
/* GMEM_STRATEGY_COPY: the kernel makes the page of a buffer, and maps it, in one. A page that is there is never written: it is
 * the truth. */
#include "fault_job.h"

#include <sys/mman.h>

#include "err.h"
#include "range.h"
#include "sys.h"

static void mark_filled(const struct gmemi_job *job, size_t page, size_t pages)
{
	gmemi_pagemap_set(job->region->map, gmemi_job_page(job, page), pages, GMEMI_PAGE_FILLED);
}

static size_t pages_of(const struct gmemi_job *job, uint64_t bytes)
{
	return (size_t)gmemi_region_pages(job->region, bytes);
}

/* The file gets them, where it has none, and whoever waits finds them there. */
static int zeros_by_file(struct gmemi_job *job, size_t page, size_t pages, size_t *did)
{
	int r = gmemi_job_allocate(job, page, pages);

	*did = 0;
	if (r < 0)
		return r;
	mark_filled(job, page, pages);
	gmemi_kernel_wake(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, pages));
	gmemi_count(&job->uffd->counters.zeroed, pages);
	*did = pages;
	return 0;
}

/* data NULL = zeros, if the kernel can make those; zero: so is what the data holds. *there pages of *did were there. */
static int make_of(struct gmemi_job *job, size_t page, size_t pages, const unsigned char *data, bool zero, size_t *did,
		   size_t *there)
{
	struct gmemi_fault_counters *c = &job->uffd->counters;
	uint64_t bytes, bytes_there;
	int r = gmemi_kernel_copy(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, pages), data,
				  &bytes, &bytes_there);

	*did = pages_of(job, bytes);
	*there = pages_of(job, bytes_there);
	gmemi_count(&c->duplicate, *there);
	gmemi_count(zero ? &c->zeroed : &c->filled, *did - *there);
	if (!zero)
		gmemi_count(&c->bytes, bytes - bytes_there);
	mark_filled(job, page, *did);
	if (r != -ENOENT)
		return r;
	*did += 1; /* unmapped by its owner: as it was */
	return 0;
}

static int make(struct gmemi_job *job, size_t page, size_t pages, const unsigned char *data, size_t *did)
{
	size_t there;

	return make_of(job, page, pages, data, !data, did, &there);
}

/* One: a mapping that nobody has written is zeros, and costs no memory. */
static int zeros_by_copy(struct gmemi_job *job, size_t page, size_t *did)
{
	size_t size = job->region->page_size, there;
	void *zeros;
	int r = gmemi_sys_map(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &zeros);

	*did = 0;
	if (r < 0)
		return gmemi_failed(r, "mapping a page of zeros", NULL);
	r = make_of(job, page, 1, zeros, true, did, &there);
	gmemi_sys_unmap(zeros, size);
	return r;
}

/* Of huge pages the kernel makes none by itself. */
static int make_zeros(struct gmemi_job *job, size_t page, size_t pages, size_t *did)
{
	if (job->region->zeropage)
		return make(job, page, pages, NULL, did);
	return gmemi_job_memory(job) ? zeros_by_file(job, page, pages, did) : zeros_by_copy(job, page, did);
}

static bool makes_zeros(const struct gmemi_job *job, size_t page)
{
	return job->wanted->along || gmemi_job_needs(job, page);
}

static int make_empty(struct gmemi_job *job, size_t page, size_t end, size_t *did)
{
	bool zero;
	size_t run = gmemi_job_alike(job, page, end, &zero);

	if (!zero)
		return make(job, page, run, gmemi_job_data(job, page), did);
	run = gmemi_job_one_side(job, page, page + run);
	if (makes_zeros(job, page))
		return make_zeros(job, page, run, did);
	gmemi_job_leave_zeros(job, page, run);
	*did = run;
	return 0;
}

/* Filled: there, and whoever waits wakes; or freed by somebody who does not tell, which is zeros. */
static int make_filled(struct gmemi_job *job, size_t page, size_t pages, size_t *did)
{
	int r = 0;

	*did = pages;
	if (job->region->zeropage)
		r = make(job, page, pages, NULL, did);
	else
		gmemi_kernel_wake(job->uffd, job->region, gmemi_job_offset(job, page), gmemi_job_bytes(job, pages));
	return r;
}

/* The state is looked at and acted on with no event read in between. */
static int step(struct gmemi_job *job, size_t page, size_t *did)
{
	size_t end = page + GMEMI_STEP_PAGES < job->pages ? page + GMEMI_STEP_PAGES : job->pages, run;
	enum gmemi_page_state state;

	*did = 0;
	run = gmemi_job_run(job, page, end, &state);
	if (state == GMEMI_PAGE_EMPTY && job->wanted->how != GMEM_RESOLVE_PRESENT)
		return make_empty(job, page, page + run, did);
	run = gmemi_job_one_side(job, page, page + run);
	if (state == GMEMI_PAGE_FILLED && gmemi_job_needs(job, page))
		return make_filled(job, page, run, did);
	if (state == GMEMI_PAGE_DISCARDED && makes_zeros(job, page))
		/* Unless it is there: then somebody has made it since, or MADV_DONTNEED has left it, and it may have been
		 * written without a fault. */
		return make_zeros(job, page, run, did);
	if (state == GMEMI_PAGE_EMPTY && gmemi_job_needs(job, page))
		return gmemi_job_refuse_empty(job, page, page + run);
	*did = run;
	return 0;
}

int gmemi_job_copy(struct gmemi_job *job, size_t *done)
{
	int r = 0;

	*done = 0;
	while (r == 0 && *done < job->pages) {
		size_t did;

		gmemi_gate_enter(&job->uffd->events);
		r = step(job, *done, &did);
		gmemi_gate_leave(&job->uffd->events);
		*done += did;
	}
	return r;
}
