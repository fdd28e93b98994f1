/* SPDX-License-Identifier: MIT */
#include "explain.h"

#include "microvm.h"
#include "say.h"

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		[GMEM_UNDETERMINED] = "undetermined",
		[GMEM_ABSENT] = "absent",
		[GMEM_FORBIDDEN] = "forbidden",
		[GMEM_PRESENT] = "present",
	};

	return state <= GMEM_PRESENT ? names[state] : "unknown";
}

static void print_step(FILE *out, const struct gmem_step *step)
{
	const char *feature = gmem_feature_name(step->feature); /* NULL if no feature decided */

	fprintf(out, "  %c %-19s  %-11s  %-23s  %-12s  %s\n", step->chosen ? '*' : ' ', gmem_mechanism_name(step->mechanism),
		step->backing ? backing_name(step->backing) : "any", feature ? feature : "-",
		feature ? state_name(step->state) : "-", step->why);
}

static int print_chain(const struct microvm *m, enum gmem_task task, const char *title)
{
	struct gmem_step step = { .size = sizeof(step) };
	int r;

	fprintf(m->out, "%s\n", title);
	for (uint32_t row = 0; (r = gmem_vm_explain(m->vm, task, GMEM_NEED_MAPPABLE, row, &step)) > 0; row++)
		print_step(m->out, &step);
	return r < 0 ? fail_gmem("explain a choice") : 0;
}

int explain(const struct microvm *m)
{
	if (print_chain(m, GMEM_TASK_CREATE, "Ways to create the memory (* = the library's choice):") ||
	    print_chain(m, GMEM_TASK_POPULATE, "Ways to populate it:"))
		return -1;
	if (m->options->backing)
		fprintf(m->out, "Asked for by --backing, in place of that choice: %s, or nothing.\n",
			backing_name(m->options->backing));
	return 0;
}
