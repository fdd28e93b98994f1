/* SPDX-License-Identifier: MIT */
/* Goal 8, on the host's side: pages that nobody has to wait for when they are touched. */
#include "hand.h"
#include "trap.h"
#include "world.h"

enum { FRESH, FRESH_TOUCH, RESIDENT, RESIDENT_TOUCH };

static void prefault(struct world *world)
{
	must(gmem_prefault(world->mem, 0, world->size, NULL, NULL), "gmem_prefault()");
}

static void resident(struct world *world)
{
	world_guest_memfd_mapped(world);
	hand_touch(world);
	world_forget_mapping(world);
}

static void resident_by_hand(struct world *world)
{
	world_guest_memfd_by_hand(world);
	hand_touch(world);
	world_forget_mapping(world);
}

static const struct measure_case cases[] = {
	[FRESH] = { "gmem_prefault(), fresh", world_guest_memfd_mapped, prefault, world_drop },
	[FRESH_TOUCH] = { "touch, fresh", world_guest_memfd_by_hand, hand_touch, world_drop },
	[RESIDENT] = { "gmem_prefault(), resident", resident, prefault, world_drop },
	[RESIDENT_TOUCH] = { "touch, resident", resident_by_hand, hand_touch, world_drop },
};

static const struct row rows[] = {
	{ .goal = "8", .what = "prefault guest_memfd / touch, fresh", .of = CASE(FRESH), .to = CASE(FRESH_TOUCH), .gate = 0.95,
	  .gate_cpu = 0.95 },
	{ .goal = "8", .what = "prefault guest_memfd / touch, resident but not mapped", .of = CASE(RESIDENT),
	  .to = CASE(RESIDENT_TOUCH), .gate = 0.70, .gate_cpu = 0.70 },
};

const struct group bench_prefault = {
	.open = world_with_guest_memfd,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = world_prime,
	.rows = rows,
	.n_rows = COUNT(rows),
};
