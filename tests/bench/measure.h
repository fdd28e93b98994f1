/* SPDX-License-Identifier: MIT */
/* Times several things beside each other in one process. In every round each case runs once, and the case that begins changes
 * from round to round: what disturbs a round disturbs all of its cases, so only figures of one round are ever compared
 * (judge.h). */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>
#include <stdint.h>

struct world; /* what the cases work on: the caller's */

struct measure_case {
	const char *name;
	void (*before)(struct world *); /* not timed; NULL = nothing */
	void (*run)(struct world *);
	void (*after)(struct world *); /* not timed; NULL = nothing */
};

enum measure_by { MEASURE_WALL, MEASURE_CPU, MEASURE_P50, MEASURE_P99, MEASURE_WAYS };

/* Seconds since whenever. */
struct measure_clock {
	double (*wall)(void);
	double (*cpu)(void);
};

struct measure_plan {
	const struct measure_case *cases;
	unsigned int n;
	void (*settle)(struct world *); /* between `before` and the start of the clock; NULL = nothing */
	/* Between the end of the clock and `after`: seconds that the run has timed itself, MEASURE_P50 and on; NULL = none. */
	void (*tell)(struct world *, double times[MEASURE_WAYS]);
	const struct measure_clock *clock;
};

/* Times of all rounds so far; a case that did not run in a round has a time below 0. */
struct measure {
	unsigned int n, rounds;
	double *times[MEASURE_WAYS]; /* by enum measure_by: [round * n + case] */
};

/* Of the process: the CPU time of all its threads. */
extern const struct measure_clock measure_real_clock;

void measure_begin(struct measure *measure, unsigned int n);
void measure_end(struct measure *measure);
/* That many rounds more, of the cases whose bits are set. */
void measure_rounds(struct measure *measure, const struct measure_plan *plan, struct world *world, uint32_t which,
		    unsigned int rounds);
/* The times of the cases in the mask, added up. False: not all of them ran in that round. */
bool measure_sum(const struct measure *measure, enum measure_by by, unsigned int round, uint32_t which, double *seconds);

#endif
