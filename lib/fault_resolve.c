/* SPDX-License-Identifier: MIT */
/* Making pages be there. The page map decides what a page is to hold; the pages are claimed while that is done. */
#include "fault_job.h"

#include <fcntl.h>
#include <string.h>

#include "err.h"
#include "range.h"
#include "sys.h"

#define TRIES 64 /* of calls that meet a changing address space, before the caller has to read events */

static unsigned char zeros[UINT64_C(64) << 10]; /* never written */

bool gmemi_job_needs(const struct gmemi_job *job, size_t page)
{
	return gmemi_range_contains(job->wanted->needed, job->wanted->needed_length, gmemi_job_offset(job, page), 1);
}

size_t gmemi_job_one_side(const struct gmemi_job *job, size_t page, size_t end)
{
	size_t at = page + 1;

	while (at < end && gmemi_job_needs(job, at) == gmemi_job_needs(job, page))
		at++;
	return at - page;
}

size_t gmemi_job_run(const struct gmemi_job *job, size_t page, size_t end, enum gmemi_page_state *state)
{
	uint64_t first = gmemi_job_page(job, 0);

	return (size_t)gmemi_pagemap_run(job->region->map, first + page, first + end, state);
}

static bool is_zeros(const struct gmemi_job *job, size_t page)
{
	return gmemi_fill_is_zero(gmemi_job_data(job, page), job->region->page_size);
}

size_t gmemi_job_alike(const struct gmemi_job *job, size_t page, size_t end, bool *zero)
{
	size_t at = page + 1;

	*zero = !job->data || is_zeros(job, page);
	if (!job->data)
		return end - page;
	while (at < end && is_zeros(job, at) == *zero)
		at++;
	return at - page;
}

/* What was found out when the range was registered holds, but of a file that others may have changed. */
static int begin_fill(struct gmemi_job *job)
{
	if (gmemi_job_memory(job)->imported)
		return gmemi_fill_begin(&job->fill, gmemi_job_memory(job), 0, false);
	job->fill = job->region->fill;
	return 0;
}

static int put(struct gmemi_job *job, uint64_t offset, const unsigned char *data, uint64_t length)
{
	uint64_t done;
	int r = job->fills ? 0 : begin_fill(job);

	job->fills = r == 0;
	return r < 0 ? r : gmemi_fill_put(&job->fill, offset, data, length, &done);
}

int gmemi_job_put(struct gmemi_job *job, size_t page, size_t pages)
{
	return put(job, gmemi_job_offset(job, page), gmemi_job_data(job, page), gmemi_job_bytes(job, pages));
}

int gmemi_job_put_zeros(struct gmemi_job *job, size_t page, size_t pages)
{
	uint64_t offset = gmemi_job_offset(job, page), left = gmemi_job_bytes(job, pages);
	int r = 0;

	while (r == 0 && left) {
		uint64_t part = gmemi_min(left, sizeof(zeros));

		r = put(job, offset, zeros, part);
		offset += part;
		left -= part;
	}
	return r;
}

int gmemi_job_allocate(const struct gmemi_job *job, size_t page, size_t pages)
{
	int r = gmemi_sys_fallocate(gmemi_memory_shared_fd(gmemi_job_memory(job)), FALLOC_FL_KEEP_SIZE,
				    gmemi_job_offset(job, page), gmemi_job_bytes(job, pages));

	return r < 0 ? gmemi_failed(r, "fallocate()", NULL) : 0;
}

void gmemi_job_leave_zeros(const struct gmemi_job *job, size_t page, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		gmemi_pagemap_change(job->region->map, gmemi_job_page(job, page + i), GMEMI_PAGE_EMPTY, GMEMI_PAGE_DISCARDED);
}

int gmemi_job_refuse_empty(const struct gmemi_job *job, size_t page, size_t end)
{
	while (page < end && !gmemi_job_needs(job, page))
		page++;
	if (page == end)
		return 0;
	return gmemi_refuse(-EBADFD, "the page at 0x%llx is empty: its content has not come yet",
			    (unsigned long long)gmemi_job_offset(job, page));
}

