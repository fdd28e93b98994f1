/* SPDX-License-Identifier: MIT */
/* gmem-info: the tables of chains: every mechanism for a task, best first. */
#include "gmem-info.h"

#include <stdio.h>

#define BACKING 11 /* width of "guest_memfd" */

/* Widths; 0 = no such column: the reason goes below the row. */
struct columns {
	size_t mechanism;
	size_t feature;
	size_t why;
};

static const char *mechanism_of(const struct gmem_step *step)
{
	return gmem_mechanism_name((enum gmem_mechanism)step->mechanism);
}

/* "any" is for whatever the memory is made of. */
static const char *backing_of(const struct gmem_step *step)
{
	return step->backing ? gmem_backing_name((enum gmem_backing)step->backing) : "any";
}

static const char *feature_of(const struct gmem_step *step)
{
	const char *name = step->feature ? gmem_feature_name((enum gmem_feature)step->feature) : NULL;

	return name ? name : "-";
}

/* A row that no feature decides about has no state of its own: why says all. */
static struct info_cell state_of(const struct gmem_step *step)
{
	if (!step->feature)
		return (struct info_cell){ "-", INFO_STATE, NULL };
	return info_state_cell((enum gmem_state)step->state);
}

static void print_row(const struct info_screen *screen, const struct columns *columns, const struct gmem_step *step)
{
	struct info_cell cells[INFO_CELLS] = {
		{ step->chosen ? "*" : "", 1, NULL },
		{ mechanism_of(step), columns->mechanism, NULL },
		{ backing_of(step), BACKING, NULL },
		state_of(step),
		{ feature_of(step), columns->feature, NULL },
		{ step->why, columns->why, NULL },
	};

	info_row(screen, cells, columns->why ? 6 : 5);
	if (!columns->why)
		info_below(screen, "", step->why);
}

static void print_header(const struct info_screen *screen, const struct columns *columns)
{
	struct info_cell cells[INFO_CELLS] = {
		{ "*", 1, NULL },
		{ "mechanism", columns->mechanism, NULL },
		{ "memory", BACKING, NULL },
		{ "state", INFO_STATE, NULL },
		{ "of feature", columns->feature, NULL },
		{ "why", columns->why, NULL },
	};

	putchar('\n');
	info_row(screen, cells, columns->why ? 6 : 5);
}

static void widen(size_t *width, const char *text)
{
	size_t columns = info_columns(text);

	if (columns > *width)
		*width = columns;
}

static void measure(const struct info_chain *chain, struct columns *columns)
{
	for (size_t i = 0; i < chain->count; i++) {
		widen(&columns->mechanism, mechanism_of(&chain->steps[i]));
		widen(&columns->feature, feature_of(&chain->steps[i]));
	}
}

static bool is_wanted(const struct info_report *report, const struct info_chain *chain)
{
	return report->request->all_tasks || report->request->task == chain->task;
}

/* The same widths for all tables, so that they can be read as one. Narrow: two columns share what is left. */
static void divide(const struct info_report *report, const struct info_screen *screen, struct columns *columns)
{
	size_t left = screen->width - 1 - BACKING - INFO_STATE - 4 * INFO_GAP;

	*columns = (struct columns){ .mechanism = 9, .feature = 10 };
	for (size_t i = 0; i < INFO_TASKS; i++)
		if (is_wanted(report, &report->chains[i]))
			measure(&report->chains[i], columns);
	if (columns->mechanism > left / 2)
		columns->mechanism = left / 2;
	if (columns->feature > left - columns->mechanism)
		columns->feature = left - columns->mechanism;
	left -= columns->mechanism + columns->feature;
	if (left >= INFO_GAP + INFO_LEAST)
		columns->why = left - INFO_GAP;
}

static void print_chain(const struct info_chain *chain, const struct info_screen *screen, const struct columns *columns)
{
	info_heading(screen, gmem_task_name(chain->task));
	for (size_t i = 0; i < chain->count; i++)
		print_row(screen, columns, &chain->steps[i]);
	if (!info_chosen(chain))
		info_below(screen, "->", "nothing here can do it");
}

void info_print_chains(const struct info_report *report, const struct info_screen *screen)
{
	struct columns columns;

	divide(report, screen, &columns);
	print_header(screen, &columns);
	for (size_t i = 0; i < INFO_TASKS; i++)
		if (is_wanted(report, &report->chains[i]))
			print_chain(&report->chains[i], screen, &columns);
}
