/* SPDX-License-Identifier: MIT */
/* What a group of goals is made of. A group has things that are timed beside each other (measure.h) and rows: each a goal, or a
 * part of one, as a ratio of such times. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "judge.h"
#include "measure.h"
#include "options.h"

enum row_kind {
	ROW_RATIO, /* the times of `of` as a multiple of those of `to`, by `by` and by CPU time */
	ROW_OVER,  /* ns a call that `of` takes more than `to` */
	ROW_VALUE  /* not timed: what `value` says */
};

struct row {
	const char *goal, *what;
	enum row_kind kind;
	enum measure_by by;    /* ROW_RATIO: what stands in the column of wall times */
	uint32_t of, to;       /* cases, as bits */
	double gate, gate_cpu; /* the most that the median may be; 0 = shown only. ROW_OVER: none, it is judge_over_gate() */
	unsigned int calls;    /* ROW_OVER: how many a run makes */
	bool no_gate;          /* shown only; ROW_OVER: the gate is for calls around a single ioctl */
	unsigned int reach;    /* 1 + number of the row, of the group, that is the same by hand: where it misses this gate as
				* well, the gate cannot be held on this machine; 0 = none */
	bool waits;            /* ROW_RATIO: `to` is not computing all the time: nothing tells that others had the core */
	/* ROW_VALUE: in `unit`. *why: that it cannot be had here. */
	double (*value)(struct world *world, const char **why);
	const char *unit;
	/* Why the row means nothing at the moment, or NULL; asked before and after. */
	const char *(*hindered)(struct world *world);
};

struct group {
	/* NULL, or why nothing of it can be measured on this machine. What it makes is ended by world_end(). */
	const char *(*open)(struct world *world);
	const struct measure_case *cases;
	unsigned int n_cases;
	/* As in struct measure_plan. */
	void (*settle)(struct world *world);
	void (*tell)(struct world *world, double times[MEASURE_WAYS]);
	const struct row *rows;
	unsigned int n_rows;
	unsigned int times; /* as many rounds as elsewhere, for short runs; 0 = 1 */
};

enum verdict { VERDICT_HOLDS, VERDICT_MISSED, VERDICT_SHOWN, VERDICT_NOT_MEASURED, VERDICT_BROKEN };

struct result {
	const struct row *row;
	struct figure wall, cpu;
	double bare;    /* ROW_OVER: ns of a bare call at its best, by the wall clock; 0 = there is none */
	bool disturbed; /* others had the core: judged by CPU time alone */
	enum verdict verdict;
	char reason[300];
};

#define CASE(n) (UINT32_C(1) << (n))
#define COUNT(array) ((unsigned int)(sizeof(array) / sizeof((array)[0])))

extern const struct group bench_populate, bench_zeros, bench_zero_check, bench_threads, bench_memfd, bench_prefault,
	bench_guest, bench_pre_fault, bench_calls, bench_bind_call, bench_vcpu_call, bench_memory, bench_fault_loop,
	bench_fault_ready, bench_fault_around, bench_fault_scattered, bench_fault_place, bench_fault_threads, bench_process;

#endif
