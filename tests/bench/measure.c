/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include <stdlib.h>
#include <time.h>

#include "trap.h"

#define NOT_RUN -1.0

static double seconds_of(clockid_t which)
{
	struct timespec now;

	clock_gettime(which, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double real_wall(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

static double real_cpu(void)
{
	return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

const struct measure_clock measure_real_clock = { real_wall, real_cpu };

void measure_begin(struct measure *measure, unsigned int n)
{
	*measure = (struct measure){ .n = n };
}

void measure_end(struct measure *measure)
{
	for (int by = 0; by < MEASURE_WAYS; by++)
		free(measure->times[by]);
	*measure = (struct measure){ 0 };
}

static void make_room(struct measure *measure, unsigned int rounds)
{
	size_t before = (size_t)measure->rounds * measure->n, all = before + (size_t)rounds * measure->n;

	for (int by = 0; by < MEASURE_WAYS; by++) {
		double *times = realloc(measure->times[by], all * sizeof(*times));

		if (!times)
			give_up("out of memory");
		for (size_t i = before; i < all; i++)
			times[i] = NOT_RUN;
		measure->times[by] = times;
	}
}

static void run_case(const struct measure_plan *plan, const struct measure_case *c, struct world *world,
		     double times[MEASURE_WAYS])
{
	double wall_start, cpu_start;

	if (c->before)
		c->before(world);
	if (plan->settle)
		plan->settle(world);
	wall_start = plan->clock->wall();
	cpu_start = plan->clock->cpu();
	c->run(world);
	times[MEASURE_CPU] = plan->clock->cpu() - cpu_start;
	times[MEASURE_WALL] = plan->clock->wall() - wall_start;
	if (plan->tell)
		plan->tell(world, times);
	if (c->after)
		c->after(world);
}

/* What it does not tell stays NOT_RUN. */
static void time_case(struct measure *measure, const struct measure_plan *plan, unsigned int c, struct world *world, size_t at)
{
	double times[MEASURE_WAYS];

	for (int by = 0; by < MEASURE_WAYS; by++)
		times[by] = NOT_RUN;
	run_case(plan, &plan->cases[c], world, times);
	for (int by = 0; by < MEASURE_WAYS; by++)
		measure->times[by][at] = times[by];
}

void measure_rounds(struct measure *measure, const struct measure_plan *plan, struct world *world, uint32_t which,
		    unsigned int rounds)
{
	unsigned int n = measure->n;

	make_room(measure, rounds);
	for (unsigned int end = measure->rounds + rounds; measure->rounds < end; measure->rounds++)
		for (unsigned int i = 0; i < n; i++) {
			unsigned int c = (measure->rounds + i) % n;
			size_t at = (size_t)measure->rounds * n + c;

			if (which >> c & 1)
				time_case(measure, plan, c, world, at);
		}
}

bool measure_sum(const struct measure *measure, enum measure_by by, unsigned int round, uint32_t which, double *seconds)
{
	*seconds = 0;
	for (unsigned int c = 0; c < measure->n; c++) {
		double time = measure->times[by][(size_t)round * measure->n + c];

		if (!(which >> c & 1))
			continue;
		if (time < 0)
			return false;
		*seconds += time;
	}
	return true;
}
