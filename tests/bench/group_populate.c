/* SPDX-License-Identifier: MIT */
/* Goals 1 to 4: dense content into a guest_memfd, by one thread. */
#include "hand.h"
#include "trap.h"
#include "world.h"

enum {
	FILE_LIBRARY,
	FILE_MAPPED,
	FILE_KEPT,
	FILE_NAIVE,
	FILE_HAND,
	FILE_CHECKED,
	ALLOCATE,
	READ,
	BUFFER_LIBRARY,
	BUFFER_NAIVE
};

static const char *open_dense(struct world *world)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	content_begin(&world->content, PATTERN_DENSE, world->size);
	content_make_buffer(&world->content);
	content_make_file(&world->content);
	return NULL;
}

static void populate_file(struct world *world)
{
	must(gmem_populate_fd(world->mem, 0, world->size, world->content.fd, 0, NULL, NULL), "gmem_populate_fd()");
}

static void populate_keeping_zeros(struct world *world)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };

	must(gmem_populate_fd(world->mem, 0, world->size, world->content.fd, 0, NULL, &opts), "gmem_populate_fd()");
}

static void populate_buffer(struct world *world)
{
	must(gmem_populate(world->mem, 0, world->size, world->content.bytes, NULL, NULL), "gmem_populate()");
}

static void resident_by_hand(struct world *world)
{
	world_guest_memfd_by_hand(world);
	hand_allocate(world);
}

static const struct measure_case cases[] = {
	[FILE_LIBRARY] = { "gmem_populate_fd()", world_guest_memfd, populate_file, world_check_and_drop },
	[FILE_MAPPED] = { "gmem_populate_fd() after gmem_map()", world_guest_memfd_mapped, populate_file,
			  world_check_and_drop },
	[FILE_KEPT] = { "gmem_populate_fd() after gmem_map(), zeros kept", world_guest_memfd_mapped, populate_keeping_zeros,
			world_check_and_drop },
	[FILE_NAIVE] = { "mmap() of the file, memcpy()", world_guest_memfd_by_hand, hand_copy_file, world_check_and_drop },
	[FILE_HAND] = { "fallocate(), populate, pread()", world_guest_memfd_by_hand, hand_populate_file, world_check_and_drop },
	[FILE_CHECKED] = { "pread() to a buffer, zero check, fallocate(), populate, memcpy()", world_guest_memfd_by_hand,
			   hand_populate_file_checked, world_check_and_drop },
	[ALLOCATE] = { "fallocate(), populate", world_guest_memfd_by_hand, hand_allocate, world_drop },
	[READ] = { "pread() into resident pages", resident_by_hand, hand_read_file, world_check_and_drop },
	[BUFFER_LIBRARY] = { "gmem_populate()", world_guest_memfd, populate_buffer, world_check_and_drop },
	[BUFFER_NAIVE] = { "memcpy() from the buffer", world_guest_memfd_by_hand, hand_copy_buffer, world_check_and_drop },
};

/* New memory is nobody else's: a file is read straight into it, and pages of zeros are freed again. Memory that the program has
 * mapped, or bound, may be in use: there, pages of zeros have to be found before they are written, unless they are to be kept.
 * Each is compared with the loop that does the same. */
static const struct row rows[] = {
	{ .goal = "1", .what = "populate guest_memfd from a file / naive mmap+memcpy", .of = CASE(FILE_LIBRARY),
	  .to = CASE(FILE_NAIVE), .gate = 0.80, .gate_cpu = 0.80 },
	{ .goal = "1", .what = "... mapped before / naive mmap+memcpy", .of = CASE(FILE_MAPPED),
	  .to = CASE(FILE_NAIVE), .gate = 0.80, .gate_cpu = 0.80 },
	{ .goal = "2", .what = "populate guest_memfd from a file / loop by hand", .of = CASE(FILE_LIBRARY),
	  .to = CASE(FILE_HAND), .gate = 1.05, .gate_cpu = 1.05 },
	{ .goal = "2", .what = "... mapped before / loop by hand with a zero check", .of = CASE(FILE_MAPPED),
	  .to = CASE(FILE_CHECKED), .gate = 1.05, .gate_cpu = 1.05 },
	{ .goal = "2", .what = "... mapped before, zeros kept / loop by hand", .of = CASE(FILE_KEPT),
	  .to = CASE(FILE_HAND), .gate = 1.05, .gate_cpu = 1.05 },
	{ .goal = "3", .what = "populate guest_memfd from a file / sum of its parts", .of = CASE(FILE_LIBRARY),
	  .to = CASE(ALLOCATE) | CASE(READ), .gate = 1.10, .gate_cpu = 1.10 },
	{ .goal = "4", .what = "populate guest_memfd from a buffer / naive memcpy", .of = CASE(BUFFER_LIBRARY),
	  .to = CASE(BUFFER_NAIVE), .gate = 0.82, .gate_cpu = 0.82 },
};

const struct group bench_populate = {
	.open = open_dense,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = world_settle,
	.rows = rows,
	.n_rows = COUNT(rows),
};