/* Those that are empty; the others have content. */
static int poison(struct gmemi_job *job, size_t *done)
{
	int r = 0;

	*done = 0;
	while (r == 0 && *done < job->pages) {
		enum gmemi_page_state state;
		size_t run = gmemi_job_run(job, *done, job->pages, &state);
		uint64_t bytes = gmemi_job_bytes(job, run);

		if (state == GMEMI_PAGE_EMPTY)
			r = gmemi_kernel_poison(job->uffd, job->region, gmemi_job_offset(job, *done), bytes, &bytes);
		*done += (size_t)gmemi_region_pages(job->region, bytes);
	}
	return r;
}

static struct gmemi_claims *claims_of(struct gmemi_region *region)
{
	return region->watched->mem ? &region->watched->mem->content : &region->watched->content;
}

static bool is_stale(const struct gmemi_job *job)
{
	struct gmem *mem = gmemi_job_memory(job);

	return job->wanted->ages && mem &&
	       gmemi_content_is_stale(mem, job->wanted->age, job->offset, gmemi_job_bytes(job, job->pages));
}

static int do_job(struct gmemi_job *job, size_t *done)
{
	struct gmemi_claim claim;
	int r;

	gmemi_claim_take(claims_of(job->region), &claim, job->offset, gmemi_job_bytes(job, job->pages));
	if (is_stale(job))
		r = gmemi_refuse(-EAGAIN, "new content is wanted since this was asked for");
	else if (job->wanted->how == GMEM_RESOLVE_POISON)
		r = poison(job, done);
	else
		r = job->region->strategy == GMEM_STRATEGY_COPY ? gmemi_job_copy(job, done) : gmemi_job_fill(job, done);
	gmemi_claim_drop(claims_of(job->region), &claim);
	return r;
}

/* Most are of one page, and bits of pages that it has not got are not looked at. */
static void begin(struct gmemi_job *job, struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, size_t pages)
{
	size_t words = GMEMI_BITMAP_WORDS(pages);

	job->uffd = uffd;
	job->region = region;
	job->offset = offset;
	job->pages = pages;
	job->fills = false;
	for (size_t i = 0; i < words; i++)
		job->fresh[i] = job->zeroed[i] = job->copied[i] = 0;
}

int gmemi_region_resolve(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
			 const struct gmemi_wanted *wanted, uint64_t *done)
{
	uint64_t most = region->page_size > GMEMI_JOB_BYTES ? region->page_size : GMEMI_JOB_BYTES;
	int r = 0;

	*done = 0;
	while (r == 0 && *done < length) {
		struct gmemi_job job;
		size_t did = 0;

		begin(&job, uffd, region, offset + *done, (size_t)gmemi_region_pages(region, gmemi_min(length - *done, most)));
		job.wanted = wanted;
		job.data = wanted->how == GMEM_RESOLVE_DATA ? wanted->data + *done : NULL;
		r = do_job(&job, &did);
		*done += gmemi_job_bytes(&job, did);
	}
	return r;
}

/* The part of the range that is in the region at its beginning. */
static int resolve_in_region(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset, uint64_t length,
			     enum gmem_resolve how, const unsigned char *data, uint64_t *did)
{
	struct gmemi_region *region = gmemi_region_enter(uffd, watched, offset);
	struct gmemi_wanted wanted = { .how = how, .data = data, .needed = offset, .needed_length = length };
	int r = 0;

	*did = 0;
	if (!region)
		return gmemi_refuse(-ENOENT, "offset 0x%llx is not watched", (unsigned long long)offset);
	length = gmemi_min(length, region->offset + region->length - offset);
	if (!gmemi_aligned(offset | length, region->page_size)) {
		r = gmemi_refuse(-EINVAL, "the range is not of whole pages of 0x%llx bytes",
				 (unsigned long long)region->page_size);
	} else if (how == GMEM_RESOLVE_WAKE) {
		gmemi_kernel_wake(uffd, region, offset, length);
		*did = length;
	} else {
		r = gmemi_region_resolve(uffd, region, offset, length, &wanted, did);
	}
	gmemi_region_leave(region);
	return r;
}

