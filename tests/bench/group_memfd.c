/* SPDX-License-Identifier: MIT */
/* Goal 7: content into a memfd, which can be written to without being mapped. */
#include "hand.h"
#include "trap.h"
#include "world.h"

enum { LIBRARY, NAIVE };

static const char *open_dense(struct world *world)
{
	const char *why = world_with_memfd(world);

	if (why)
		return why;
	content_begin(&world->content, PATTERN_DENSE, world->size);
	content_make_file(&world->content);
	return NULL;
}

static void populate(struct world *world)
{
	must(gmem_populate_fd(world->mem, 0, world->size, world->content.fd, 0, NULL, NULL), "gmem_populate_fd()");
}

static const struct measure_case cases[] = {
	[LIBRARY] = { "gmem_populate_fd(), memfd", world_memfd, populate, world_check_and_drop },
	[NAIVE] = { "mmap() of the file, memcpy()", world_memfd_by_hand, hand_copy_file, world_check_and_drop },
};

static const struct row rows[] = {
	{ .goal = "7", .what = "populate memfd from a file / naive mmap+memcpy", .of = CASE(LIBRARY), .to = CASE(NAIVE),
	  .gate = 0.65, .gate_cpu = 0.65 },
};

const struct group bench_memfd = {
	.open = open_dense,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = world_settle,
	.rows = rows,
	.n_rows = COUNT(rows),
};
