/* SPDX-License-Identifier: MIT */
/* Goal 5: what zeros save, and what looking for them costs where there are none. */
#include "hand.h"
#include "trap.h"
#include "world.h"

enum { HALF_BUFFER, HALF_BUFFER_NAIVE, HALF_FILE, HALF_FILE_MAPPED, HALF_FILE_NAIVE };
enum { CHECKED, UNCHECKED };

static const char *open_with(struct world *world, enum pattern pattern)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	content_begin(&world->content, pattern, world->size);
	content_make_buffer(&world->content);
	content_make_file(&world->content);
	return NULL;
}

static const char *open_half(struct world *world)
{
	return open_with(world, PATTERN_HALF);
}

static const char *open_dense(struct world *world)
{
	return open_with(world, PATTERN_DENSE);
}

static void new_memory(struct world *world)
{
	content_punch_holes(&world->content);
	world_guest_memfd(world);
}

static void new_mapped_memory(struct world *world)
{
	content_punch_holes(&world->content);
	world_guest_memfd_mapped(world);
}

static void new_memory_by_hand(struct world *world)
{
	content_fill_holes(&world->content);
	world_guest_memfd_by_hand(world);
}

static void populate(struct world *world)
{
	must(gmem_populate(world->mem, 0, world->size, world->content.bytes, NULL, NULL), "gmem_populate()");
}

static void populate_file(struct world *world)
{
	must(gmem_populate_fd(world->mem, 0, world->size, world->content.fd, 0, NULL, NULL), "gmem_populate_fd()");
}

static void populate_unchecked(struct world *world)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };

	must(gmem_populate(world->mem, 0, world->size, world->content.bytes, NULL, &opts), "gmem_populate()");
}

/* Half of it has been left out, or the figure would be of something else. */
static void check_half_and_drop(struct world *world)
{
	struct gmem_info info = { .size = sizeof(info) };

	must(gmem_query(world->mem, &info), "gmem_query()");
	if (info.skipped != world->size / 2)
		give_up("%llu bytes of zeros were left out, not half of the memory", (unsigned long long)info.skipped);
	world_check_and_drop(world);
}

static const struct measure_case half_cases[] = {
	[HALF_BUFFER] = { "gmem_populate(), half zeros", world_guest_memfd, populate, check_half_and_drop },
	[HALF_BUFFER_NAIVE] = { "memcpy() of all", world_guest_memfd_by_hand, hand_copy_buffer, world_check_and_drop },
	[HALF_FILE] = { "gmem_populate_fd(), half holes", new_memory, populate_file, check_half_and_drop },
	[HALF_FILE_MAPPED] = { "gmem_populate_fd() after gmem_map(), half holes", new_mapped_memory, populate_file,
			       check_half_and_drop },
	[HALF_FILE_NAIVE] = { "mmap() of the file, memcpy() of all", new_memory_by_hand, hand_copy_file,
			      world_check_and_drop },
};

static const struct row half_rows[] = {
	{ .goal = "5", .what = "populate from a half-zero buffer / naive memcpy of all", .of = CASE(HALF_BUFFER),
	  .to = CASE(HALF_BUFFER_NAIVE), .gate = 0.55, .gate_cpu = 0.55 },
	{ .goal = "5", .what = "populate from a file of half holes / naive mmap+memcpy of all", .of = CASE(HALF_FILE),
	  .to = CASE(HALF_FILE_NAIVE), .gate = 0.55, .gate_cpu = 0.55 },
	{ .goal = "5", .what = "... mapped before / naive mmap+memcpy of all", .of = CASE(HALF_FILE_MAPPED),
	  .to = CASE(HALF_FILE_NAIVE), .gate = 0.55, .gate_cpu = 0.55 },
};

static const struct measure_case dense_cases[] = {
	[CHECKED] = { "gmem_populate(), dense", world_guest_memfd, populate, world_check_and_drop },
	[UNCHECKED] = { "gmem_populate(), zeros kept", world_guest_memfd, populate_unchecked, world_check_and_drop },
};

static const struct row dense_rows[] = {
	{ .goal = "5", .what = "populate from a dense buffer: zero check / none", .of = CASE(CHECKED), .to = CASE(UNCHECKED),
	  .gate = 1.05, .gate_cpu = 1.05 },
};

const struct group bench_zeros = {
	.open = open_half,
	.cases = half_cases,
	.n_cases = COUNT(half_cases),
	.settle = world_settle,
	.rows = half_rows,
	.n_rows = COUNT(half_rows),
};

const struct group bench_zero_check = {
	.open = open_dense,
	.cases = dense_cases,
	.n_cases = COUNT(dense_cases),
	.settle = world_settle,
	.rows = dense_rows,
	.n_rows = COUNT(dense_rows),
};
