/* SPDX-License-Identifier: MIT */
#include "explain.h"

#include "guest_memory.h"
#include "microvm.h"
#include "say.h"

static void print_step(const struct microvm *m, const struct gmem_step *step)
{
	const char *feature = gmem_feature_name(step->feature); /* NULL if no feature decided */

	fprintf(m->out, "  %c %-20s  %-11s  %-23s  %-12s  %s\n", step->chosen ? '*' : ' ', gmem_mechanism_name(step->mechanism),
		step->backing ? gmem_backing_name(step->backing) : "any", feature ? feature : "-",
		feature ? gmem_state_name(step->state) : "-", step->why);
}

static int print_chain(const struct microvm *m, enum gmem_task task, const char *title)
{
	struct gmem_step step = { .size = sizeof(step) };
	int r;

	fprintf(m->out, "%s\n", title);
	for (uint32_t row = 0;
	     (r = gmem_vm_explain(m->vm, task, guest_memory_need(m->options), m->options->backing, row, &step)) > 0; row++)
		print_step(m, &step);
	return r < 0 ? fail_gmem("explain a choice") : 0;
}

int explain(const struct microvm *m)
{
	if (print_chain(m, GMEM_TASK_CREATE, "Ways to create the memory (* = the library's choice):"))
		return -1;
	if (m->options->lazy)
		return print_chain(m, GMEM_TASK_RESOLVE, "Ways to bring in what is touched:");
	if (print_chain(m, GMEM_TASK_POPULATE, "Ways to populate it:"))
		return -1;
	return m->options->no_prefault ? 0 : print_chain(m, GMEM_TASK_PREFAULT, "Ways to prefault it:");
}
