/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <stdlib.h>

#include "trap.h"

#define OVER_SHARE 0.02
#define OVER_NS 30.0
#define DISTURBED 1.1 /* wall time as a multiple of CPU time */

/* The times of some cases, added up, by one clock. */
struct side {
	enum measure_by by;
	uint32_t which;
};

typedef double (*pair_fn)(double of, double to, unsigned int calls);

static double ratio(double of, double to, unsigned int calls)
{
	(void)calls;
	return of / to;
}

static double over(double of, double to, unsigned int calls)
{
	return (of - to) * 1e9 / calls;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double judge_median(double *values, unsigned int n)
{
	qsort(values, n, sizeof(*values), by_value);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

uint32_t judge_percentile(uint32_t *values, unsigned int n, unsigned int percent)
{
	uint64_t rank = ((uint64_t)n * percent + 99) / 100;

	qsort(values, n, sizeof(*values), by_number);
	return values[rank ? rank - 1 : 0];
}

static struct figure paired(const struct measure *measure, struct side of, struct side to, pair_fn fn, unsigned int calls)
{
	double *values = calloc(measure->rounds + 1, sizeof(*values)), a, b;
	struct figure figure = { 0 };

	if (!values)
		give_up("out of memory");
	for (unsigned int round = 0; round < measure->rounds; round++)
		if (measure_sum(measure, of.by, round, of.which, &a) && measure_sum(measure, to.by, round, to.which, &b))
			values[figure.rounds++] = fn(a, b, calls);
	if (figure.rounds) {
		figure.median = judge_median(values, figure.rounds);
		figure.low = values[0];
		figure.high = values[figure.rounds - 1];
	}
	free(values);
	return figure;
}

struct figure judge_ratio(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to)
{
	return paired(measure, (struct side){ by, of }, (struct side){ by, to }, ratio, 1);
}

struct figure judge_over(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to, unsigned int calls)
{
	return paired(measure, (struct side){ by, of }, (struct side){ by, to }, over, calls);
}

bool judge_disturbed(const struct measure *measure, uint32_t which)
{
	struct side wall = { MEASURE_WALL, which }, cpu = { MEASURE_CPU, which };

	return paired(measure, wall, cpu, ratio, 1).median > DISTURBED;
}

bool judge_within(const struct figure *figure, double gate)
{
	return figure->rounds && (gate == 0 || figure->median <= gate);
}

double judge_over_gate(double bare)
{
	return bare * OVER_SHARE > OVER_NS ? bare * OVER_SHARE : OVER_NS;
}
