/* SPDX-License-Identifier: MIT */
/* gmem-info: the table of features. */
#include "gmem-info.h"

#include <stdio.h>
#include <string.h>

/* Widths; 0 = no such column: what it would hold goes below the row. */
struct columns {
	size_t name;
	size_t why;
	size_t hint;
};

/* What decided: for what works, only what was tried. */
static void describe(const struct info_feature *feature, char *text, size_t size)
{
	const char *facility = feature->probe.facility ? feature->probe.facility : "";
	char error[128];

	if (feature->state == GMEM_PRESENT || !feature->probe.error) {
		snprintf(text, size, "%s", facility);
		return;
	}
	info_error_text(-feature->probe.error, error, sizeof(error));
	snprintf(text, size, "%s%s%s", facility, *facility ? ": " : "", error);
}

static void print_row(const struct info_screen *screen, const struct columns *columns, const char *name, struct info_cell state,
		      const char *why, const char *hint)
{
	struct info_cell cells[INFO_CELLS] = { { "", 0, NULL }, { name, columns->name, NULL }, state };
	size_t count = 3;

	if (columns->why)
		cells[count++] = (struct info_cell){ why, columns->why, NULL };
	if (columns->hint)
		cells[count++] = (struct info_cell){ hint, columns->hint, NULL };
	info_row(screen, cells, count);
}

static void print_header(const struct info_screen *screen, const struct columns *columns)
{
	struct info_cell state = { "state", INFO_STATE, NULL };

	putchar('\n');
	print_row(screen, columns, "feature", state, "why", "what to do");
}

/* One refusal can stand behind many features: the advice is given once. */
static const char *hint_after(const struct info_feature *feature, const struct info_feature *before)
{
	const char *hint = feature->probe.hint;

	return hint && before && before->probe.hint && strcmp(hint, before->probe.hint) == 0 ? "as above" : hint;
}

static void print_feature(const struct info_screen *screen, const struct columns *columns, const struct info_feature *feature,
			  const struct info_feature *before)
{
	const char *hint = hint_after(feature, before);
	char why[256];

	describe(feature, why, sizeof(why));
	print_row(screen, columns, feature->name, info_state_cell(feature->state), why, hint);
	if (!columns->why)
		info_below(screen, "", why);
	if (!columns->hint)
		info_below(screen, "->", hint);
}

static size_t longest_name(const struct info_report *report)
{
	size_t longest = 0;

	for (size_t i = 0; i < report->feature_count; i++) {
		size_t columns = info_columns(report->features[i].name);

		longest = columns > longest ? columns : longest;
	}
	return longest;
}

static size_t longest_why(const struct info_report *report)
{
	size_t longest = INFO_LEAST;
	char why[256];

	for (size_t i = 0; i < report->feature_count; i++) {
		size_t columns;

		describe(&report->features[i], why, sizeof(why));
		columns = info_columns(why);
		longest = columns > longest ? columns : longest;
	}
	return longest;
}

/* Wide: four columns, the hint with two fifths of what is left or more. Narrow: the hint below. Very narrow: the reason too. */
static void divide(const struct info_report *report, const struct info_screen *screen, struct columns *columns)
{
	size_t name = longest_name(report), why = longest_why(report);
	size_t most = screen->width - INFO_STATE - 2 * INFO_GAP, left;

	*columns = (struct columns){ .name = name < most ? name : most };
	left = most - columns->name;
	if (left < INFO_GAP + INFO_LEAST)
		return;
	left -= INFO_GAP;
	columns->why = left;
	if (!screen->wide)
		return;
	columns->why = why < left * 3 / 5 ? why : left * 3 / 5;
	columns->hint = left - columns->why - INFO_GAP;
}

static void print_topic(const struct info_report *report, const struct info_screen *screen, const struct columns *columns,
			enum info_topic topic)
{
	const struct info_feature *before = NULL;

	for (size_t i = 0; i < report->feature_count; i++) {
		const struct info_feature *feature = &report->features[i];

		if (info_topic(feature) != topic)
			continue;
		if (!before)
			info_heading(screen, info_topic_name(topic));
		print_feature(screen, columns, feature, before);
		before = feature;
	}
}

void info_print_features(const struct info_report *report, const struct info_screen *screen)
{
	struct columns columns;

	divide(report, screen, &columns);
	if (report->request->feature) {
		print_feature(screen, &columns, &report->features[0], NULL);
		return;
	}
	print_header(screen, &columns);
	for (int topic = INFO_TOPIC_KVM; topic <= INFO_TOPIC_OTHER; topic++)
		print_topic(report, screen, &columns, (enum info_topic)topic);
}
