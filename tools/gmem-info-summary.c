/* SPDX-License-Identifier: MIT */
/* gmem-info: the lines on top: which library, which VM, which user, and what an ordinary VM would get. */
#include "gmem-info.h"

#include <stdio.h>
#include <unistd.h>

#define LABEL 8 /* width of the first column */

static void line(const struct info_screen *screen, const char *label, const char *text)
{
	struct info_cell cells[] = { { label, LABEL, NULL }, { text, screen->width - LABEL - INFO_GAP, NULL } };

	info_row(screen, cells, 2);
}

static void advise(const struct info_screen *screen, const char *advice)
{
	size_t used = LABEL + 2 + 2 * INFO_GAP;
	struct info_cell cells[] = { { "", LABEL, NULL }, { "->", 2, NULL }, { advice, screen->width - used, NULL } };

	if (*advice)
		info_row(screen, cells, 3);
}

/* Says what went wrong behind prefix, and on the next line what to do about it. */
static void explain(const struct info_screen *screen, const char *prefix, const struct info_trouble *trouble)
{
	char error[128], text[384];

	info_error_text(trouble->error, error, sizeof(error));
	snprintf(text, sizeof(text), "%s%s: %s", prefix, trouble->step, error);
	line(screen, "VM", text);
	advise(screen, trouble->advice);
}

static void print_vm(const struct info_report *report, const struct info_screen *screen)
{
	const struct info_machine *machine = report->machine;
	const char *type = report->request->type->name;
	char text[128];

	if (machine->vm_trouble.step) {
		snprintf(text, sizeof(text), "none: no VM of type %s could be made: ", type);
		explain(screen, text, &machine->vm_trouble);
	} else if (!machine->has_vm) {
		line(screen, "VM", "none, as asked");
	} else if (machine->vcpu_trouble.step) {
		snprintf(text, sizeof(text), "%s, without a vCPU: ", type);
		explain(screen, text, &machine->vcpu_trouble);
	} else {
		snprintf(text, sizeof(text), "%s, with one vCPU, made for this report", type);
		line(screen, "VM", text);
	}
}

static void print_user(const struct info_screen *screen)
{
	char text[64];

	snprintf(text, sizeof(text), "uid %u%s", (unsigned int)geteuid(), geteuid() ? "" : " (root)");
	line(screen, "user", text);
}

/* The words of a mask, separated by commas. */
static void list_needs(uint64_t need, char *text, size_t size)
{
	const char *name;
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; (name = info_need_name(i)); i++) {
		if (!(need & (UINT64_C(1) << i)) || used >= size)
			continue;
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
	}
}

static void print_needs(const struct info_report *report, const struct info_screen *screen)
{
	char text[128];

	list_needs(report->request->need ? report->request->need : GMEM_NEED_MAPPABLE, text, sizeof(text));
	line(screen, "memory", text);
}

static void print_choice(const struct info_report *report, const struct info_screen *screen, enum gmem_task task)
{
	const struct info_chain *chain = &report->chains[task - 1];
	const struct gmem_step *step = info_chosen(chain);
	char text[512];

	if (step)
		snprintf(text, sizeof(text), "%s: %s", gmem_mechanism_name((enum gmem_mechanism)step->mechanism), step->why);
	else
		snprintf(text, sizeof(text), "nothing here can do it: --task %s tells why", gmem_task_name(task));
	line(screen, gmem_task_name(task), text);
}

void info_print_summary(const struct info_report *report, const struct info_screen *screen)
{
	line(screen, "libgmem", gmem_version());
	print_vm(report, screen);
	print_user(screen);
	print_needs(report, screen);
	print_choice(report, screen, GMEM_TASK_CREATE);
	print_choice(report, screen, GMEM_TASK_POPULATE);
}
