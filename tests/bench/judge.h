/* SPDX-License-Identifier: MIT */
/* Figures from paired times, and whether they hold. */
#ifndef JUDGE_H
#define JUDGE_H

#include "measure.h"

/* Over the rounds in which all cases in question ran. */
struct figure {
	double median, low, high;
	unsigned int rounds;
};

/* Of each round: the time of the cases `of`, as a multiple of that of the cases `to`. */
struct figure judge_ratio(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to);
/* Of each round: nanoseconds that `of` takes more than `to`, for each of `calls` calls. `to` may be no case at all. */
struct figure judge_over(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to, unsigned int calls);

/* Of cases that do nothing but compute: somebody else had the core for part of the time, and wall times say little. */
bool judge_disturbed(const struct measure *measure, uint32_t which);

double judge_median(double *values, unsigned int n); /* sorts them */
/* The least that so many in a hundred do not exceed; n is not 0. Sorts them. */
uint32_t judge_percentile(uint32_t *values, unsigned int n, unsigned int percent);

/* `gate` 0: there is none, everything is within. No rounds: nothing is. */
bool judge_within(const struct figure *figure, double gate);
/* What a call may cost over the bare one, in ns: a share of it, or so many ns, whichever is more. */
double judge_over_gate(double bare);

#endif
