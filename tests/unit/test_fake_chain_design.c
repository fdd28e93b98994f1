/* SPDX-License-Identifier: MIT */
/* What is to be chosen where, by the design; and what the library says when nothing is. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"

#define LENGTH (UINT64_C(2) << 20)

#define MAPPABLE GMEM_NEED_MAPPABLE
#define PRIVATE GMEM_NEED_PRIVATE
#define LAZY GMEM_NEED_LAZY
#define HIDDEN GMEM_NEED_HIDDEN

/* A preset, and how libgmem sees it. */
enum { NONE, FORBIDDEN, FORBIDDEN_VM, V6_1, V6_12, V6_18, V7_3, V7_3_VCPU, SWP, SNP,
       SNP_AUTO, TDX, TDX_AS_SNP, UP, FC, ARM64, PKVM };

struct machine {
	const char *preset;
	bool has_vm;
	bool has_vcpu;
	uint32_t kind;
};

static const struct machine machines[] = {
	[NONE] = { "none", false, false, 0 },
	[FORBIDDEN] = { "forbidden", false, false, 0 },
	[FORBIDDEN_VM] = { "forbidden", true, false, 0 },
	[V6_1] = { "6.1", true, false, 0 },
	[V6_12] = { "6.12", true, false, 0 },
	[V6_18] = { "6.18", true, true, 0 },
	[V7_3] = { "7.3", true, false, 0 },
	[V7_3_VCPU] = { "7.3", true, true, 0 },
	[SWP] = { "sw-protected", true, false, GMEM_VM_SW_PROTECTED },
	[SNP] = { "snp", true, false, GMEM_VM_SNP },
	[SNP_AUTO] = { "snp", true, false, GMEM_VM_AUTO },
	[TDX] = { "tdx", true, false, GMEM_VM_TDX },
	[TDX_AS_SNP] = { "tdx", true, false, GMEM_VM_SNP },
	[UP] = { "future-upstream", true, true, 0 },
	[FC] = { "future-firecracker", true, true, 0 },
	[ARM64] = { "arm64", true, true, 0 },
	[PKVM] = { "arm64", true, false, GMEM_VM_PKVM },
};

static struct gmem_vcpu *vcpu;

static struct gmem_vm *enter(const struct machine *machine)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .kind = machine->kind };
	struct gmem_vm *vm;
	int fd = -1, vcpu_fd;

	fakekvm_enable(fakekvm_preset(machine->preset));
	if (machine->has_vm)
		fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &vm, &opts), 0);
	vcpu = NULL;
	if (machine->has_vcpu) {
		vcpu_fd = fakekvm_vcpu(fd);
		assert_int_equal(gmem_vcpu_open(vm, vcpu_fd, &vcpu), 0);
		close(vcpu_fd);
	}
	if (fd >= 0)
		close(fd);
	return vm;
}

static void leave(struct gmem_vm *vm)
{
	gmem_vcpu_close(vcpu);
	gmem_vm_close(vm);
	fakekvm_disable();
}

/* The chosen row of a chain; mechanism 0 = there is none. */
static struct gmem_step chosen_of(struct gmem_vm *vm, enum gmem_task task, uint64_t need)
{
	struct gmem_step step = { .size = sizeof(step) };

	for (uint32_t i = 0; gmem_vm_explain(vm, task, need, 0, i, &step) == 1; i++)
		if (step.chosen)
			return step;
	return (struct gmem_step){ .size = sizeof(step) };
}

struct choice {
	size_t machine;
	enum gmem_task task;
	uint64_t need;
	enum gmem_mechanism mechanism; /* 0 = nothing works */
	enum gmem_backing backing;     /* of the row, where it says one */
};

#define ON_FILE GMEM_BACKING_GUEST_MEMFD
#define ON_MEMFD GMEM_BACKING_MEMFD

