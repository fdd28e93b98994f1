/* SPDX-License-Identifier: MIT */
/* How features are asked: what is remembered, what is never asked, and what does not fool a probe. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "inject.h"
#include "raw.h"
#include "wrap.h" /* inject_describe() */

#include "../../lib/uapi/userfaultfd.h"

#define LAST GMEM_FEATURE_UFFD_RWP_ASYNC

/* A machine, a VM on it or none, and libgmem's view of that. */
struct world {
	struct fakekvm_config config;
	uint64_t flags;
	bool has_vm;
	bool has_vcpu;

	int fd;
	struct gmem_vm *vm;
	struct gmem_vcpu *vcpu;
};

static struct world world_of(const char *preset)
{
	return (struct world){ .config = *fakekvm_preset(preset), .has_vm = true, .fd = -1 };
}

static void add_vcpu(struct world *world)
{
	int fd = fakekvm_vcpu(world->fd);

	assert_int_equal(gmem_vcpu_open(world->vm, fd, &world->vcpu), 0);
	close(fd);
}

static void enter(struct world *world)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = world->flags };

	fakekvm_enable(&world->config);
	world->fd = world->has_vm ? fakekvm_vm(NULL) : -1;
	world->vcpu = NULL;
	assert_int_equal(gmem_vm_open(world->fd, &world->vm, &opts), 0);
	if (world->has_vcpu)
		add_vcpu(world);
}

static void leave(struct world *world)
{
	gmem_vcpu_close(world->vcpu);
	gmem_vm_close(world->vm);
	if (world->fd >= 0)
		close(world->fd);
	fakekvm_disable();
}

static int ask(const struct world *world, enum gmem_feature feature)
{
	int state = gmem_vm_probe(world->vm, feature, NULL);

	assert_in_range(state, GMEM_UNDETERMINED, GMEM_PRESENT);
	return state;
}

/* One question to a fresh view of a machine. */
static int once(struct world world, enum gmem_feature feature)
{
	int state;

	enter(&world);
	state = ask(&world, feature);
	leave(&world);
	return state;
}

static void ask_all(const struct world *world)
{
	for (int feature = 1; feature <= LAST; feature++)
		ask(world, (enum gmem_feature)feature);
}

/* Memory of answers */

static unsigned long calls_of_a_second_question(struct world *world, enum gmem_feature feature)
{
	inject_arm(0, 0);
	ask(world, feature);
	return inject_disarm();
}

/* What comes and goes while nobody looks: huge pages, and device nodes. */
static bool is_fleeting(enum gmem_feature feature)
{
	return feature == GMEM_FEATURE_HUGETLB_2M || feature == GMEM_FEATURE_HUGETLB_1G || feature == GMEM_FEATURE_UFFD_DEVICE;
}

static void check_memory(const char *preset, bool has_vm)
{
	struct world world = world_of(preset);

	world.has_vm = has_vm;
	enter(&world);
	for (int i = has_vm ? 1 : GMEM_FEATURE_UFFD_PAGEFAULT_WP; i <= LAST; i++) { /* without a VM the rest is about a node */
		enum gmem_feature feature = (enum gmem_feature)i;
		int state = ask(&world, feature);
		unsigned long calls = calls_of_a_second_question(&world, feature);

		if (state == GMEM_FORBIDDEN || is_fleeting(feature))
			assert_int_not_equal(calls, 0);
		else if (state != GMEM_UNDETERMINED)
			assert_int_equal(calls, 0);
	}
	leave(&world);
}

static void present_and_absent_are_remembered(void **state)
{
	(void)state;
	check_memory("7.3", true);
	check_memory("sw-protected", true);
	check_memory("future-firecracker", true);
	check_memory("none", false);
	check_memory("forbidden", false);
}

static void the_stand_in_is_asked_once(void **state)
{
	struct world world = world_of("7.3");
	unsigned int asked;

	(void)state;
	enter(&world);
	ask_all(&world);
	asked = fakekvm_calls("KVM_CREATE_GUEST_MEMFD");
	assert_int_equal(fakekvm_calls("probe:KVM_CREATE_GUEST_MEMFD"), 1);
	ask_all(&world);
	assert_int_equal(fakekvm_calls("KVM_CREATE_GUEST_MEMFD"), asked);
	assert_int_equal(fakekvm_calls("probe:KVM_SET_USER_MEMORY_REGION2"), 1);
	leave(&world);
}

