/* SPDX-License-Identifier: MIT */
/* Floor 4, between the files that make pages be there: a range of one region, claimed, and what is wanted of it. */
#ifndef GMEMI_FAULT_JOB_H
#define GMEMI_FAULT_JOB_H

#include "bitmap.h"
#include "fault.h"
#include "fill.h"

#define GMEMI_JOB_BYTES (UINT64_C(2) << 20) /* at most, or one page */
#define GMEMI_JOB_PAGES 512
#define GMEMI_STEP_PAGES 64 /* that one call of the kernel gets: meanwhile no event is read */

struct gmemi_job {
	struct gmem_uffd *uffd;
	struct gmemi_region *region;
	const struct gmemi_wanted *wanted;
	const unsigned char *data; /* of the first byte, NULL = zeros */
	uint64_t offset;
	size_t pages;
	struct gmemi_fill fill;
	bool fills; /* `fill` has begun */
	/* GMEM_STRATEGY_FILL, a bit a page: to be mapped; and that holds zeros, whatever it was */
	uint64_t fresh[GMEMI_BITMAP_WORDS(GMEMI_JOB_PAGES)], zeroed[GMEMI_BITMAP_WORDS(GMEMI_JOB_PAGES)];
	uint64_t copied[GMEMI_BITMAP_WORDS(GMEMI_JOB_PAGES)]; /* and that the kernel is to make of the buffer */
};

/* fault_resolve.c */
static inline struct gmem *gmemi_job_memory(const struct gmemi_job *job)
{
	return job->region->watched->mem;
}
static inline uint64_t gmemi_job_offset(const struct gmemi_job *job, size_t page)
{
	return job->offset + page * job->region->page_size;
}
static inline uint64_t gmemi_job_bytes(const struct gmemi_job *job, size_t pages)
{
	return pages * job->region->page_size;
}
/* In the page map. */
static inline uint64_t gmemi_job_page(const struct gmemi_job *job, size_t page)
{
	return gmemi_region_page(job->region, job->offset) + page;
}
/* Is the page one that has to be there in the end? And how many from it on, below end, are so or are not, as it. */
bool gmemi_job_needs(const struct gmemi_job *job, size_t page);
size_t gmemi_job_one_side(const struct gmemi_job *job, size_t page, size_t end);
/* Pages from `page` on, below end, in one state. */
size_t gmemi_job_run(const struct gmemi_job *job, size_t page, size_t end, enum gmemi_page_state *state);
/* Pages from `page` on, below end, of content that is zeros, or is not. */
size_t gmemi_job_alike(const struct gmemi_job *job, size_t page, size_t end, bool *zero);
static inline const unsigned char *gmemi_job_data(const struct gmemi_job *job, size_t page)
{
	return job->data + gmemi_job_bytes(job, page);
}
/* Into the file. */
int gmemi_job_put(struct gmemi_job *job, size_t page, size_t pages);
int gmemi_job_put_zeros(struct gmemi_job *job, size_t page, size_t pages);
/* Zeros where the file has nothing; what it has stays. */
int gmemi_job_allocate(const struct gmemi_job *job, size_t page, size_t pages);
/* Empty pages of zeros that nobody needs now cost nothing: whoever comes for them gets them then. */
void gmemi_job_leave_zeros(const struct gmemi_job *job, size_t page, size_t pages);
/* An empty page that is needed has no content yet: -EBADFD. */
int gmemi_job_refuse_empty(const struct gmemi_job *job, size_t page, size_t end);

/* By each strategy: *done pages from the first on. */
int gmemi_job_fill(struct gmemi_job *job, size_t *done); /* fault_fill.c */
int gmemi_job_copy(struct gmemi_job *job, size_t *done); /* fault_copy.c */

#endif
