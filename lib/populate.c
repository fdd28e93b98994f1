/* SPDX-License-Identifier: MIT */
#include <gmem/populate.h>

#include <string.h>

#include "bitmap.h"
#include "err.h"
#include "fill.h"
#include "opts.h"
#include "populate_input.h"
#include "range.h"
#include "sys.h"

/* Measured best of 16 KiB to 8 MiB for guest_memfd: one call each to allocate, to clear and map, to copy. */
#define CHUNK (UINT64_C(2) << 20)
#define LARGEST_CHUNK (UINT64_C(1) << 30)

struct job {
	struct gmem_populate_opts opts;
	struct gmemi_fill fill;
	struct gmemi_input input;
	uint64_t offset, length, done;
};

static bool is_zero(const unsigned char *page, uint64_t size)
{
	return page[0] == 0 && memcmp(page, page + 1, (size_t)size - 1) == 0;
}

/* Pages whose last byte has been dealt with since `from`. */
static void mark(const struct job *job, uint64_t from, enum gmemi_page_state state)
{
	uint64_t size = job->fill.mem->page_size;
	uint64_t first = (job->offset + from) / size, end = (job->offset + job->done) / size;

	if (job->fill.mem->map)
		gmemi_pagemap_set(job->fill.mem->map, first, end - first, state);
}

/* A page that was zeros for good and now has a few bytes is complete: zeros and these bytes. */
static void mark_begun(const struct job *job)
{
	uint64_t size = job->fill.mem->page_size, at = job->offset + job->done;

	if (job->fill.mem->map && at % size)
		gmemi_pagemap_change(job->fill.mem->map, at / size, GMEMI_PAGE_DISCARDED, GMEMI_PAGE_FILLED);
}

/* Left absent: zeros, whatever a source may hold. */
static void skip(struct job *job, uint64_t length)
{
	atomic_fetch_add(&job->fill.mem->skipped, length);
	job->done += length;
	mark(job, job->done - length, GMEMI_PAGE_DISCARDED);
}

static int store(struct job *job, const unsigned char *data, uint64_t length)
{
	uint64_t done;
	int r = gmemi_fill_put(&job->fill, job->offset + job->done, data, length, &done);

	atomic_fetch_add(&job->fill.mem->populated, done);
	job->done += done;
	mark(job, job->done - done, GMEMI_PAGE_FILLED);
	if (done)
		mark_begun(job);
	return r;
}

/* Zeros, whole pages: left out where the file has nothing, written over what it has. */
static int store_zeros(struct job *job, const unsigned char *data, uint64_t length)
{
	while (length) {
		bool absent;
		uint64_t part = gmemi_fill_extent(&job->fill, job->offset + job->done, length, &absent);
		int r = 0;

		if (absent)
			skip(job, part);
		else
			r = store(job, data, part);
		if (r < 0)
			return r;
		data += part;
		length -= part;
	}
	return 0;
}

#define PAGES_AT_ONCE 512

/* Whole pages, no more than PAGES_AT_ONCE: runs of content and runs of zeros. */
static int store_pages(struct job *job, const unsigned char *data, uint64_t pages)
{
	uint64_t zero[GMEMI_BITMAP_WORDS(PAGES_AT_ONCE)] = { 0 }, size = job->fill.mem->page_size;
	size_t page = 0;

	for (size_t i = 0; i < pages; i++)
		gmemi_bitmap_assign(zero, i, is_zero(data + i * size, size));
	while (page < pages) {
		size_t run = gmemi_bitmap_run(zero, page, (size_t)pages);
		bool zeros = gmemi_bitmap_test(zero, page);
		int r = zeros ? store_zeros(job, data + page * size, run * size) : store(job, data + page * size, run * size);

		if (r < 0)
			return r;
		page += run;
	}
	return 0;
}

/* How much of what is next can be dealt with in one way: whole pages, which may be zeros, or bytes, which are always
 * written. */
static uint64_t next_part(const struct job *job, uint64_t length, bool *pages)
{
	uint64_t size = job->fill.mem->page_size, at = job->offset + job->done;
	uint64_t head = gmemi_min(length, size - at % size);

	*pages = head == size && !(job->opts.flags & GMEM_POPULATE_KEEP_ZEROS);
	if (*pages)
		return gmemi_min(length / size, PAGES_AT_ONCE) * size;
	return job->opts.flags & GMEM_POPULATE_KEEP_ZEROS ? length : head;
}

