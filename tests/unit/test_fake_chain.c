/* SPDX-License-Identifier: MIT */
/* gmem_vm_explain() on every preset, for every task and every set of needs: it says what the library then does.
 * What it should say is in test_fake_chain_design.c. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define MOST_ROWS 16
#define ALL_NEEDS 64 /* six bits */
#define HUGE (GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G)

#define MAPPABLE GMEM_NEED_MAPPABLE
#define PRIVATE GMEM_NEED_PRIVATE

struct machine {
	const char *preset;
	bool has_vm;
	bool has_vcpu;
	uint32_t kind;
};

static const struct machine machines[] = {
	{ "none", false, false, 0 },
	{ "forbidden", false, false, 0 },
	{ "forbidden", true, false, 0 },
	{ "6.1", true, false, 0 },
	{ "6.12", true, false, 0 },
	{ "6.18", true, true, 0 },
	{ "7.3", true, false, 0 },
	{ "7.3", true, true, 0 },
	{ "sw-protected", true, false, GMEM_VM_SW_PROTECTED },
	{ "snp", true, false, GMEM_VM_SNP },
	{ "snp", true, false, GMEM_VM_AUTO },
	{ "tdx", true, false, GMEM_VM_TDX },
	{ "future-upstream", true, true, 0 },
	{ "future-firecracker", true, true, 0 },
	{ "arm64", true, true, 0 },
};

/* Every set of needs, with every backing. */
#define QUESTIONS (4 * ALL_NEEDS)

static uint64_t need_of(uint64_t question)
{
	return question % ALL_NEEDS;
}

static uint32_t backing_of(uint64_t question)
{
	return (uint32_t)(question / ALL_NEEDS);
}

static bool sensible(uint64_t question)
{
	return (need_of(question) & HUGE) != HUGE;
}

#define MACHINES (sizeof(machines) / sizeof(machines[0]))

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

/* Best first. */
static const struct {
	enum gmem_task task;
	enum gmem_mechanism order[MOST_ROWS]; /* 0 ends it */
} design[] = {
	{ GMEM_TASK_CREATE, { GMEM_MECH_GUEST_MEMFD, GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_MECH_HUGETLB, GMEM_MECH_MEMFD } },
	{ GMEM_TASK_POPULATE, { GMEM_MECH_WRITE, GMEM_MECH_SPLICE, GMEM_MECH_MAPPING } },
	{ GMEM_TASK_POPULATE_PRIVATE,
	  { GMEM_MECH_IN_PLACE, GMEM_MECH_SNP_UPDATE, GMEM_MECH_TDX_REGION, GMEM_MECH_POPULATE_IOCTL } },
	{ GMEM_TASK_PREFAULT, { GMEM_MECH_PRE_FAULT, GMEM_MECH_MAP_MEMORY, GMEM_MECH_MAP_MEMORY_V1, GMEM_MECH_HOST_FAULT } },
	{ GMEM_TASK_RESOLVE, { GMEM_MECH_UFFD_CONTINUE, GMEM_MECH_UFFD_COPY, GMEM_MECH_KVM_USERFAULT } },
	{ GMEM_TASK_CONVERT, { GMEM_MECH_ATTRIBUTES_FILE, GMEM_MECH_ATTRIBUTES_VM } },
	{ GMEM_TASK_DISCARD, { GMEM_MECH_PUNCH_HOLE, GMEM_MECH_MADV_REMOVE } },
};

#define TASKS (sizeof(design) / sizeof(design[0]))

static uint32_t rows_of(struct gmem_vm *vm, enum gmem_task task, uint64_t need, uint32_t backing, struct gmem_step *rows)
{
	uint32_t count = 0;
	int r;

	for (;;) {
		struct gmem_step *step = &rows[count];

		memset(step, 0x55, sizeof(*step));
		step->size = sizeof(*step);
		r = gmem_vm_explain(vm, task, need, backing, count, step);
		if (r != 1)
			break;
		assert_in_range(++count, 1, MOST_ROWS - 1);
	}
	assert_int_equal(r, 0);
	assert_int_equal(rows[count].mechanism, 0x55555555); /* outputs are written on success only */
	return count;
}

