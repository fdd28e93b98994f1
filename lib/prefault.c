/* SPDX-License-Identifier: MIT */
#include <gmem/populate.h>

#include "alloc.h"
#include "err.h"
#include "fill.h"
#include "opts.h"
#include "parallel.h"
#include "populate_progress.h"
#include "prefault_vcpu.h"
#include "range.h"
#include "sys.h"
#include "vm_chain.h"

#define CHUNK (UINT64_C(2) << 20)

/* One thread's part: vCPUs work in parallel, one thread each. */
struct lane {
	const struct gmemi_chain_row *row;
	int vcpu; /* -1 = none */
	enum gmem_mechanism used; /* last */
};

struct job {
	struct gmem *mem;
	struct gmem_prefault_opts opts;
	uint64_t offset, length, chunk;
	struct lane one, *lanes; /* one is enough for one thread */
	uint32_t count;
};

static struct gmemi_wish wish_of(const struct job *job)
{
	return (struct gmemi_wish){ .need = job->mem->need,
				    .backing = gmemi_memory_shared_backing(job->mem),
				    .forced = (enum gmem_mechanism)job->opts.mechanism };
}

static int pick(const struct job *job, struct lane *lane)
{
	struct gmemi_wish wish = wish_of(job);
	const struct gmemi_chain_row *next = gmemi_chain_pick(job->mem->vm, GMEM_TASK_PREFAULT, &wish, lane->row);

	if (!next)
		return gmemi_chain_refuse(job->mem->vm, GMEM_TASK_PREFAULT, &wish);
	lane->row = next;
	return 0;
}

static bool is_by_vcpu(const struct lane *lane)
{
	return lane->vcpu >= 0 && gmemi_prefault_is_by_vcpu(lane->row->mechanism);
}

static int by_host(const struct job *job, struct lane *lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	int r;

	lane->used = GMEM_MECH_HOST_FAULT;
	if (gmemi_prefault_is_by_vcpu((enum gmem_mechanism)job->opts.mechanism))
		return gmemi_refuse(-EOPNOTSUPP, "offset 0x%llx is bound to no memslot that a vCPU could map",
				    (unsigned long long)offset);
	r = gmemi_fill_prepare(job->mem, offset, length);
	*done = r == 0 ? length : 0;
	return r;
}

/* What is bound at offset, as far as that goes. */
static int step(const struct job *job, struct lane *lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct gmemi_bound bound = { 0 };
	int r;

	*done = 0;
	if (is_by_vcpu(lane))
		bound = gmemi_slot_at(job->mem, offset, &length);
	if (!bound.length)
		return by_host(job, lane, offset, length, done);
	lane->used = lane->row->mechanism;
	r = gmemi_prefault_by_vcpu(lane->row->mechanism, lane->vcpu, bound.gpa, gmemi_min(length, bound.length), done);
	return r < 0 && gmemi_chain_demote(job->mem->vm, lane->row, r) ? pick(job, lane) : r;
}

static int do_piece(void *context, uint32_t number, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct job *job = context;
	int r = 0;

	*done = 0;
	while (r == 0 && *done < length) {
		uint64_t part;

		r = step(job, &job->lanes[number], offset + *done, length - *done, &part);
		*done += part;
	}
	return r;
}

static uint64_t next_piece(void *context, uint64_t offset, uint64_t left)
{
	const struct job *job = context;

	return gmemi_min(left, job->chunk - offset % job->chunk);
}

static int tell_progress(void *context, uint64_t done)
{
	const struct job *job = context;

	return gmemi_progress_tell(job->opts.progress, job->opts.user, done, job->length);
}

static void end_lanes(struct job *job)
{
	while (job->count)
		gmemi_sys_close(job->lanes[--job->count].vcpu);
	if (job->lanes != &job->one)
		gmemi_free(job->lanes);
}

/* Without a vCPU, ways that need one are no ways. */
static int pick_without_vcpu(const struct job *job, struct lane *lane)
{
	int r = 0;

	if (job->opts.mechanism)
		return gmemi_refuse(-EOPNOTSUPP, "no vCPU is known: gmem_vcpu_open()");
	while (r == 0 && gmemi_prefault_is_by_vcpu(lane->row->mechanism))
		r = pick(job, lane);
	return r;
}

/* One that needs a vCPU and finds none left is not made, unless it is the first. */
static int begin_lane(struct job *job, bool *enough)
{
	struct lane *lane = &job->lanes[job->count];
	int r;

	*lane = (struct lane){ .vcpu = -1 };
	r = pick(job, lane);
	if (r == 0 && gmemi_prefault_is_by_vcpu(lane->row->mechanism)) {
		lane->vcpu = gmemi_vm_borrow_vcpu(job->mem->vm, job->count);
		if (lane->vcpu == -ENOENT)
			*enough = job->count > 0;
		else if (lane->vcpu < 0)
			return gmemi_failed(lane->vcpu, "duplicating the fd of a vCPU", NULL);
	}
	if (r == 0 && lane->vcpu == -ENOENT && !*enough)
		r = pick_without_vcpu(job, lane);
	job->count += r == 0 && !*enough;
	return r;
}

static int begin_lanes(struct job *job)
{
	uint64_t pieces = job->length / job->chunk + 1;
	uint32_t wanted = (uint32_t)gmemi_min(job->opts.threads + 1, pieces);
	bool enough = false;
	int r = 0;

	job->lanes = wanted == 1 ? &job->one : gmemi_alloc(wanted, sizeof(*job->lanes));
	if (!job->lanes)
		return -ENOMEM;
	while (r == 0 && !enough && job->count < wanted)
		r = begin_lane(job, &enough);
	if (r < 0)
		end_lanes(job);
	return r;
}

static void remember_mechanism(const struct job *job)
{
	for (uint32_t i = 0; i < job->count; i++)
		if (job->lanes[i].used)
			atomic_store(&job->mem->prefault_mechanism, job->lanes[i].used);
}

static int run(struct job *job, uint64_t *done)
{
	struct gmemi_parallel parallel = {
		.offset = job->offset,
		.length = job->length,
		.name = "gmem-prefault",
		.context = job,
		.piece = next_piece,
		.work = do_piece,
		.tell = tell_progress,
	};
	int r = begin_lanes(job);

	if (r < 0)
		return r;
	parallel.threads = job->count - 1;
	r = gmemi_parallel_run(&parallel, done);
	remember_mechanism(job);
	end_lanes(job);
	return r;
}

static int check(struct job *job)
{
	int r = gmemi_opts_flags(job->opts.flags, 0, "opts->flags");

	if (r < 0)
		return r;
	if (job->opts.threads > GMEMI_THREADS)
		return gmemi_refuse(-EINVAL, "opts->threads %u is above %d", job->opts.threads, GMEMI_THREADS);
	job->chunk = job->mem->page_size > CHUNK ? job->mem->page_size : CHUNK;
	return gmemi_range_check(job->offset, job->length, job->mem->page_size, job->mem->length);
}

int gmem_prefault(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done, const struct gmem_prefault_opts *opts)
{
	struct job job = { .mem = mem, .offset = offset, .length = length };
	uint64_t so_far = 0;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(job.opts, opts);
	if (r == 0)
		r = check(&job);
	if (r == 0)
		r = run(&job, &so_far);
	if (done)
		*done = so_far;
	return r;
}