static int store_content(struct job *job, const unsigned char *data, uint64_t length)
{
	while (length) {
		bool pages;
		uint64_t part = next_part(job, length, &pages);
		int r = pages ? store_pages(job, data, part / job->fill.mem->page_size) : store(job, data, part);

		if (r < 0)
			return r;
		data += part;
		length -= part;
	}
	return 0;
}

/* Bytes that need neither be read nor written: a hole there, nothing here. */
static uint64_t passable(struct job *job, uint64_t length)
{
	uint64_t size = job->fill.mem->page_size, at = job->offset + job->done, hole, part;
	bool absent;

	if (job->opts.flags & GMEM_POPULATE_KEEP_ZEROS || !gmemi_aligned(at, size))
		return 0;
	hole = gmemi_round_down(gmemi_input_hole(&job->input, length), size);
	if (!hole)
		return 0;
	part = gmemi_fill_extent(&job->fill, at, hole, &absent);
	return absent ? part : 0;
}

static int step(struct job *job)
{
	uint64_t left = job->length - job->done, at = job->offset + job->done, pass = passable(job, left);
	const unsigned char *data;
	int64_t got;

	if (pass) {
		gmemi_input_skip(&job->input, pass);
		skip(job, pass);
		return 0;
	}
	got = gmemi_input_next(&job->input, gmemi_min(left, job->opts.chunk - at % job->opts.chunk), &data);
	if (got < 0)
		return (int)got;
	if (got == 0)
		return gmemi_refuse(-ENODATA, "the input ended %llu bytes early", (unsigned long long)left);
	return store_content(job, data, (uint64_t)got);
}

static int tell_progress(const struct job *job)
{
	int stop;

	if (!job->opts.progress)
		return 0;
	stop = job->opts.progress(job->opts.user, job->done, job->length);
	if (stop && job->done < job->length)
		return gmemi_refuse(-ECANCELED, "the progress callback said stop");
	return 0;
}

static int run_steps(struct job *job)
{
	int r = 0;

	while (r == 0 && job->done < job->length) {
		r = step(job);
		if (r == 0)
			r = tell_progress(job);
	}
	atomic_store(&job->fill.mem->populate_mechanism, gmemi_fill_mechanism(&job->fill));
	return r;
}

static int check_opts(struct gmem *mem, struct gmem_populate_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, GMEM_POPULATE_KEEP_ZEROS, "opts->flags");

	if (r == 0)
		r = gmemi_opts_reserved(opts->reserved);
	if (r < 0)
		return r;
	if (!gmemi_aligned(opts->chunk, mem->page_size) || opts->chunk > LARGEST_CHUNK)
		return gmemi_refuse(-EINVAL, "opts->chunk 0x%llx is not a multiple of the page size below 1 GiB",
				    (unsigned long long)opts->chunk);
	if (!opts->chunk)
		opts->chunk = CHUNK;
	return 0;
}

static int prepare(struct job *job, struct gmem *mem, const struct gmem_populate_opts *opts)
{
	int r = gmemi_memory_check(mem);

	if (r == 0)
		r = GMEMI_OPTS_IN(job->opts, opts);
	if (r == 0)
		r = check_opts(mem, &job->opts);
	if (r == 0)
		r = gmemi_range_check(job->offset, job->length, 1, mem->length);
	return r < 0 ? r : gmemi_fill_begin(&job->fill, mem, (enum gmem_mechanism)job->opts.mechanism);
}

static int report(const struct job *job, uint64_t *done, int r)
{
	if (done)
		*done = job->done;
	return r;
}

int gmem_populate(struct gmem *mem, uint64_t offset, uint64_t length, const void *data, uint64_t *done,
		  const struct gmem_populate_opts *opts)
{
	struct job job = { .offset = offset, .length = length };
	int r;

	GMEMI_CALL();
	r = prepare(&job, mem, opts);
	if (r == 0 && !data)
		r = gmemi_refuse(-EINVAL, "data is NULL");
	if (r == 0) {
		gmemi_input_from_buffer(&job.input, data);
		r = run_steps(&job);
	}
	return report(&job, done, r);
}

int gmem_populate_fd(struct gmem *mem, uint64_t offset, uint64_t length, int fd, uint64_t fd_offset, uint64_t *done,
		     const struct gmem_populate_opts *opts)
{
	struct job job = { .offset = offset, .length = length };
	int r;

	GMEMI_CALL();
	r = prepare(&job, mem, opts);
	if (r == 0)
		r = gmemi_input_from_fd(&job.input, fd, fd_offset, (size_t)gmemi_min(job.opts.chunk, length));
	if (r == 0) {
		r = run_steps(&job);
		gmemi_input_end(&job.input);
	}
	return report(&job, done, r);
}
