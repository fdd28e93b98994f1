/* SPDX-License-Identifier: MIT */
/* Prefault by the two forms of KVM_MAP_MEMORY, on kernels that have one: the guest finds everything mapped, and what was done
 * before an error counts. */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "content.h"
#include "gt.h"
#include "world.h"

#define LENGTH (8 * MIB)
#define HALF (LENGTH / 2)
#define PAGE 4096u
#define FAR UINT64_C(0x20000000)
#define VCPU (GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD)

struct form {
	enum gmem_mechanism mechanism;
	enum gmem_feature feature;
};

static const struct form forms[] = {
	{ GMEM_MECH_MAP_MEMORY, GMEM_FEATURE_MAP_MEMORY },
	{ GMEM_MECH_MAP_MEMORY_V1, GMEM_FEATURE_MAP_MEMORY_V1 },
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

struct setup {
	uint32_t backing;
	uint64_t bind_flags;
};

static bool has(struct world *w, enum gmem_feature feature)
{
	return gmem_vm_probe(w->vm, feature, NULL) == GMEM_PRESENT;
}

/* On kernels with neither form everything would be skipped: says so once, in each test. */
static const struct form *the_form(struct world *w, struct gmem_vcpu *vcpu)
{
	for (size_t i = 0; i < FORMS; i++)
		if (has(w, forms[i].feature))
			return &forms[i];
	gmem_vcpu_close(vcpu);
	world_end(w);
	gt_skip("no form of KVM_MAP_MEMORY here (proposed, never merged)");
	return NULL;
}

static int prefault(struct world *w, enum gmem_mechanism mechanism, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = mechanism };

	*done = 7;
	return gmem_prefault(w->mem, offset, length, done, &opts);
}

static struct world make(uint32_t backing)
{
	struct world w = world_start_with(GMEM_VM_RFC_IOCTLS);

	w.length = LENGTH;
	w.mem = world_memory(&w, backing, LENGTH);
	return w;
}

