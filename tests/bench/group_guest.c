/* SPDX-License-Identifier: MIT */
/* Goal 8, on the guest's side: how long a vCPU waits for memory that it touches for the first time. */
#include "trap.h"
#include "world.h"

#define SLOT 0
#define GPA UINT64_C(0x40000000)
#define MOST ((size_t)64 << 20) /* a guest without hardware is slow */
#define PAGE 4096

enum { PREPARED, UNPREPARED };

static const char *open_guest(struct world *world)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	if (world->size > MOST)
		world->size = MOST;
	world->guest = guest_start(world->vm_fd);
	return NULL;
}

static const char *open_pre_fault(struct world *world)
{
	const char *why = open_guest(world);

	if (why)
		return why;
	must(gmem_vcpu_open(world->vm, guest_vcpu(world->guest), &world->vcpu), "gmem_vcpu_open()");
	if (gmem_vm_probe(world->vm, GMEM_FEATURE_PRE_FAULT, NULL) != GMEM_PRESENT)
		return "this kernel has no KVM_PRE_FAULT_MEMORY";
	return NULL;
}

static void bound(struct world *world)
{
	world_guest_memfd(world);
	must(gmem_bind(world->mem, SLOT, GPA, 0, world->size, NULL), "gmem_bind()");
}

static void prefault(struct world *world)
{
	must(gmem_prefault(world->mem, 0, world->size, NULL, NULL), "gmem_prefault()");
}

static void bound_and_prefaulted(struct world *world)
{
	bound(world);
	prefault(world);
}

static void touch(struct world *world)
{
	guest_touch(world->guest, GPA, world->size, PAGE);
}

static void prefault_and_touch(struct world *world)
{
	prefault(world);
	touch(world);
}

static const struct measure_case cases[] = {
	[PREPARED] = { "guest's touch after gmem_prefault()", bound_and_prefaulted, touch, world_drop },
	[UNPREPARED] = { "guest's touch", bound, touch, world_drop },
};

static const struct row rows[] = {
	{ .goal = "8", .what = "guest's first touch after prefault / without", .of = CASE(PREPARED), .to = CASE(UNPREPARED),
	  .gate = 0.65, .gate_cpu = 0.65 },
};

static const struct measure_case pre_fault_cases[] = {
	[PREPARED] = { "gmem_prefault() by the vCPU, guest's touch", bound, prefault_and_touch, world_drop },
	[UNPREPARED] = { "guest's touch", bound, touch, world_drop },
};

static const struct row pre_fault_rows[] = {
	{ .goal = "8", .what = "prefault by the vCPU and guest's touch / touch alone", .of = CASE(PREPARED),
	  .to = CASE(UNPREPARED), .gate = 0.45, .gate_cpu = 0.45 },
};

const struct group bench_guest = {
	.open = open_guest,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = world_prime,
	.rows = rows,
	.n_rows = COUNT(rows),
};

const struct group bench_pre_fault = {
	.open = open_pre_fault,
	.cases = pre_fault_cases,
	.n_cases = COUNT(pre_fault_cases),
	.settle = world_prime,
	.rows = pre_fault_rows,
	.n_rows = COUNT(pre_fault_rows),
};
