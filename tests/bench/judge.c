/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <stdlib.h>

#include "trap.h"

#define OVER_SHARE 0.02
#define OVER_NS 30.0

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

static struct figure paired(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to, pair_fn fn,
			    unsigned int calls)
{
	double *values = calloc(measure->rounds + 1, sizeof(*values)), a, b;
	struct figure figure = { 0 };

	if (!values)
		give_up("out of memory");
	for (unsigned int round = 0; round < measure->rounds; round++)
		if (measure_sum(measure, by, round, of, &a) && measure_sum(measure, by, round, to, &b))
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
	return paired(measure, by, of, to, ratio, 1);
}

struct figure judge_over(const struct measure *measure, enum measure_by by, uint32_t of, uint32_t to, unsigned int calls)
{
	return paired(measure, by, of, to, over, calls);
}

bool judge_within(const struct figure *figure, double gate)
{
	return figure->rounds && (gate == 0 || figure->median <= gate);
}

double judge_over_gate(double bare)
{
	return bare * OVER_SHARE > OVER_NS ? bare * OVER_SHARE : OVER_NS;
}