static const struct gmem_step *chosen_of(const struct gmem_step *rows, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (rows[i].chosen)
			return &rows[i];
	return NULL;
}

/* The same mechanism may have several rows, one a backing; else the order is that of the design. */
static void check_order(const enum gmem_mechanism *order, const struct gmem_step *rows, uint32_t count)
{
	uint32_t at = 0;

	assert_int_equal(rows[0].mechanism, order[0]);
	for (uint32_t i = 0; i < count; i++) {
		if (rows[i].mechanism != order[at])
			at++;
		assert_int_equal(rows[i].mechanism, order[at]);
	}
	assert_int_equal(order[at + 1], 0);
}

static void check_row(struct gmem_vm *vm, const struct gmem_step *row, bool before_chosen)
{
	int state = row->feature ? gmem_vm_probe(vm, (enum gmem_feature)row->feature, NULL) : GMEM_PRESENT;

	assert_non_null(row->why);
	assert_true(row->why[0]);
	assert_int_equal(row->reserved, 0);
	assert_in_range(row->chosen, 0, 1);
	assert_string_not_equal(gmem_mechanism_name((enum gmem_mechanism)row->mechanism), "unknown");
	if (row->feature)
		assert_int_equal(row->state, state);
	if (row->chosen)
		assert_int_equal(state, GMEM_PRESENT);
	if (before_chosen && row->feature)
		assert_int_not_equal(state, GMEM_PRESENT); /* it would have been better */
}

static void check_chain(struct gmem_vm *vm, size_t task, uint64_t need, uint32_t backing)
{
	struct gmem_step rows[MOST_ROWS];
	uint32_t count = rows_of(vm, design[task].task, need, backing, rows), chosen = 0;
	const struct gmem_step *best = chosen_of(rows, count);

	check_order(design[task].order, rows, count);
	for (uint32_t i = 0; i < count; i++) {
		check_row(vm, &rows[i], best && &rows[i] < best);
		chosen += rows[i].chosen;
	}
	assert_in_range(chosen, 0, 1);
}

static void every_chain_is_sound(void **state)
{
	(void)state;
	for (size_t m = 0; m < MACHINES; m++) {
		struct gmem_vm *vm = enter(&machines[m]);

		for (uint64_t i = 0; i < QUESTIONS; i++)
			for (size_t task = 0; sensible(i) && task < TASKS; task++)
				check_chain(vm, task, need_of(i), backing_of(i));
		leave(vm);
	}
}

/* What is done is what was explained */

/* Of huge pages too. */
static uint64_t length_for(uint64_t need)
{
	return need & GMEM_NEED_HUGE_1G ? UINT64_C(1) << 30 : UINT64_C(2) << 20;
}

static int create(struct gmem_vm *vm, uint64_t need, uint32_t backing, struct gmem **mem)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };

	return gmem_create(vm, length_for(need), mem, &opts);
}

static struct gmem_info query(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info;
}

/* Where nothing was chosen: the code of the first row that is only withheld, or could not be asked; else nothing can do it. */
static int refusal_of(struct gmem_vm *vm, const struct gmem_step *rows, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct gmem_probe seen = { .size = sizeof(seen) };

		if (rows[i].feature && rows[i].state != GMEM_ABSENT)
			gmem_vm_probe(vm, (enum gmem_feature)rows[i].feature, &seen);
		if (seen.error)
			return seen.error;
	}
	return -EOPNOTSUPP;
}

static void fail_here(const struct machine *machine, uint64_t question, const char *what, unsigned int said, int result)
{
	fail_msg("%s (VM %d), needs 0x%llx on %s: %s was explained as \"%s\", and came to %d: %s", machine->preset,
		 machine->has_vm, (unsigned long long)need_of(question),
		 gmem_backing_name((enum gmem_backing)backing_of(question)), what,
		 gmem_mechanism_name((enum gmem_mechanism)said), result, gmem_last_error());
}

static uint64_t full_need(uint64_t question)
{
	uint64_t need = need_of(question) ? need_of(question) : MAPPABLE;

	return backing_of(question) == GMEM_BACKING_HUGETLB && !(need & HUGE) ? need | GMEM_NEED_HUGE_2M : need;
}

