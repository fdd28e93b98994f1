/* SPDX-License-Identifier: MIT */
/* Prefault beside a real vCPU: what was there stays, all is there afterwards, and the guest finds it. */
#include <errno.h>
#include <stdlib.h>

#include "content.h"
#include "gt.h"
#include "huge.h"
#include "world.h"

#define LENGTH (16 * MIB)
#define HALF (LENGTH / 2)
#define PAGE 4096u
#define FAR UINT64_C(0x20000000)

struct setup {
	uint32_t backing;
	uint64_t bind_flags;
	enum gmem_mechanism mechanism; /* forced */
	uint32_t threads;
};

static bool has_pre_fault(struct world *w)
{
	return gmem_vm_probe(w->vm, GMEM_FEATURE_PRE_FAULT, NULL) == GMEM_PRESENT;
}

static void assert_prefaulted(struct world *w, enum gmem_mechanism forced)
{
	struct gmem_run run = { .size = sizeof(run) };
	enum gmem_mechanism expected = forced ? forced : GMEM_MECH_HOST_FAULT;

	if (!forced && has_pre_fault(w))
		expected = GMEM_MECH_PRE_FAULT;
	assert_int_equal(world_query(w).prefault_mechanism, expected);
	for (uint64_t at = 0; at < w->length; at += run.length) {
		assert_int_equal(gmem_query_run(w->mem, at, &run), 0);
		assert_int_equal(run.state, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED);
	}
}

static void prefault(struct world *w, const struct setup *setup)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = setup->mechanism, .threads = setup->threads };
	uint64_t done = 7;

	if (gmem_prefault(w->mem, 0, w->length, &done, &opts))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, w->length);
	assert_prefaulted(w, setup->mechanism);
}

/* Where KVM reaches pages through the mapping, the vCPU's faults are this thread's. */
static void assert_no_faults(const struct setup *setup, long before)
{
	bool by_mapping = setup->backing == GMEM_BACKING_MEMFD || setup->bind_flags & GMEM_BIND_PLAIN;

	if (by_mapping)
		assert_true(world_faults() - before < (long)(LENGTH / PAGE / 8));
}

static void prefault_and_run(const struct setup *setup, uint64_t length)
{
	struct world w = world_make(setup->backing, length);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const unsigned char *content = world_fill(&w); /* with holes */
	long before;

	world_bind(&w, 0, 0, 0, length, setup->bind_flags);
	prefault(&w, setup);
	before = world_faults();
	world_assert_guest_sees(&w, 0, content, length);
	assert_no_faults(setup, before);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

#define PREFAULT(name, ...)                                                    \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		prefault_and_run(&(const struct setup){ __VA_ARGS__ }, LENGTH); \
	}

PREFAULT(guest_memfd_by_default, .backing = GMEM_BACKING_GUEST_MEMFD)
PREFAULT(guest_memfd_with_threads, .backing = GMEM_BACKING_GUEST_MEMFD, .threads = 2)
PREFAULT(guest_memfd_on_the_host_side, .backing = GMEM_BACKING_GUEST_MEMFD, .mechanism = GMEM_MECH_HOST_FAULT)
PREFAULT(plain_slot_by_default, .backing = GMEM_BACKING_GUEST_MEMFD, .bind_flags = GMEM_BIND_PLAIN)
PREFAULT(plain_slot_on_the_host_side, .backing = GMEM_BACKING_GUEST_MEMFD, .bind_flags = GMEM_BIND_PLAIN,
	 .mechanism = GMEM_MECH_HOST_FAULT, .threads = 2)
PREFAULT(memfd_by_default, .backing = GMEM_BACKING_MEMFD)
PREFAULT(memfd_on_the_host_side, .backing = GMEM_BACKING_MEMFD, .mechanism = GMEM_MECH_HOST_FAULT, .threads = 2)

static void hugetlb_by_default(void **state)
{
	(void)state;
	prefault_and_run(&(const struct setup){ .backing = GMEM_BACKING_HUGETLB }, huge_length(4 * HUGE_PAGE));
}

/* What the counter of faults is worth: without prefault the same guest takes one for every page. */
static void without_prefault_the_guest_faults(void **state)
{
	struct world w = world_make(GMEM_BACKING_MEMFD, LENGTH);
	const unsigned char *content = content_make(LENGTH, &w.seed);
	long before, taken;

	(void)state;
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	before = world_faults();
	assert_int_not_equal(guest_sum(w.guest, WORLD_SUM, 0, LENGTH), host_sum(WORLD_SUM, content, LENGTH));
	taken = world_faults() - before;
	world_end(&w);
	if (taken < (long)(LENGTH / PAGE / 8))
		gt_skip("KVM takes %ld faults for %lu pages here", taken, (unsigned long)(LENGTH / PAGE));
}

