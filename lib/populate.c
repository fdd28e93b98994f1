/* SPDX-License-Identifier: MIT */
#include <gmem/populate.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "parallel.h"
#include "populate_lane.h"
#include "populate_progress.h"
#include "range.h"

/* Measured best of 16 KiB to 8 MiB for guest_memfd: one call each to allocate, to clear and map, to copy. */
#define CHUNK (UINT64_C(2) << 20)
#define LARGEST_CHUNK (UINT64_C(1) << 30)

struct job {
	struct gmem *mem;
	struct gmem_populate_opts opts;
	struct gmemi_input input;
	uint64_t offset, length, done;
	struct gmemi_known known; /* of next_piece() */
	struct gmemi_lane one, *lanes; /* one is enough for one thread */
	uint32_t count;
};

/* Bytes from a page on that are passed over in one: a hole of the file, where the memory has nothing either. */
static uint64_t passed_over(struct job *job, uint64_t offset, uint64_t left)
{
	uint64_t size = job->mem->page_size, hole;
	bool absent;

	if (job->input.kind != GMEMI_INPUT_FILE || job->opts.flags & GMEM_POPULATE_KEEP_ZEROS || !gmemi_aligned(offset, size))
		return 0;
	hole = (uint64_t)gmemi_input_hole(&job->input, offset - job->offset, left); /* of a file: never an error */
	hole = gmemi_round_down(hole, size);
	if (hole <= job->opts.chunk)
		return 0;
	hole = gmemi_fill_extent(job->mem, offset, hole, &absent, &job->known);
	return absent ? hole : 0;
}

/* To a multiple of the chunk, so that no page is divided: the next one, or the last within what is passed over. */
static uint64_t next_piece(void *context, uint64_t offset, uint64_t left)
{
	struct job *job = context;
	uint64_t chunk = job->opts.chunk, piece = gmemi_min(left, chunk - offset % chunk);
	uint64_t pass = passed_over(job, offset, left), beyond = (offset + pass) % chunk;

	return pass > piece ? pass - beyond : piece;
}

static int do_piece(void *context, uint32_t lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct job *job = context;

	return gmemi_lane_run(&job->lanes[lane], offset, length, done);
}

static int tell_progress(void *context, uint64_t done)
{
	const struct job *job = context;

	return gmemi_progress_tell(job->opts.progress, job->opts.user, done, job->length);
}

static void end_lanes(struct job *job)
{
	while (job->count)
		gmemi_lane_end(&job->lanes[--job->count]);
	if (job->lanes != &job->one)
		gmemi_free(job->lanes);
}

/* As many threads as have something to do. */
static uint32_t wanted_lanes(const struct job *job)
{
	uint64_t pieces = job->length / job->opts.chunk + 1;

	return job->input.kind == GMEMI_INPUT_STREAM ? 1 : (uint32_t)gmemi_min(job->opts.threads + 1, pieces);
}

static int begin_lanes(struct job *job)
{
	uint32_t wanted = wanted_lanes(job);
	int r = 0;

	job->lanes = wanted == 1 ? &job->one : gmemi_alloc(wanted, sizeof(*job->lanes));
	if (!job->lanes)
		return -ENOMEM;
	for (; r == 0 && job->count < wanted; job->count++)
		r = gmemi_lane_begin(&job->lanes[job->count], job->mem, &job->input, job->offset, &job->opts);
	if (r < 0)
		end_lanes(job);
	return r;
}

static int run(struct job *job)
{
	struct gmemi_parallel parallel = {
		.offset = job->offset,
		.length = job->length,
		.name = "gmem-populate",
		.context = job,
		.piece = next_piece,
		.work = do_piece,
		.tell = tell_progress,
	};
	int r = begin_lanes(job);

	if (r < 0)
		return r;
	parallel.threads = job->count - 1;
	r = gmemi_parallel_run(&parallel, &job->done);
	atomic_store(&job->mem->populate_mechanism, gmemi_fill_mechanism(&job->lanes[0].fill));
	end_lanes(job);
	return r;
}

static int check_opts(struct gmem *mem, struct gmem_populate_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, GMEM_POPULATE_KEEP_ZEROS, "opts->flags");

	if (r < 0)
		return r;
	if (opts->threads > GMEMI_THREADS)
		return gmemi_refuse(-EINVAL, "opts->threads %u is above %d", opts->threads, GMEMI_THREADS);
	if (!gmemi_aligned(opts->chunk, mem->page_size) || opts->chunk > LARGEST_CHUNK)
		return gmemi_refuse(-EINVAL, "opts->chunk 0x%llx is not a multiple of the page size, 1 GiB at most",
				    (unsigned long long)opts->chunk);
	if (!opts->chunk)
		opts->chunk = mem->page_size > CHUNK ? mem->page_size : CHUNK;
	return 0;
}

static int prepare(struct job *job, const struct gmem_populate_opts *opts)
{
	int r = gmemi_memory_check(job->mem);

	if (r == 0)
		r = GMEMI_OPTS_IN(job->opts, opts);
	if (r == 0)
		r = check_opts(job->mem, &job->opts);
	return r < 0 ? r : gmemi_range_check(job->offset, job->length, 1, job->mem->length);
}

/* r is what came of making the input. */
static int finish(struct job *job, int r, uint64_t *done)
{
	if (r == 0) {
		r = run(job);
		gmemi_input_end(&job->input);
	}
	if (done)
		*done = job->done;
	return r;
}

int gmem_populate(struct gmem *mem, uint64_t offset, uint64_t length, const void *data, uint64_t *done,
		  const struct gmem_populate_opts *opts)
{
	struct job job = { .mem = mem, .offset = offset, .length = length };
	int r;

	GMEMI_CALL();
	r = prepare(&job, opts);
	if (r == 0 && !data)
		r = gmemi_refuse(-EINVAL, "data is NULL");
	if (r == 0)
		gmemi_input_from_buffer(&job.input, data);
	return finish(&job, r, done);
}

int gmem_populate_fd(struct gmem *mem, uint64_t offset, uint64_t length, int fd, uint64_t fd_offset, uint64_t *done,
		     const struct gmem_populate_opts *opts)
{
	struct job job = { .mem = mem, .offset = offset, .length = length };
	int r;

	GMEMI_CALL();
	r = prepare(&job, opts);
	if (r == 0)
		r = gmemi_input_from_fd(&job.input, fd, fd_offset);
	return finish(&job, r, done);
}

int gmem_populate_source(struct gmem *mem, uint64_t offset, uint64_t length, struct gmem_source *source, uint64_t source_offset,
			 uint64_t *done, const struct gmem_populate_opts *opts)
{
	struct job job = { .mem = mem, .offset = offset, .length = length };
	int r;

	GMEMI_CALL();
	r = prepare(&job, opts);
	if (r == 0)
		r = gmemi_input_from_source(&job.input, source, source_offset, length);
	return finish(&job, r, done);
}