/* A moment of somebody else's madvise() or mmap() is waited for here; one that waits for its event to be read is not. */
static int resolve(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset, uint64_t length,
		   enum gmem_resolve how, const unsigned char *data, uint64_t *done)
{
	uint32_t tries = 0;
	int r = 0;

	while (r == 0 && *done < length) {
		uint64_t did;

		r = resolve_in_region(uffd, watched, offset + *done, length - *done, how, data ? data + *done : NULL, &did);
		*done += did;
		if (r == -EAGAIN && (did || ++tries < TRIES)) {
			gmemi_count(&uffd->counters.retries, 1);
			gmemi_tolerated();
			gmemi_sys_yield();
			r = 0;
		}
	}
	return r;
}

/* -EINVAL, or what the memory is to this endpoint, held. */
static int check_range(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length,
		       struct gmemi_watched **watched)
{
	int r = gmemi_uffd_check(uffd);

	if (r == 0 && mem)
		r = gmemi_range_check(offset, length, mem->page_size, mem->length);
	else if (r == 0)
		r = gmemi_range_check(offset, length, gmemi_sys_page_size(), UINT64_MAX);
	if (r < 0)
		return r;
	*watched = gmemi_watched_hold(uffd, mem);
	return *watched ? 0 : gmemi_refuse(-ENOENT, "this endpoint watches nothing of the memory");
}

int gmem_uffd_resolve(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length, enum gmem_resolve how,
		      const void *data, uint64_t *done)
{
	struct gmemi_watched *watched = NULL;
	uint64_t so_far = 0;
	int r;

	GMEMI_CALL();
	r = check_range(uffd, mem, offset, length, &watched);
	if (r == 0 && (how < GMEM_RESOLVE_DATA || how > GMEM_RESOLVE_WAKE))
		r = gmemi_refuse(-EINVAL, "how %d is unknown", (int)how);
	if (r == 0 && how == GMEM_RESOLVE_DATA && !data)
		r = gmemi_refuse(-EINVAL, "data is NULL");
	if (r == 0)
		r = resolve(uffd, watched, offset, length, how, how == GMEM_RESOLVE_DATA ? data : NULL, &so_far);
	if (watched)
		gmemi_watched_let_go(watched);
	if (done)
		*done = so_far;
	return r;
}

static int protect_in_region(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset, uint64_t length, bool on,
			     uint64_t *did)
{
	struct gmemi_region *region = gmemi_region_enter(uffd, watched, offset);
	int r;

	*did = 0;
	if (!region)
		return gmemi_refuse(-ENOENT, "offset 0x%llx is not watched", (unsigned long long)offset);
	length = gmemi_min(length, region->offset + region->length - offset);
	if (!region->protects)
		r = gmemi_refuse(-EBADFD, "the region was registered without GMEM_REGISTER_WRITE_PROTECT");
	else
		r = gmemi_kernel_protect(uffd, region, offset, length, on);
	if (r == 0)
		*did = length;
	gmemi_region_leave(region);
	return r;
}

int gmem_uffd_protect(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length, int on, uint64_t *done)
{
	struct gmemi_watched *watched = NULL;
	uint64_t so_far = 0, did;
	int r;

	GMEMI_CALL();
	r = check_range(uffd, mem, offset, length, &watched);
	if (r == 0 && on != 0 && on != 1)
		r = gmemi_refuse(-EINVAL, "on is %d, neither 0 nor 1", on);
	for (; r == 0 && so_far < length; so_far += did)
		r = protect_in_region(uffd, watched, offset + so_far, length - so_far, on, &did);
	if (watched)
		gmemi_watched_let_go(watched);
	if (done)
		*done = so_far;
	return r;
}