/* Between the two memslots a range that no guest sees: vCPUs map what is bound, the host allocates the rest. */
static void partly_bound(uint32_t backing)
{
	const struct setup setup = { .backing = backing };
	struct world w = world_make(backing, LENGTH);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const unsigned char *content = world_fill(&w);
	void *at;

	world_bind(&w, 0, 0, 0, 4 * MIB, 0);
	world_bind(&w, 1, FAR, HALF + 3 * PAGE, 5 * MIB, 0);
	if (has_pre_fault(&w))
		assert_int_equal(gmem_prefault(w.mem, 0, LENGTH, NULL, NULL), 0);
	else
		prefault(&w, &setup);
	world_assert_guest_sees(&w, 0, content, 4 * MIB);
	world_assert_guest_sees(&w, FAR, content + HALF + 3 * PAGE, 5 * MIB);
	assert_int_equal(gmem_map(w.mem, 0, LENGTH, &at, NULL), 0);
	assert_memory_equal(at, content, LENGTH);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

static void guest_memfd_partly_bound(void **state)
{
	(void)state;
	partly_bound(GMEM_BACKING_GUEST_MEMFD);
}

static void memfd_partly_bound(void **state)
{
	(void)state;
	partly_bound(GMEM_BACKING_MEMFD);
}

/* Forced: by the ioctl, or refused. */
static void by_vcpu(void **state)
{
	const struct setup setup = { .backing = GMEM_BACKING_GUEST_MEMFD, .mechanism = GMEM_MECH_PRE_FAULT };
	const struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = GMEM_MECH_PRE_FAULT };
	struct world w = world_make(GMEM_BACKING_GUEST_MEMFD, LENGTH);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	uint64_t done = 7;
	bool can = has_pre_fault(&w);
	int r;

	(void)state;
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	r = gmem_prefault(w.mem, 0, LENGTH, &done, &opts);
	assert_int_equal(r, can ? 0 : -EOPNOTSUPP);
	assert_int_equal(done, can ? LENGTH : 0);
	gmem_vcpu_close(vcpu);
	world_end(&w);
	if (!can)
		gt_skip("no KVM_PRE_FAULT_MEMORY here (kernel 6.11, hardware paging); refused as it should be");
	prefault_and_run(&setup, LENGTH);
}

/* A signal makes KVM_PRE_FAULT_MEMORY return 0 in the middle, with the rest in its structure, or -EINTR before it did anything. */
static void signals_stop_it_and_nothing_is_left_out(void **state)
{
	const struct setup setup = { .backing = GMEM_BACKING_MEMFD, .mechanism = GMEM_MECH_PRE_FAULT };
	const struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = GMEM_MECH_PRE_FAULT };
	struct world w = world_make(GMEM_BACKING_MEMFD, LENGTH);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const unsigned char *content = world_fill(&w);
	uint64_t all = 0, done;
	long before;
	int r = 0;

	(void)state;
	if (!has_pre_fault(&w)) {
		gmem_vcpu_close(vcpu);
		world_end(&w);
		gt_skip("no KVM_PRE_FAULT_MEMORY here (kernel 6.11, hardware paging)");
	}
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	world_tick(1000);
	do {
		r = gmem_prefault(w.mem, all, LENGTH - all, &done, &opts);
		all += done;
	} while (r == -EINTR);
	world_tick(0);
	assert_int_equal(r, 0);
	assert_int_equal(all, LENGTH);
	assert_true(world_ticks > 0);
	assert_prefaulted(&w, GMEM_MECH_PRE_FAULT);
	before = world_faults();
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_no_faults(&setup, before);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(guest_memfd_by_default, GMEM),
	GT(guest_memfd_with_threads, GMEM),
	GT(guest_memfd_on_the_host_side, GMEM),
	GT(plain_slot_by_default, GMEM),
	GT(plain_slot_on_the_host_side, GMEM),
	GT(memfd_by_default, GT_NEEDS_VCPU),
	GT(memfd_on_the_host_side, GT_NEEDS_VCPU),
	GT(hugetlb_by_default, GT_NEEDS_VCPU | GT_NEEDS_HUGETLB_2M),
	GT(without_prefault_the_guest_faults, GT_NEEDS_VCPU),
	GT(guest_memfd_partly_bound, GMEM),
	GT(memfd_partly_bound, GT_NEEDS_VCPU),
	GT(by_vcpu, GMEM),
	GT(signals_stop_it_and_nothing_is_left_out, GT_NEEDS_VCPU),
};

GT_MAIN("prefault_guest", tests)