/* The forced form that is there works, and the other is refused. */
static void forced(const struct setup *setup)
{
	struct world w = make(setup->backing);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const struct form *form = the_form(&w, vcpu);
	const unsigned char *content = world_fill(&w);
	uint64_t done;
	long before;

	world_bind(&w, 0, 0, 0, LENGTH, setup->bind_flags);
	for (size_t i = 0; i < FORMS; i++) {
		int r = prefault(&w, forms[i].mechanism, 0, LENGTH, &done);

		assert_int_equal(r, has(&w, forms[i].feature) ? 0 : -EOPNOTSUPP);
		assert_int_equal(done, r ? 0 : LENGTH);
	}
	assert_int_equal(prefault(&w, form->mechanism, 0, LENGTH, &done), 0); /* again, of what is there */
	assert_int_equal(world_query(&w).prefault_mechanism, form->mechanism);
	before = world_faults();
	world_assert_guest_sees(&w, 0, content, LENGTH);
	if (setup->backing == GMEM_BACKING_MEMFD || setup->bind_flags & GMEM_BIND_PLAIN)
		assert_true(world_faults() - before < (long)(LENGTH / PAGE / 8));
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

static void guest_memfd_slot(void **state)
{
	(void)state;
	forced(&(const struct setup){ .backing = GMEM_BACKING_GUEST_MEMFD });
}

static void plain_slot_over_guest_memfd(void **state)
{
	(void)state;
	forced(&(const struct setup){ .backing = GMEM_BACKING_GUEST_MEMFD, .bind_flags = GMEM_BIND_PLAIN });
}

static void plain_slot_over_memfd(void **state)
{
	(void)state;
	forced(&(const struct setup){ .backing = GMEM_BACKING_MEMFD });
}

/* The best that is there, in the order of the chain. */
static void by_the_chain(void **state)
{
	struct world w = make(GMEM_BACKING_GUEST_MEMFD);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const struct form *form = the_form(&w, vcpu);
	const unsigned char *content = world_fill(&w);
	uint64_t done;

	(void)state;
	world_bind(&w, 0, 0, 0, HALF, 0);
	world_bind(&w, 1, FAR, HALF, HALF, 0);
	assert_int_equal(prefault(&w, GMEM_MECH_NONE, 0, LENGTH, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_int_equal(world_query(&w).prefault_mechanism,
			 has(&w, GMEM_FEATURE_PRE_FAULT) ? GMEM_MECH_PRE_FAULT : form->mechanism);
	world_assert_guest_sees(&w, 0, content, HALF);
	world_assert_guest_sees(&w, FAR, content + HALF, HALF);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

/* Whoever does not vouch for the kernel gets the host side: the number might mean something else. */
static void not_without_being_asked_for(void **state)
{
	struct world w = make(GMEM_BACKING_GUEST_MEMFD), other;
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	uint64_t done;

	(void)state;
	(void)the_form(&w, vcpu);
	gmem_vcpu_close(vcpu);
	world_end(&w);
	other = world_make(GMEM_BACKING_GUEST_MEMFD, LENGTH);
	vcpu = world_vcpu(&other);
	world_bind(&other, 0, 0, 0, LENGTH, 0);
	for (size_t i = 0; i < FORMS; i++) {
		assert_int_equal(gmem_vm_probe(other.vm, forms[i].feature, NULL), GMEM_UNDETERMINED);
		assert_int_equal(prefault(&other, forms[i].mechanism, 0, LENGTH, &done), -EOPNOTSUPP);
	}
	assert_int_equal(prefault(&other, GMEM_MECH_NONE, 0, LENGTH, &done), 0);
	assert_int_equal(world_query(&other).prefault_mechanism,
			 has(&other, GMEM_FEATURE_PRE_FAULT) ? GMEM_MECH_PRE_FAULT : GMEM_MECH_HOST_FAULT);
	gmem_vcpu_close(vcpu);
	world_end(&other);
}

/* The second half of the memslot goes behind the library's back: the kernel says -ENOENT, and how far it came. */
static void what_was_done_before_an_error_counts(void **state)
{
	struct world w = make(GMEM_BACKING_MEMFD);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const struct form *form = the_form(&w, vcpu);
	struct kvm_userspace_memory_region first_mib = { .slot = 0, .memory_size = MIB };
	struct kvm_userspace_memory_region nothing = { .slot = 0 };
	const unsigned char *content = world_fill(&w);
	uint64_t done;
	void *at;

	(void)state;
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	assert_int_equal(gmem_map(w.mem, 0, LENGTH, &at, NULL), 0);
	first_mib.userspace_addr = (uintptr_t)at;
	assert_int_equal(ioctl(w.vm_fd, KVM_SET_USER_MEMORY_REGION, &nothing), 0);
	assert_int_equal(ioctl(w.vm_fd, KVM_SET_USER_MEMORY_REGION, &first_mib), 0);
	assert_int_equal(prefault(&w, form->mechanism, 0, LENGTH, &done), -ENOENT);
	assert_int_equal(done, MIB);
	assert_int_equal(prefault(&w, form->mechanism, MIB, MIB, &done), -ENOENT);
	assert_int_equal(done, 0);
	world_assert_guest_sees(&w, 0, content, MIB);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

/* A signal is told as -EINTR, with what was done in the structure. */
static void signals_stop_it_and_nothing_is_left_out(void **state)
{
	struct world w = make(GMEM_BACKING_GUEST_MEMFD);
	struct gmem_vcpu *vcpu = world_vcpu(&w);
	const struct form *form = the_form(&w, vcpu);
	const unsigned char *content = world_fill(&w);
	uint64_t all = 0, done;
	int r;

	(void)state;
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	world_tick(1000);
	do {
		r = prefault(&w, form->mechanism, all, LENGTH - all, &done);
		all += done;
	} while (r == -EINTR);
	world_tick(0);
	assert_int_equal(r, 0);
	assert_int_equal(all, LENGTH);
	assert_true(world_ticks > 0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	gmem_vcpu_close(vcpu);
	world_end(&w);
}

static const struct gt_test tests[] = {
	GT(guest_memfd_slot, VCPU),
	GT(plain_slot_over_guest_memfd, VCPU),
	GT(plain_slot_over_memfd, VCPU),
	GT(by_the_chain, VCPU),
	GT(not_without_being_asked_for, VCPU),
	GT(what_was_done_before_an_error_counts, VCPU),
	GT(signals_stop_it_and_nothing_is_left_out, VCPU),
};

GT_MAIN("map_memory", tests)