static struct gmem *check_create(const struct machine *machine, struct gmem_vm *vm, uint64_t question)
{
	struct gmem_step rows[MOST_ROWS];
	uint32_t count = rows_of(vm, GMEM_TASK_CREATE, need_of(question), backing_of(question), rows);
	const struct gmem_step *chosen = chosen_of(rows, count);
	struct gmem *mem = NULL;
	struct gmem_info info;
	int r = create(vm, need_of(question), backing_of(question), &mem);

	if (r != (chosen ? 0 : refusal_of(vm, rows, count)))
		fail_here(machine, question, "creating", chosen ? chosen->mechanism : 0, r);
	if (!chosen) {
		assert_null(mem);
		return NULL;
	}
	info = query(mem);
	if (info.mechanism != chosen->mechanism)
		fail_here(machine, question, "creating", chosen->mechanism, (int)info.mechanism);
	assert_int_equal(info.backing, chosen->backing);
	assert_int_equal(info.need, full_need(question));
	assert_int_equal(info.length, length_for(need_of(question)));
	assert_int_equal(info.in_place, info.need & PRIVATE && info.mechanism == GMEM_MECH_GUEST_MEMFD);
	return mem;
}

static void check_populate(const struct machine *machine, struct gmem_vm *vm, uint64_t question, struct gmem *mem)
{
	static const unsigned char page[RAW_PAGE] = { 1, 2, 3 };
	struct gmem_step rows[MOST_ROWS];
	uint32_t count = rows_of(vm, GMEM_TASK_POPULATE, need_of(question), backing_of(question), rows);
	const struct gmem_step *chosen = chosen_of(rows, count);
	uint64_t done = 99;
	int r = gmem_populate(mem, 0, RAW_PAGE, page, &done, NULL);

	if (r != (chosen ? 0 : refusal_of(vm, rows, count)))
		fail_here(machine, question, "populating", chosen ? chosen->mechanism : 0, r);
	assert_int_equal(done, chosen ? RAW_PAGE : 0);
	if (query(mem).populate_mechanism != (chosen ? chosen->mechanism : 0))
		fail_here(machine, question, "populating", chosen ? chosen->mechanism : 0, (int)query(mem).populate_mechanism);
}

static void creating_does_what_was_explained(void **state)
{
	(void)state;
	for (size_t m = 0; m < MACHINES; m++) {
		struct gmem_vm *vm = enter(&machines[m]);

		for (uint64_t i = 0; i < QUESTIONS; i++)
			if (sensible(i))
				gmem_destroy(check_create(&machines[m], vm, i));
		leave(vm);
	}
}

static void populating_does_what_was_explained(void **state)
{
	(void)state;
	for (size_t m = 0; m < MACHINES; m++) {
		struct gmem_vm *vm = enter(&machines[m]);

		for (uint64_t i = 0; i < QUESTIONS; i++) {
			struct gmem *mem = NULL;

			if (!sensible(i) || create(vm, need_of(i), backing_of(i), &mem))
				continue;
			check_populate(&machines[m], vm, i, mem);
			gmem_destroy(mem);
		}
		leave(vm);
	}
}

/* Memory that could be made can be put into the guest, whatever was asked of it. */
static void what_can_be_made_can_be_bound(void **state)
{
	(void)state;
	for (size_t m = 0; m < MACHINES; m++) {
		struct gmem_vm *vm = enter(&machines[m]);

		for (uint64_t i = 0; i < QUESTIONS; i++) {
			struct gmem *mem = NULL;
			int r;

			if (!sensible(i) || create(vm, need_of(i), backing_of(i), &mem))
				continue;
			r = gmem_bind(mem, 0, 0, 0, length_for(need_of(i)), NULL);
			if (r < 0)
				fail_here(&machines[m], i, "binding", 0, r);
			assert_int_equal(gmem_unbind(mem, 0), 0);
			gmem_destroy(mem);
		}
		leave(vm);
	}
}

static const struct gt_test tests[] = {
	GT(every_chain_is_sound, GT_NEEDS_NOTHING),
	GT(creating_does_what_was_explained, GT_NEEDS_NOTHING),
	GT(populating_does_what_was_explained, GT_NEEDS_NOTHING),
	GT(what_can_be_made_can_be_bound, GT_NEEDS_NOTHING),
};

GT_MAIN("chains", tests)
