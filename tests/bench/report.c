/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <stdio.h>

#include "machine.h"

#define LINE "%-6s %-66s %9s %-15s %9s %-13s %6s  %s%s%s\n"

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = {
		[VERDICT_HOLDS] = "holds",
		[VERDICT_MISSED] = "MISSED",
		[VERDICT_SHOWN] = "ran",
		[VERDICT_NOT_MEASURED] = "not measured",
		[VERDICT_BROKEN] = "BROKEN",
	};

	return names[verdict];
}

void report_head(const struct options *options)
{
	if (options->json) {
		printf("{\"quick\": %s, \"size_mib\": %zu, \"load\": %.2f, \"goals\": [", options->quick ? "true" : "false",
		       options->size >> 20, machine_load());
		return;
	}
	printf("%zu MiB, load average %.2f%s\n", options->size >> 20, machine_load(),
	       options->quick ? ", quick: figures mean nothing and no gate is looked at" : "");
	printf(LINE, "goal", "what", "wall", "range", "CPU", "gate", "rounds", "verdict", "", "");
	fflush(stdout);
}

static const char *unit_of(const struct row *row)
{
	static const char *const units[] = { [ROW_RATIO] = "x", [ROW_OVER] = "ns" };

	return row->kind == ROW_VALUE ? row->unit : units[row->kind];
}

static void print_figure(char *text, size_t room, const struct row *row, const struct figure *figure)
{
	if (figure->rounds == 0)
		snprintf(text, room, "-");
	else if (row->kind == ROW_RATIO)
		snprintf(text, room, "%.3f", figure->median);
	else if (row->kind == ROW_OVER)
		snprintf(text, room, "%+.0f ns", figure->median);
	else
		snprintf(text, room, "%.2f %s", figure->median, row->unit);
}

/* Of a call over a bare one: what share of the bare one that is. */
static void print_range(char *text, size_t room, const struct result *result)
{
	const struct figure *wall = &result->wall;

	text[0] = '\0';
	if (result->row->kind == ROW_OVER && result->bare > 0)
		snprintf(text, room, "%+.1f %%", wall->median / result->bare * 100);
	else if (result->row->kind == ROW_RATIO && wall->rounds)
		snprintf(text, room, "%.2f-%.2f", wall->low, wall->high);
}

static void print_gate(char *text, size_t room, const struct row *row)
{
	if (row->no_gate)
		snprintf(text, room, "-");
	else if (row->kind == ROW_OVER)
		snprintf(text, room, "2 %% or 30 ns");
	else if (row->gate > 0)
		snprintf(text, room, "<= %.2f", row->gate);
	else
		snprintf(text, room, "CPU <= %.2f", row->gate_cpu);
}

static void line(const struct result *result)
{
	char wall[32], range[32], cpu[32], gate[32], rounds[16];

	print_figure(wall, sizeof(wall), result->row, &result->wall);
	print_figure(cpu, sizeof(cpu), result->row, &result->cpu);
	print_range(range, sizeof(range), result);
	print_gate(gate, sizeof(gate), result->row);
	snprintf(rounds, sizeof(rounds), "%u", result->wall.rounds);
	printf(LINE, result->row->goal, result->row->what, wall, range, cpu, gate, rounds, verdict_name(result->verdict),
	       result->reason[0] ? ": " : "", result->reason);
	fflush(stdout);
}

static void json_text(const char *name, const char *text)
{
	printf("\"%s\": \"", name);
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text >= ' ')
			putchar(*text);
	printf("\"");
}

static void json_figure(const char *name, const struct figure *figure)
{
	if (figure->rounds)
		printf(", \"%s\": {\"median\": %.6g, \"low\": %.6g, \"high\": %.6g, \"rounds\": %u}", name, figure->median,
		       figure->low, figure->high, figure->rounds);
	else
		printf(", \"%s\": null", name);
}

/* 0 = none */
static double gate_of(const struct result *result)
{
	if (result->row->kind != ROW_OVER)
		return result->row->gate;
	return result->row->no_gate || result->bare <= 0 ? 0 : judge_over_gate(result->bare);
}

static void json_row(const struct result *result)
{
	static bool next;

	printf("%s\n  {", next ? "," : "");
	next = true;
	json_text("goal", result->row->goal);
	printf(", ");
	json_text("what", result->row->what);
	printf(", ");
	json_text("unit", unit_of(result->row));
	json_figure("wall", &result->wall);
	json_figure("cpu", &result->cpu);
	printf(", \"gate\": %g, \"gate_cpu\": %g, \"bare_ns\": %.6g, ", gate_of(result), result->row->gate_cpu, result->bare);
	json_text("verdict", verdict_name(result->verdict));
	printf(", ");
	json_text("reason", result->reason);
	printf("}");
}

void report_row(const struct options *options, const struct result *result)
{
	if (options->json)
		json_row(result);
	else
		line(result);
}

/* Of those that have timed something themselves. */
static void print_latency(const struct measure *measure, uint32_t which)
{
	struct figure p50 = judge_over(measure, MEASURE_P50, which, 0, 1), p99 = judge_over(measure, MEASURE_P99, which, 0, 1);

	if (p50.rounds)
		printf("  p50 %.1f us, p99 %.1f us", p50.median * 1e-3, p99.median * 1e-3);
}

void report_cases(const struct options *options, const struct group *group, const struct measure *measure)
{
	if (!options->verbose || options->json)
		return;
	for (unsigned int c = 0; c < measure->n; c++) {
		struct figure wall = judge_over(measure, MEASURE_WALL, CASE(c), 0, 1);
		struct figure cpu = judge_over(measure, MEASURE_CPU, CASE(c), 0, 1);

		if (!wall.rounds)
			continue;
		printf("       %-66s %6.1f ms %6.1f-%-6.1f %6.1f ms", group->cases[c].name, wall.median * 1e-6,
		       wall.low * 1e-6, wall.high * 1e-6, cpu.median * 1e-6);
		print_latency(measure, CASE(c));
		printf("\n");
	}
}

void report_end(const struct options *options, unsigned int rows, unsigned int missed)
{
	if (options->json)
		printf("\n], \"rows\": %u, \"missed\": %u}\n", rows, missed);
	else
		printf("%u rows, %u missed or broken\n", rows, missed);
}