static const struct choice choices[] = {
	{ NONE, GMEM_TASK_CREATE, 0, GMEM_MECH_MEMFD, ON_MEMFD },
	{ FORBIDDEN, GMEM_TASK_CREATE, MAPPABLE, GMEM_MECH_MEMFD, ON_MEMFD },
	{ FORBIDDEN, GMEM_TASK_CREATE, PRIVATE, 0, 0 },
	{ FORBIDDEN_VM, GMEM_TASK_CREATE, 0, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ FORBIDDEN_VM, GMEM_TASK_CREATE, LAZY | MAPPABLE, 0, 0 }, /* nobody would hear KVM's faults */
	{ V6_1, GMEM_TASK_CREATE, 0, GMEM_MECH_MEMFD, ON_MEMFD },
	{ V6_12, GMEM_TASK_CREATE, 0, GMEM_MECH_MEMFD, ON_MEMFD },
	{ V6_18, GMEM_TASK_CREATE, 0, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ V7_3, GMEM_TASK_CREATE, 0, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ V7_3, GMEM_TASK_CREATE, LAZY | MAPPABLE, GMEM_MECH_MEMFD, ON_MEMFD },
	{ V7_3, GMEM_TASK_CREATE, PRIVATE | MAPPABLE, 0, 0 },
	{ V7_3, GMEM_TASK_CREATE, HIDDEN, 0, 0 },
	{ SWP, GMEM_TASK_CREATE, 0, GMEM_MECH_MEMFD, ON_MEMFD },
	{ SWP, GMEM_TASK_CREATE, PRIVATE | MAPPABLE, GMEM_MECH_GUEST_MEMFD_PAIR, ON_FILE },
	{ SWP, GMEM_TASK_CREATE, PRIVATE | MAPPABLE | LAZY, 0, 0 },
	{ SNP, GMEM_TASK_CREATE, PRIVATE | MAPPABLE, GMEM_MECH_GUEST_MEMFD_PAIR, ON_FILE },
	{ UP, GMEM_TASK_CREATE, PRIVATE | MAPPABLE, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ UP, GMEM_TASK_CREATE, LAZY | MAPPABLE, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ UP, GMEM_TASK_CREATE, HIDDEN, 0, 0 },
	{ FC, GMEM_TASK_CREATE, HIDDEN, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ FC, GMEM_TASK_CREATE, HIDDEN | MAPPABLE | LAZY, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ ARM64, GMEM_TASK_CREATE, 0, GMEM_MECH_GUEST_MEMFD, ON_FILE },
	{ PKVM, GMEM_TASK_CREATE, 0, GMEM_MECH_MEMFD, ON_MEMFD },

	{ V6_1, GMEM_TASK_POPULATE, 0, GMEM_MECH_WRITE, ON_MEMFD },
	{ V7_3, GMEM_TASK_POPULATE, 0, GMEM_MECH_MAPPING, ON_FILE },
	{ SWP, GMEM_TASK_POPULATE, PRIVATE | MAPPABLE, GMEM_MECH_WRITE, ON_MEMFD }, /* the shared half */
	{ UP, GMEM_TASK_POPULATE, 0, GMEM_MECH_WRITE, ON_FILE },
	{ FC, GMEM_TASK_POPULATE, 0, GMEM_MECH_WRITE, ON_FILE },
	{ FC, GMEM_TASK_POPULATE, HIDDEN, GMEM_MECH_WRITE, ON_FILE },

	{ SWP, GMEM_TASK_POPULATE_PRIVATE, PRIVATE | MAPPABLE, 0, 0 },
	{ SNP, GMEM_TASK_POPULATE_PRIVATE, PRIVATE | MAPPABLE, GMEM_MECH_SNP_UPDATE, ON_FILE },
	{ TDX, GMEM_TASK_POPULATE_PRIVATE, PRIVATE | MAPPABLE, GMEM_MECH_TDX_REGION, ON_FILE },
	{ TDX_AS_SNP, GMEM_TASK_POPULATE_PRIVATE, PRIVATE | MAPPABLE, 0, 0 }, /* the caller's word is taken */
	{ UP, GMEM_TASK_POPULATE_PRIVATE, PRIVATE | MAPPABLE, GMEM_MECH_IN_PLACE, ON_FILE },

	{ V6_18, GMEM_TASK_PREFAULT, 0, GMEM_MECH_HOST_FAULT, 0 },
	{ V7_3, GMEM_TASK_PREFAULT, 0, GMEM_MECH_HOST_FAULT, 0 },
	{ V7_3_VCPU, GMEM_TASK_PREFAULT, 0, GMEM_MECH_PRE_FAULT, 0 },
	{ ARM64, GMEM_TASK_PREFAULT, 0, GMEM_MECH_HOST_FAULT, 0 },

	{ V7_3, GMEM_TASK_RESOLVE, LAZY | MAPPABLE, GMEM_MECH_UFFD_CONTINUE, ON_MEMFD },
	{ V7_3, GMEM_TASK_RESOLVE, 0, 0, 0 },
	{ UP, GMEM_TASK_RESOLVE, LAZY | MAPPABLE, GMEM_MECH_UFFD_CONTINUE, ON_FILE },

	{ V7_3, GMEM_TASK_CONVERT, 0, 0, 0 },
	{ SWP, GMEM_TASK_CONVERT, PRIVATE | MAPPABLE, GMEM_MECH_ATTRIBUTES_VM, ON_FILE },
	{ UP, GMEM_TASK_CONVERT, PRIVATE | MAPPABLE, GMEM_MECH_ATTRIBUTES_FILE, ON_FILE },

	{ NONE, GMEM_TASK_DISCARD, 0, GMEM_MECH_PUNCH_HOLE, 0 },
	{ V7_3, GMEM_TASK_DISCARD, 0, GMEM_MECH_PUNCH_HOLE, 0 },
};

