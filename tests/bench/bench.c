/* SPDX-License-Identifier: MIT */
/* Measures the library against the same work written by hand, as ratios, and holds it to its goals. bench --help */
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "options.h"
#include "report.h"
#include "trap.h"
#include "world.h"

#define ATTEMPTS 3    /* a gate that is missed is looked at again, with more rounds, and judged by all of them */
#define MORE_ROUNDS 2 /* ... so many times those of the first attempt */

static const struct group *const groups[] = {
	&bench_populate, &bench_zeros, &bench_zero_check, &bench_threads, &bench_memfd, &bench_prefault,
	&bench_guest, &bench_pre_fault, &bench_fault_loop, &bench_fault_ready, &bench_fault_around, &bench_fault_scattered,
	&bench_fault_place, &bench_fault_threads, &bench_process, &bench_calls, &bench_bind_call, &bench_vcpu_call,
	&bench_memory,
};

enum { MOST_ROWS = 16 };

struct job {
	const struct options *options;
	const struct group *group;
	struct world world;
	struct measure measure;
	struct result results[MOST_ROWS];
	bool open[MOST_ROWS]; /* rows that are not decided yet */
};

static bool is_chosen(const struct options *options, const struct row *row)
{
	return !options->goal || strcmp(options->goal, row->goal) == 0;
}

static void decide(struct job *job, unsigned int row, enum verdict verdict, const char *reason)
{
	job->results[row].verdict = verdict;
	snprintf(job->results[row].reason, sizeof(job->results[row].reason), "%s", reason);
	job->open[row] = false;
}

static void decide_open(struct job *job, enum verdict verdict, const char *reason)
{
	for (unsigned int i = 0; i < job->group->n_rows; i++)
		if (job->open[i])
			decide(job, i, verdict, reason);
}

static void ask_hindrance(struct job *job)
{
	for (unsigned int i = 0; i < job->group->n_rows; i++) {
		const struct row *row = &job->group->rows[i];
		const char *why = job->open[i] && row->hindered ? row->hindered(&job->world) : NULL;

		if (why)
			decide(job, i, VERDICT_NOT_MEASURED, why);
	}
}

static uint32_t cases_wanted(const struct job *job)
{
	uint32_t which = 0;

	for (unsigned int i = 0; i < job->group->n_rows; i++)
		if (job->open[i])
			which |= job->group->rows[i].of | job->group->rows[i].to;
	return which;
}

static void take_figures(struct job *job, struct result *result)
{
	const struct row *row = result->row;

	if (row->kind == ROW_OVER) {
		result->wall = judge_over(&job->measure, MEASURE_WALL, row->of, row->to, row->calls);
		result->cpu = judge_over(&job->measure, MEASURE_CPU, row->of, row->to, row->calls);
		result->bare = judge_over(&job->measure, MEASURE_WALL, row->to, 0, row->calls).low;
	} else if (row->kind == ROW_RATIO) {
		result->wall = judge_ratio(&job->measure, row->by, row->of, row->to);
		result->cpu = judge_ratio(&job->measure, MEASURE_CPU, row->of, row->to);
		result->disturbed = !row->waits && judge_disturbed(&job->measure, row->to);
	}
}

/* What a call waits for is the kernel's; what is added to that is computing. */
static bool holds(const struct result *result)
{
	const struct row *row = result->row;

	switch (row->kind) {
	case ROW_OVER:
		return judge_within(&result->cpu, judge_over_gate(result->bare));
	case ROW_VALUE:
		return judge_within(&result->wall, row->gate);
	default:
		return judge_within(&result->cpu, row->gate_cpu) &&
		       (result->disturbed || judge_within(&result->wall, row->gate));
	}
}

/* The gate is one that nobody holds here. */
static bool out_of_reach(const struct job *job, const struct row *row)
{
	const struct row *hand = row->reach ? &job->group->rows[row->reach - 1] : NULL;
	struct figure figure;

	if (!hand)
		return false;
	figure = judge_ratio(&job->measure, hand->by, hand->of, hand->to);
	return figure.rounds && !judge_within(&figure, row->gate);
}

