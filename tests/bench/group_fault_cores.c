/* SPDX-License-Identifier: MIT */
/* Goals 14 and 16: on which core faults are served, and by how many threads. Both need a second core that is idle. */
#include "fault.h"
#include "machine.h"
#include "trap.h"
#include "world.h"

#define MOST ((size_t)32 << 20)
#define HAND(function, ...) FAULT_SETUP(function, .server = &fault_by_hand, __VA_ARGS__)
#define PAGER(function, ...) FAULT_SETUP(function, .server = &fault_by_pager, .way = &pager_auto, __VA_ARGS__)

static const char *open_cores(struct world *world)
{
	machine_unpin(); /* threads of the library begin where this one may run */
	return fault_open(world, MOST);
}

static const char *one_core(struct world *world)
{
	int cores[2];

	(void)world;
	return machine_cores(cores) < 2 ? "there is no second core" : NULL;
}

static const char *no_second_core(struct world *world)
{
	(void)world;
	return machine_no_second_core();
}

enum { SAME, ACROSS, FREE, OURS_SAME, OURS_FREE };

HAND(place_same, .way = &hand_fill, .place = PLACE_SAME)
HAND(place_across, .way = &hand_fill, .place = PLACE_ACROSS)
HAND(place_free, .way = &hand_fill, .place = PLACE_FREE)
PAGER(place_ours_same, .place = PLACE_SAME)
PAGER(place_ours_free, .place = PLACE_FREE)

static const struct measure_case place_cases[] = {
	[SAME] = FAULT_CASE("by hand, on the faulter's core", place_same),
	[ACROSS] = FAULT_CASE("by hand, on the other core", place_across),
	[FREE] = FAULT_CASE("by hand, on any core", place_free),
	[OURS_SAME] = FAULT_CASE("pager, told to keep to the faulter's core", place_ours_same),
	[OURS_FREE] = FAULT_CASE("pager, not told where", place_ours_free),
};

static const struct row place_rows[] = {
	{ .goal = "14", .what = "pager, not told where / on the faulter's core", .of = CASE(OURS_FREE), .to = CASE(OURS_SAME),
	  .gate = 1.20, .hindered = no_second_core },
	{ .goal = "14", .what = "by hand, on the other core / on the faulter's core", .of = CASE(ACROSS), .to = CASE(SAME),
	  .no_gate = true, .hindered = one_core },
	{ .goal = "14", .what = "by hand, on any core / on the faulter's core", .of = CASE(FREE), .to = CASE(SAME),
	  .no_gate = true, .hindered = one_core },
};

const struct group bench_fault_place = {
	.open = open_cores,
	.cases = place_cases,
	.n_cases = COUNT(place_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = place_rows,
	.n_rows = COUNT(place_rows),
};

enum { TWO, TWO_MANY, ONE, OURS_TWO, OURS_ONE };

HAND(threads_two, .way = &hand_fill_one, .place = PLACE_EACH, .faulters = 2, .handlers = 2)
HAND(threads_two_many, .way = &hand_fill, .place = PLACE_EACH, .faulters = 2, .handlers = 2)
HAND(threads_one, .way = &hand_fill, .place = PLACE_FREE, .faulters = 2)
PAGER(threads_ours_two, .place = PLACE_FREE, .faulters = 2, .handlers = 2)
PAGER(threads_ours_one, .place = PLACE_FREE, .faulters = 2)

static const struct measure_case threads_cases[] = {
	[TWO] = FAULT_CASE("two faulters, by hand: two handlers that read one", threads_two),
	[TWO_MANY] = FAULT_CASE("two faulters, by hand: two handlers that read many", threads_two_many),
	[ONE] = FAULT_CASE("two faulters, by hand: one handler", threads_one),
	[OURS_TWO] = FAULT_CASE("two faulters, pager: two threads", threads_ours_two),
	[OURS_ONE] = FAULT_CASE("two faulters, pager: one thread", threads_ours_one),
};

static const struct row threads_rows[] = {
	{ .goal = "16", .what = "two faulters: pager, two threads / one", .of = CASE(OURS_TWO), .to = CASE(OURS_ONE),
	  .gate = 0.60, .reach = 2, .waits = true, .hindered = no_second_core },
	{ .goal = "16", .what = "two faulters: by hand, two handlers / one", .of = CASE(TWO), .to = CASE(ONE), .no_gate = true,
	  .waits = true, .hindered = no_second_core },
	{ .goal = "16", .what = "two faulters: pager, two threads / by hand, two handlers", .of = CASE(OURS_TWO), .to = CASE(TWO),
	  .no_gate = true, .waits = true, .hindered = no_second_core },
	/* Whoever comes first takes the faults of both, and one waits behind the other. */
	{ .goal = "16", .what = "two faulters: by hand, two handlers that read many / one", .of = CASE(TWO_MANY),
	  .to = CASE(ONE), .no_gate = true, .waits = true, .hindered = one_core },
};

const struct group bench_fault_threads = {
	.open = open_cores,
	.cases = threads_cases,
	.n_cases = COUNT(threads_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = threads_rows,
	.n_rows = COUNT(threads_rows),
};