static void the_design_is_followed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const struct choice *c = &choices[i];
		struct gmem_vm *vm = enter(&machines[c->machine]);
		struct gmem_step chosen = chosen_of(vm, c->task, c->need);

		if (chosen.mechanism != c->mechanism || chosen.backing != c->backing)
			fail_msg("row %zu: on %s task %d under 0x%llx is done by \"%s\", not \"%s\"", i,
				 machines[c->machine].preset, c->task, (unsigned long long)c->need,
				 gmem_mechanism_name((enum gmem_mechanism)chosen.mechanism), gmem_mechanism_name(c->mechanism));
		leave(vm);
	}
}

/* Refusals say what is missing */

static const struct {
	size_t machine;
	uint64_t need;
	uint32_t backing;
	int error; /* 0 = -EOPNOTSUPP of the library, else a code of the kernel: it is there, but withheld */
	const char *words[3];
} refusals[] = {
	{ V7_3, PRIVATE | MAPPABLE, 0, 0, { "attributes_vm", "attributes_file", "a memfd cannot be private" } },
	{ V7_3, HIDDEN, 0, 0, { "no_direct_map", "direct map", "" } },
	{ UP, HIDDEN, 0, 0, { "no_direct_map", "direct map", "" } },
	{ V6_1, PRIVATE, 0, 0, { "guest_memfd", "", "" } },
	{ FORBIDDEN, PRIVATE, 0, -EACCES, { "/dev/kvm", "a memfd cannot be private", "" } },
	{ FORBIDDEN_VM, LAZY | MAPPABLE, 0, -EPERM, { "uffd_kernel_faults", "vm.unprivileged_userfaultfd", "" } },
	{ SWP, PRIVATE | LAZY | MAPPABLE, 0, 0, { "private half", "a memfd cannot be private", "" } },
	{ FC, HIDDEN | GMEM_NEED_HUGE_2M, 0, 0, { "guest_memfd has no huge pages", "direct map", "" } },
	{ V6_12, MAPPABLE, ON_FILE, 0, { "guest_memfd", "", "" } },
	{ SWP, MAPPABLE, ON_FILE, 0, { "init_shared", "", "" } },
	{ SWP, PRIVATE, ON_MEMFD, 0, { "a memfd cannot be private", "", "" } },
	{ V7_3, GMEM_NEED_HUGE_2M, ON_MEMFD, 0, { "ordinary size", "", "" } },
};

static void refusals_name_the_missing_piece(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		struct gmem_vm *vm = enter(&machines[refusals[i].machine]);
		struct gmem_create_opts opts = { .size = sizeof(opts),
						 .need = refusals[i].need,
						 .backing = refusals[i].backing };
		struct gmem *mem = NULL;

		assert_int_equal(gmem_create(vm, LENGTH, &mem, &opts), refusals[i].error ? refusals[i].error : -EOPNOTSUPP);
		assert_null(mem);
		for (size_t j = 0; j < 3; j++)
			if (!strstr(gmem_last_error(), refusals[i].words[j]))
				fail_msg("row %zu: no \"%s\" in \"%s\"", i, refusals[i].words[j], gmem_last_error());
		assert_non_null(strstr(gmem_last_error(), "gmem_create: "));
		assert_non_null(strstr(gmem_last_error(),
				       refusals[i].error ? ", from the kernel)" : "(EOPNOTSUPP, from the library)"));
		leave(vm);
	}
}

static void wrong_questions(void **state)
{
	struct gmem_step step = { .size = sizeof(step) };
	struct gmem_vm *vm = enter(&machines[V7_3]);

	(void)state;
	assert_int_equal(gmem_vm_explain(NULL, GMEM_TASK_CREATE, 0, 0, 0, &step), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, 0, 0, NULL), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, (enum gmem_task)0, 0, 0, 0, &step), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, (enum gmem_task)(GMEM_TASK_DISCARD + 1), 0, 0, 0, &step), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, UINT64_C(1) << 6, 0, 0, &step), -E2BIG);
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G, 0, 0, &step), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, GMEM_BACKING_HUGETLB + 1, 0, &step), -EINVAL);
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, 0, UINT32_MAX, &step), 0);
	step.size = 7;
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, 0, 0, &step), -EINVAL);
	step.size = 4097;
	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, 0, 0, &step), -E2BIG);
	leave(vm);
}

static const struct gt_test tests[] = {
	GT(the_design_is_followed, GT_NEEDS_NOTHING),
	GT(refusals_name_the_missing_piece, GT_NEEDS_NOTHING),
	GT(wrong_questions, GT_NEEDS_NOTHING),
};

GT_MAIN("chains by design", tests)