/* What is found in a device node is asked again even then. */
static void forbidden_is_asked_again(void **state)
{
	static const enum gmem_feature features[] = { GMEM_FEATURE_KVM, GMEM_FEATURE_UFFD_DEVICE,
						      GMEM_FEATURE_UFFD_KERNEL_FAULTS, GMEM_FEATURE_UFFD_EVENT_FORK };
	struct world world = world_of("forbidden");

	(void)state;
	world.has_vm = false;
	enter(&world);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(ask(&world, features[i]), GMEM_FORBIDDEN);
	fakekvm_enable(fakekvm_preset("7.3"));
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(ask(&world, features[i]), GMEM_PRESENT);
	fakekvm_enable(fakekvm_preset("forbidden"));
	assert_int_equal(ask(&world, GMEM_FEATURE_KVM), GMEM_FORBIDDEN);
	assert_int_equal(ask(&world, GMEM_FEATURE_UFFD_DEVICE), GMEM_FORBIDDEN);
	assert_int_equal(ask(&world, GMEM_FEATURE_UFFD_EVENT_FORK), GMEM_PRESENT);
	leave(&world);
}

static void undetermined_is_asked_again(void **state)
{
	struct world world = world_of("7.3");
	struct gmem_probe seen = { .size = sizeof(seen) };

	(void)state;
	enter(&world);
	fakekvm_script("KVM_CREATE_GUEST_MEMFD", ENOMEM, 2, 0);
	assert_int_equal(gmem_vm_probe(world.vm, GMEM_FEATURE_GUEST_MEMFD_MMAP, &seen), GMEM_UNDETERMINED);
	assert_int_equal(seen.error, -ENOMEM);
	assert_non_null(seen.hint);
	assert_int_equal(ask(&world, GMEM_FEATURE_GUEST_MEMFD_MMAP), GMEM_UNDETERMINED);
	assert_int_equal(ask(&world, GMEM_FEATURE_GUEST_MEMFD_MMAP), GMEM_PRESENT);
	leave(&world);
}

/* Recycled numbers */

static bool is_recycled(unsigned long request)
{
	return request == KVMI_GUEST_MEMFD_POPULATE || request == KVMI_MAP_MEMORY_V1 || request == KVMI_MAP_MEMORY_V2;
}

/* The number of the ioctl that is the nth call while all is asked; 0 = another call, 1 = none. The injector only looks. */
static unsigned long nth_call(const struct world *like, unsigned long nth)
{
	struct world world = *like;
	unsigned long request = 0;

	inject_arm(nth, INJECT_SHORT);
	enter(&world);
	ask_all(&world);
	inject_disarm();
	if (!inject_fired())
		request = 1;
	else if (strcmp(inject_where(), "ioctl") == 0)
		assert_int_equal(sscanf(inject_describe(), "ioctl(%lx)", &request), 1);
	leave(&world);
	return request;
}

static unsigned int count_recycled(const struct world *world)
{
	unsigned int count = 0;
	unsigned long request;

	for (unsigned long nth = 1; (request = nth_call(world, nth)) != 1; nth++)
		count += is_recycled(request);
	return count;
}

/* A kernel that would answer to all of them. */
static struct world knowing_world(void)
{
	struct world world = world_of("7.3");

	fakekvm_know(&world.config, "KVM_GUEST_MEMFD_POPULATE");
	fakekvm_know(&world.config, "KVM_MAP_MEMORY");
	fakekvm_know(&world.config, "KVM_MAP_MEMORY v1");
	fakekvm_know(&world.config, "KVM_ASYNC_PF");
	world.has_vcpu = true;
	return world;
}

static void recycled_numbers_are_not_issued_unasked(void **state)
{
	struct world world = knowing_world();

	(void)state;
	assert_int_equal(count_recycled(&world), 0);
	for (int feature = GMEM_FEATURE_MAP_MEMORY; feature <= GMEM_FEATURE_POPULATE_IOCTL; feature++)
		assert_int_equal(once(world, (enum gmem_feature)feature), GMEM_UNDETERMINED);
}

static void recycled_numbers_go_to_the_right_fd(void **state)
{
	struct world world = knowing_world();

	(void)state;
	world.flags = GMEM_VM_RFC_IOCTLS;
	assert_int_equal(count_recycled(&world), 3);
	enter(&world);
	ask_all(&world);
	assert_int_equal(fakekvm_calls("probe:KVM_GUEST_MEMFD_POPULATE"), 1);
	assert_int_equal(fakekvm_calls("probe:KVM_MAP_MEMORY"), 1);
	assert_int_equal(fakekvm_calls("probe:KVM_MAP_MEMORY v1"), 1);
	assert_int_equal(fakekvm_calls("probe:KVM_ASYNC_PF"), 0);
	for (int feature = GMEM_FEATURE_MAP_MEMORY; feature <= GMEM_FEATURE_POPULATE_IOCTL; feature++)
		assert_int_equal(ask(&world, (enum gmem_feature)feature), GMEM_PRESENT);
	leave(&world);
}

