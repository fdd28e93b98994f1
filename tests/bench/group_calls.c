/* SPDX-License-Identifier: MIT */
/* What a call of the library costs over the system call that it makes. Short runs of many calls, in many rounds. */
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../lib/uapi/kvm.h"
#include "hand.h"
#include "trap.h"
#include "world.h"

#define SIZE ((size_t)2 << 20)
#define PAGE ((uint64_t)4096)
#define GPA UINT64_C(0x40000000)
#define RAW_GPA UINT64_C(0x50000000)
#define SLOT 0u
#define RAW_SLOT 1u
#define TIMES 10

#define MANY 4000u /* calls a run */
#define FEW 200u   /* ... where each waits for the kernel to be rid of an older state; even */

enum { DISCARD, DISCARD_RAW, MAP };
enum { BIND, BIND_RAW };
enum { VCPU, VCPU_RAW };

/* The same memory twice: the library's, and one for bare calls. */
static void make_memory(struct world *world)
{
	world->size = SIZE;
	world_memfd(world);
	world_map(world);
	world->raw = hand_memfd(SIZE);
	world->raw_at = hand_map(world->raw, SIZE);
}

static const char *open_calls(struct world *world)
{
	const char *why = world_with_memfd(world);

	if (!why)
		make_memory(world);
	return why;
}

static void discard(struct world *world)
{
	for (unsigned int i = 0; i < MANY; i++)
		must(gmem_discard(world->mem, 0, PAGE, NULL, NULL), "gmem_discard()");
}

static void discard_raw(struct world *world)
{
	for (unsigned int i = 0; i < MANY; i++)
		must_errno(fallocate(world->raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), "fallocate()");
}

static void map(struct world *world)
{
	void *at;

	for (unsigned int i = 0; i < MANY; i++)
		must(gmem_map(world->mem, 0, SIZE, &at, NULL), "gmem_map()");
}

static const struct measure_case call_cases[] = {
	[DISCARD] = { "gmem_discard()", NULL, discard, NULL },
	[DISCARD_RAW] = { "fallocate(PUNCH_HOLE)", NULL, discard_raw, NULL },
	[MAP] = { "gmem_map()", NULL, map, NULL },
};

static const struct row call_rows[] = {
	{ .goal = "call", .what = "gmem_discard() of an absent page over fallocate(PUNCH_HOLE)", .kind = ROW_OVER,
	  .of = CASE(DISCARD), .to = CASE(DISCARD_RAW), .calls = MANY, .no_gate = true },
	{ .goal = "call", .what = "gmem_map() of what is mapped, no system call", .kind = ROW_OVER, .of = CASE(MAP),
	  .calls = MANY, .no_gate = true },
};

static const char *open_bind(struct world *world)
{
	const char *why = world_with_vm(world);
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = GMEM_BIND_PLAIN };

	if (why)
		return why;
	make_memory(world);
	must(gmem_bind(world->mem, SLOT, GPA, 0, SIZE, &opts), "gmem_bind()");
	hand_set_slot(world->vm_fd, RAW_SLOT, 0, RAW_GPA, world->raw_at, SIZE);
	return NULL;
}

static void bind_toggled(struct world *world)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = GMEM_BIND_PLAIN };

	for (unsigned int i = 0; i < FEW; i++) {
		opts.flags ^= GMEM_BIND_DIRTY_LOG;
		must(gmem_bind(world->mem, SLOT, GPA, 0, SIZE, &opts), "gmem_bind()");
	}
}

static void bind_toggled_raw(struct world *world)
{
	uint32_t flags = 0;

	for (unsigned int i = 0; i < FEW; i++) {
		flags ^= KVMI_MEM_LOG_DIRTY_PAGES;
		hand_set_slot(world->vm_fd, RAW_SLOT, flags, RAW_GPA, world->raw_at, SIZE);
	}
}

static const struct measure_case bind_cases[] = {
	[BIND] = { "gmem_bind(), dirty log on and off", NULL, bind_toggled, NULL },
	[BIND_RAW] = { "KVM_SET_USER_MEMORY_REGION, the same", NULL, bind_toggled_raw, NULL },
};

static const struct row bind_rows[] = {
	{ .goal = "call", .what = "gmem_bind() with the dirty log on or off over the bare ioctl", .kind = ROW_OVER,
	  .of = CASE(BIND), .to = CASE(BIND_RAW), .calls = FEW },
};

static const char *open_vcpu(struct world *world)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	world->guest = guest_start(world->vm_fd);
	must(gmem_vcpu_open(world->vm, guest_vcpu(world->guest), &world->vcpu), "gmem_vcpu_open()");
	if (gmem_vm_probe(world->vm, GMEM_FEATURE_PRE_FAULT, NULL) != GMEM_PRESENT)
		return "this kernel has no KVM_PRE_FAULT_MEMORY";
	make_memory(world);
	must(gmem_bind(world->mem, SLOT, GPA, 0, SIZE, NULL), "gmem_bind()");
	hand_set_slot(world->vm_fd, RAW_SLOT, 0, RAW_GPA, world->raw_at, SIZE);
	return NULL;
}

static void prefault(struct world *world)
{
	for (unsigned int i = 0; i < FEW; i++)
		must(gmem_prefault(world->mem, 0, PAGE, NULL, NULL), "gmem_prefault()");
}

static void prefault_raw(struct world *world)
{
	int vcpu = guest_vcpu(world->guest);

	for (unsigned int i = 0; i < FEW; i++) {
		struct hand_pre_fault range = { .gpa = RAW_GPA, .size = PAGE };

		must_errno(ioctl(vcpu, (unsigned long)KVMI_PRE_FAULT_MEMORY, &range), "KVM_PRE_FAULT_MEMORY");
	}
}

static const struct measure_case vcpu_cases[] = {
	[VCPU] = { "gmem_prefault() of a page by the vCPU", NULL, prefault, NULL },
	[VCPU_RAW] = { "KVM_PRE_FAULT_MEMORY", NULL, prefault_raw, NULL },
};

static const struct row vcpu_rows[] = {
	{ .goal = "call", .what = "gmem_prefault() of a page by the vCPU over the bare ioctl", .kind = ROW_OVER,
	  .of = CASE(VCPU), .to = CASE(VCPU_RAW), .calls = FEW },
};

const struct group bench_calls = {
	.open = open_calls,
	.cases = call_cases,
	.n_cases = COUNT(call_cases),
	.rows = call_rows,
	.n_rows = COUNT(call_rows),
	.times = TIMES,
};

const struct group bench_bind_call = {
	.open = open_bind,
	.cases = bind_cases,
	.n_cases = COUNT(bind_cases),
	.rows = bind_rows,
	.n_rows = COUNT(bind_rows),
	.times = TIMES,
};

const struct group bench_vcpu_call = {
	.open = open_vcpu,
	.cases = vcpu_cases,
	.n_cases = COUNT(vcpu_cases),
	.rows = vcpu_rows,
	.n_rows = COUNT(vcpu_rows),
	.times = TIMES,
};