static void decide_measured(struct job *job, unsigned int i, bool last)
{
	const struct result *result = &job->results[i];
	const char *note = result->disturbed ? "by CPU time, others had the core" : "";

	if (result->disturbed && result->row->gate_cpu == 0)
		decide(job, i, VERDICT_NOT_MEASURED, "others had the core");
	else if (holds(result))
		decide(job, i, VERDICT_HOLDS, note);
	else if (out_of_reach(job, result->row))
		decide(job, i, VERDICT_NOT_MEASURED, "by hand the gate is out of reach on this machine, too");
	else if (last || result->row->kind == ROW_VALUE)
		decide(job, i, VERDICT_MISSED, note);
}

static void judge_open(struct job *job, bool last)
{
	for (unsigned int i = 0; i < job->group->n_rows; i++) {
		struct result *result = &job->results[i];

		if (!job->open[i])
			continue;
		take_figures(job, result);
		if (job->options->quick || result->row->no_gate)
			decide(job, i, VERDICT_SHOWN, "");
		else
			decide_measured(job, i, last);
	}
}

static void take_values(struct job *job)
{
	for (unsigned int i = 0; i < job->group->n_rows; i++) {
		const struct row *row = &job->group->rows[i];
		const char *why = NULL;
		double value;

		if (!job->open[i] || row->kind != ROW_VALUE)
			continue;
		value = row->value(&job->world, &why);
		if (why)
			decide(job, i, VERDICT_NOT_MEASURED, why);
		else
			job->results[i].wall = (struct figure){ value, value, value, 1 };
	}
}

static void attempt(struct job *job, unsigned int number)
{
	const struct group *group = job->group;
	const struct measure_plan plan = { group->cases, group->n_cases, group->settle, group->tell, &measure_real_clock };
	unsigned int rounds = job->options->rounds * (group->times && !job->options->quick ? group->times : 1);

	ask_hindrance(job);
	measure_rounds(&job->measure, &plan, &job->world, cases_wanted(job), number ? rounds * MORE_ROUNDS : rounds);
	ask_hindrance(job);
	judge_open(job, number + 1 == ATTEMPTS);
}

static bool has_open(const struct job *job)
{
	for (unsigned int i = 0; i < job->group->n_rows; i++)
		if (job->open[i])
			return true;
	return false;
}

static void measure_group(void *argument)
{
	struct job *job = argument;
	const char *why = job->group->open(&job->world);

	if (why) {
		decide_open(job, VERDICT_NOT_MEASURED, why);
		return;
	}
	take_values(job);
	for (unsigned int i = 0; i < ATTEMPTS && has_open(job); i++)
		attempt(job, i);
}

static void begin_job(struct job *job, const struct options *options, const struct group *group)
{
	*job = (struct job){ .options = options, .group = group };
	world_begin(&job->world, options);
	measure_begin(&job->measure, group->n_cases);
	for (unsigned int i = 0; i < group->n_rows; i++) {
		job->results[i].row = &group->rows[i];
		job->open[i] = is_chosen(options, &group->rows[i]);
	}
	machine_pin();
}

static void end_job(struct job *job)
{
	machine_unpin();
	measure_end(&job->measure);
	world_end(&job->world);
}

/* Counts the rows, and those that missed their gate or broke. */
static void run_group(const struct options *options, const struct group *group, unsigned int *rows, unsigned int *missed)
{
	static struct job job; /* what a way out by trap.h finds as it was left */
	char reason[300];

	begin_job(&job, options, group);
	if (!has_open(&job)) {
		end_job(&job);
		return;
	}
	if (!trap_run(measure_group, &job, reason, sizeof(reason)))
		decide_open(&job, VERDICT_BROKEN, reason);
	report_cases(options, group, &job.measure);
	for (unsigned int i = 0; i < group->n_rows; i++) {
		if (!is_chosen(options, &group->rows[i]))
			continue;
		report_row(options, &job.results[i]);
		(*rows)++;
		*missed += job.results[i].verdict == VERDICT_MISSED || job.results[i].verdict == VERDICT_BROKEN;
	}
	end_job(&job);
}

int main(int argc, char **argv)
{
	struct options options = options_read(argc, argv);
	unsigned int rows = 0, missed = 0;

	report_head(&options);
	for (unsigned int i = 0; i < COUNT(groups); i++)
		run_group(&options, groups[i], &rows, &missed);
	report_end(&options, rows, missed);
	if (rows == 0) {
		fprintf(stderr, "bench: there is no goal %s\n", options.goal);
		return 2;
	}
	return missed ? 1 : 0;
}
