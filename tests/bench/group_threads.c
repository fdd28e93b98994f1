/* SPDX-License-Identifier: MIT */
/* Goal 6: a second thread. The only goal that needs two cores. */
#include "machine.h"
#include "trap.h"
#include "world.h"

enum { TWO, ONE };

static const char *open_dense(struct world *world)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	content_begin(&world->content, PATTERN_DENSE, world->size);
	content_make_file(&world->content);
	machine_unpin();
	return NULL;
}

static void populate(struct world *world, uint32_t threads)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .threads = threads };

	must(gmem_populate_fd(world->mem, 0, world->size, world->content.fd, 0, NULL, &opts), "gmem_populate_fd()");
}

static void by_one(struct world *world)
{
	populate(world, 0);
}

static void by_two(struct world *world)
{
	populate(world, 1);
}

static const char *no_second_core(struct world *world)
{
	(void)world;
	return machine_no_second_core();
}

static const struct measure_case cases[] = {
	[TWO] = { "gmem_populate_fd(), two threads", world_guest_memfd, by_two, world_check_and_drop },
	[ONE] = { "gmem_populate_fd(), one thread", world_guest_memfd, by_one, world_check_and_drop },
};

static const struct row rows[] = {
	{ .goal = "6", .what = "populate by two threads / by one, wall", .of = CASE(TWO), .to = CASE(ONE), .gate = 0.90,
	  .hindered = no_second_core },
	{ .goal = "6", .what = "populate by two threads / by one, CPU", .of = CASE(TWO), .to = CASE(ONE), .gate_cpu = 1.20 },
};

const struct group bench_threads = {
	.open = open_dense,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = world_settle,
	.rows = rows,
	.n_rows = COUNT(rows),
};