static void async_pf_is_not_populate(void **state)
{
	struct world world = world_of("future-firecracker");

	(void)state;
	world.flags = GMEM_VM_RFC_IOCTLS;
	world.has_vcpu = true;
	enter(&world);
	ask_all(&world);
	for (int feature = GMEM_FEATURE_MAP_MEMORY; feature <= GMEM_FEATURE_POPULATE_IOCTL; feature++)
		assert_int_equal(ask(&world, (enum gmem_feature)feature), GMEM_ABSENT);
	assert_int_equal(fakekvm_calls("probe:KVM_ASYNC_PF"), 0);
	leave(&world);
}

/* What looks like a feature */

static void numbers_alone_prove_nothing(void **state)
{
	static const uint32_t numbers[] = { 236, 239, 240, 243, 245, 246 };
	static const char *const names[] = { "7.3", "arm64", "6.1" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct world world = world_of(names[i]);

		fakekvm_know(&world.config, "KVM_SET_MEMORY_ATTRIBUTES2"); /* and refuses it to VMs without private memory */
		for (size_t j = 0; j < sizeof(numbers) / sizeof(numbers[0]); j++)
			fakekvm_set_cap(&world.config, numbers[j], 1, 1);
		assert_int_equal(once(world, GMEM_FEATURE_KVM_USERFAULT), GMEM_ABSENT);
		assert_int_equal(once(world, GMEM_FEATURE_ATTRIBUTES_FILE), GMEM_ABSENT);
	}
}

/* Bit 17 was once proposed to mean minor faults on guest_memfd. */
static void bit_17_of_the_proposals_is_not_rwp(void **state)
{
	struct world world = world_of("6.18");

	(void)state;
	world.config.uffd_features |= UINT64_C(3) << UFFDI_BIT_RWP;
	assert_int_equal(once(world, GMEM_FEATURE_UFFD_RWP), GMEM_ABSENT);
	assert_int_equal(once(world, GMEM_FEATURE_UFFD_RWP_ASYNC), GMEM_ABSENT);
	assert_int_equal(once(world, GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR), GMEM_ABSENT);
	assert_int_equal(once(world, GMEM_FEATURE_UFFD_MOVE), GMEM_PRESENT);
}

/* 6.18-rc1: capability 244 was called KVM_CAP_GUEST_MEMFD_MMAP, and 1. */
static void flags_capability_of_rc1(void **state)
{
	struct world world = world_of("6.18");

	(void)state;
	fakekvm_set_cap(&world.config, KVMI_CAP_GUEST_MEMFD_FLAGS, 1, 1);
	world.config.gmem_flags = KVMI_GUEST_MEMFD_MMAP;
	assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_MMAP), GMEM_PRESENT);
	assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED), GMEM_ABSENT);
}

/* A kernel whose flags say `flags`, where two of them mean this. */
static struct world flagged_world(int flags, uint64_t write, uint64_t no_direct_map)
{
	struct world world = world_of("7.3");

	fakekvm_set_cap(&world.config, KVMI_CAP_GUEST_MEMFD_FLAGS, flags, flags);
	world.config.gmem_flags = (uint64_t)flags;
	world.config.gmem_write = write;
	world.config.gmem_no_direct_map = no_direct_map;
	return world;
}

static void bits_2_and_3_are_tried(void **state)
{
	static const struct {
		int flags;
		uint64_t write, no_direct_map;
	} kernels[] = {
		{ 3, 0, 0 }, { 7, 4, 0 }, { 7, 0, 4 }, { 15, 8, 4 }, { 11, 8, 0 }, { 15, 0, 0 }, { 15, 4, 0 },
		{ 7, 0, 0 }, /* bit 2 is huge pages */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		struct world world = flagged_world(kernels[i].flags, kernels[i].write, kernels[i].no_direct_map);

		assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_WRITE), kernels[i].write ? GMEM_PRESENT : GMEM_ABSENT);
		assert_int_equal(once(world, GMEM_FEATURE_NO_DIRECT_MAP),
				 kernels[i].no_direct_map ? GMEM_PRESENT : GMEM_ABSENT);
		assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED), GMEM_PRESENT);
	}
}

/* Found by trying, but not offered: not used. */
static void flags_that_are_not_offered(void **state)
{
	struct world world = flagged_world(7, 4, 0);

	(void)state;
	fakekvm_set_cap(&world.config, KVMI_CAP_GUEST_MEMFD_FLAGS, 3, 3);
	assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_WRITE), GMEM_ABSENT);
}

