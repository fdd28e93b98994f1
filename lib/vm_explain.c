/* SPDX-License-Identifier: MIT */
#include <gmem/vm.h>

#include "err.h"
#include "opts.h"
#include "vm_chain.h"

static const char chosen[] = "the best that works here";
static const char works[] = "works, but a better one does too";
static const char no_memory[] = "no memory can be made that serves these needs";

/* Of a pair, the rest is done to the private half. */
static bool is_about_shared_half(enum gmem_task task)
{
	return task != GMEM_TASK_CONVERT && task != GMEM_TASK_POPULATE_PRIVATE;
}

/* Tasks on memory are explained for the memory that would be made. */
static bool find_backing(struct gmem_vm *vm, enum gmem_task task, struct gmemi_wish *wish)
{
	const struct gmemi_chain_row *made;

	if (task == GMEM_TASK_CREATE)
		return true;
	made = gmemi_chain_pick(vm, GMEM_TASK_CREATE, wish, NULL);
	if (!made)
		return false;
	wish->backing = gmemi_backing_of(made->mechanism);
	if (made->mechanism == GMEM_MECH_GUEST_MEMFD_PAIR && is_about_shared_half(task))
		wish->backing = GMEM_BACKING_MEMFD;
	return true;
}

/* Creation ends with the code of a shortage rather than go on to a lesser way. */
static bool is_chosen(struct gmem_vm *vm, const struct gmemi_chain_row *row, const struct gmemi_wish *wish)
{
	int shortage = 0, *for_good = row->task == GMEM_TASK_CREATE ? &shortage : NULL;
	bool chosen = gmemi_chain_pick_for_good(vm, row->task, wish, NULL, for_good) == row;

	if (shortage)
		gmemi_tolerated();
	return chosen;
}

static struct gmem_step explain(struct gmem_vm *vm, const struct gmemi_chain_row *row, struct gmemi_wish *wish)
{
	struct gmem_step step = { .mechanism = row->mechanism,
				  .backing = gmemi_chain_backing(row),
				  .why = no_memory };
	struct gmemi_judgement judgement;

	if (!find_backing(vm, row->task, wish))
		return step;
	judgement = gmemi_chain_judge(vm, row, wish);
	step.feature = judgement.feature;
	step.state = judgement.feature ? judgement.state : GMEM_UNDETERMINED;
	step.why = judgement.why;
	if (judgement.usable) {
		step.chosen = is_chosen(vm, row, wish);
		step.why = step.chosen ? chosen : works;
	}
	return step;
}

int gmem_vm_explain(struct gmem_vm *vm, enum gmem_task task, uint64_t need, uint32_t backing, uint32_t index, struct gmem_step *step)
{
	struct gmemi_wish wish = { .need = need, .backing = (enum gmem_backing)backing };
	const struct gmemi_chain_row *row;
	struct gmem_step found;
	int r;

	GMEMI_CALL();
	r = gmemi_vm_check(vm);
	if (r == 0)
		r = gmemi_info_check(step, "step");
	if (r == 0)
		r = gmemi_need_check(&wish.need, wish.backing);
	if (r < 0)
		return r;
	if (!gmem_task_name(task))
		return gmemi_refuse(-EINVAL, "task %d is unknown to this library", (int)task);
	row = gmemi_chain_row(task, index);
	if (!row)
		return 0;
	found = explain(vm, row, &wish);
	gmemi_info_out(step, &found, sizeof(found));
	return 1;
}

const char *gmem_task_name(enum gmem_task task)
{
	static const char *const names[] = {
		[GMEM_TASK_CREATE] = "create",		[GMEM_TASK_POPULATE] = "populate", [GMEM_TASK_POPULATE_PRIVATE] = "populate-private",
		[GMEM_TASK_PREFAULT] = "prefault",	[GMEM_TASK_RESOLVE] = "resolve",   [GMEM_TASK_CONVERT] = "convert",
		[GMEM_TASK_DISCARD] = "discard",
	};
	size_t index = (size_t)task;

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : NULL;
}