/* Creating works, the capability is there, binding does not. */
static void a_file_that_cannot_be_bound(void **state)
{
	struct world world = world_of("7.3");

	(void)state;
	world.config.slot_flags &= ~KVMI_MEM_GUEST_MEMFD;
	assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD), GMEM_ABSENT);
	assert_int_equal(once(world, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED), GMEM_ABSENT);
}

/* vCPUs */

static void pre_fault_needs_a_vcpu(void **state)
{
	struct world world = world_of("7.3");
	struct gmem_probe seen = { .size = sizeof(seen) };

	(void)state;
	enter(&world);
	assert_int_equal(gmem_vm_probe(world.vm, GMEM_FEATURE_PRE_FAULT, &seen), GMEM_UNDETERMINED);
	assert_non_null(strstr(seen.hint, "gmem_vcpu_open"));
	add_vcpu(&world);
	assert_int_equal(fakekvm_calls("probe:KVM_PRE_FAULT_MEMORY"), 1); /* at once: later the vCPU may be busy */
	assert_int_equal(ask(&world, GMEM_FEATURE_PRE_FAULT), GMEM_PRESENT);
	assert_int_equal(fakekvm_calls("probe:KVM_PRE_FAULT_MEMORY"), 1);
	gmem_vcpu_close(world.vcpu);
	world.vcpu = NULL;
	assert_int_equal(ask(&world, GMEM_FEATURE_PRE_FAULT), GMEM_PRESENT);
	leave(&world);
}

/* The vCPU was in KVM_RUN when it was asked, and is gone now. */
static void a_vcpu_that_is_gone_is_not_asked(void **state)
{
	struct world world = world_of("7.3");
	struct gmem_probe seen = { .size = sizeof(seen) };

	(void)state;
	enter(&world);
	fakekvm_script("probe:KVM_PRE_FAULT_MEMORY", EINTR, 1, 0);
	add_vcpu(&world);
	gmem_vcpu_close(world.vcpu);
	assert_int_equal(gmem_vm_probe(world.vm, GMEM_FEATURE_PRE_FAULT, &seen), GMEM_UNDETERMINED);
	assert_non_null(strstr(seen.hint, "gmem_vcpu_open"));
	assert_int_equal(fakekvm_calls("probe:KVM_PRE_FAULT_MEMORY"), 1);
	add_vcpu(&world);
	assert_int_equal(ask(&world, GMEM_FEATURE_PRE_FAULT), GMEM_PRESENT);
	leave(&world);
}

static void pre_fault_needs_capability_and_ioctl(void **state)
{
	struct world old = world_of("6.1"), software = world_of("6.18");

	(void)state;
	fakekvm_set_cap(&old.config, KVMI_CAP_PRE_FAULT_MEMORY, 1, 1);
	assert_int_equal(once(old, GMEM_FEATURE_PRE_FAULT), GMEM_UNDETERMINED);
	old.has_vcpu = software.has_vcpu = true;
	assert_int_equal(once(old, GMEM_FEATURE_PRE_FAULT), GMEM_ABSENT);
	assert_int_equal(once(software, GMEM_FEATURE_PRE_FAULT), GMEM_ABSENT);
}

static const struct gt_test tests[] = {
	GT(present_and_absent_are_remembered, GT_NEEDS_NOTHING),
	GT(the_stand_in_is_asked_once, GT_NEEDS_NOTHING),
	GT(forbidden_is_asked_again, GT_NEEDS_NOTHING),
	GT(undetermined_is_asked_again, GT_NEEDS_NOTHING),
	GT(recycled_numbers_are_not_issued_unasked, GT_NEEDS_NOTHING),
	GT(recycled_numbers_go_to_the_right_fd, GT_NEEDS_NOTHING),
	GT(async_pf_is_not_populate, GT_NEEDS_NOTHING),
	GT(numbers_alone_prove_nothing, GT_NEEDS_NOTHING),
	GT(bit_17_of_the_proposals_is_not_rwp, GT_NEEDS_NOTHING),
	GT(flags_capability_of_rc1, GT_NEEDS_NOTHING),
	GT(bits_2_and_3_are_tried, GT_NEEDS_NOTHING),
	GT(flags_that_are_not_offered, GT_NEEDS_NOTHING),
	GT(a_file_that_cannot_be_bound, GT_NEEDS_NOTHING),
	GT(pre_fault_needs_a_vcpu, GT_NEEDS_NOTHING),
	GT(a_vcpu_that_is_gone_is_not_asked, GT_NEEDS_NOTHING),
	GT(pre_fault_needs_capability_and_ioctl, GT_NEEDS_NOTHING),
};

GT_MAIN("how features are asked", tests)
