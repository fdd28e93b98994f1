/* SPDX-License-Identifier: MIT */
/* The benchmark's engine and arithmetic, on a clock that the test turns. */
#include <string.h>

#include "gt.h"

#include "fault.h"
#include "judge.h"
#include "measure.h"
#include "trap.h"

enum { A, B, C, N };

/* What the cases work on here: the hands of the clock, how long the next runs take, and what happened. */
struct world {
	double wall, cpu;
	double takes[N];
	double idle; /* that much of what it takes is not computing */
	char said[200];
	size_t length;
};

static struct world *now;

static double wall(void)
{
	return now->wall;
}

static double cpu(void)
{
	return now->cpu;
}

static const struct measure_clock fake = { wall, cpu };

static void say(struct world *world, char c)
{
	assert_true(world->length + 1 < sizeof(world->said));
	world->said[world->length++] = c;
}

/* The clock goes on outside of the timed part as well: that must not be seen. */
static void before(struct world *world)
{
	say(world, '<');
	world->wall += 100;
	world->cpu += 100;
}

static void after(struct world *world)
{
	say(world, '>');
	world->wall += 1000;
	world->cpu += 1000;
}

static void settle(struct world *world)
{
	say(world, '.');
	world->wall += 10;
}

static void run(struct world *world, int which)
{
	say(world, (char)('a' + which));
	world->wall += world->takes[which];
	world->cpu += world->takes[which] * (1 - world->idle);
}

static void run_a(struct world *world)
{
	run(world, A);
}

static void run_b(struct world *world)
{
	run(world, B);
}

static void run_c(struct world *world)
{
	run(world, C);
}

static const struct measure_case cases[] = {
	[A] = { "a", before, run_a, after },
	[B] = { "b", NULL, run_b, NULL },
	[C] = { "c", NULL, run_c, NULL },
};

static const struct measure_plan plan = { .cases = cases, .n = N, .clock = &fake };

#define BIT(n) (1u << (n))
#define ALL (BIT(A) | BIT(B) | BIT(C))

/* One round in which the cases take so long. */
static void round_of(struct measure *measure, struct world *world, double a, double b, double c, uint32_t which)
{
	now = world;
	world->takes[A] = a;
	world->takes[B] = b;
	world->takes[C] = c;
	measure_rounds(measure, &plan, world, which, 1);
}

static void the_first_case_changes_from_round_to_round(void **state)
{
	struct world world = { 0 };
	struct measure measure;

	(void)state;
	now = &world;
	measure_begin(&measure, N);
	measure_rounds(&measure, &plan, &world, ALL, 4);
	assert_string_equal(world.said, "<a>bcbc<a>c<a>b<a>bc");
	measure_end(&measure);
}

static void cases_that_are_not_wanted_do_not_run(void **state)
{
	struct world world = { 0 };
	struct measure measure;

	(void)state;
	now = &world;
	measure_begin(&measure, N);
	measure_rounds(&measure, &plan, &world, BIT(B), 2);
	assert_string_equal(world.said, "bb");
	measure_end(&measure);
}

static void the_clock_runs_while_the_case_runs(void **state)
{
	const struct measure_plan settled = { .cases = cases, .n = N, .clock = &fake, .settle = settle };
	struct world world = { .takes = { 8, 0, 0 }, .idle = 0.5 };
	struct measure measure;
	double seconds;

	(void)state;
	now = &world;
	measure_begin(&measure, N);
	measure_rounds(&measure, &settled, &world, BIT(A), 1);
	assert_string_equal(world.said, "<.a>");
	assert_true(measure_sum(&measure, MEASURE_WALL, 0, BIT(A), &seconds));
	assert_true(seconds == 8);
	assert_true(measure_sum(&measure, MEASURE_CPU, 0, BIT(A), &seconds));
	assert_true(seconds == 4);
	measure_end(&measure);
}

static void tell(struct world *world, double times[MEASURE_WAYS])
{
	say(world, '!');
	times[MEASURE_P50] = times[MEASURE_WALL] / 2;
}

/* Before it is undone. */
static void a_run_tells_what_it_timed(void **state)
{
	const struct measure_plan own = { .cases = cases, .n = N, .tell = tell, .clock = &fake };
	struct world world = { .takes = { 8, 4, 0 } };
	struct measure measure;
	double seconds;

	(void)state;
	now = &world;
	measure_begin(&measure, N);
	measure_rounds(&measure, &own, &world, BIT(A) | BIT(B), 1);
	assert_string_equal(world.said, "<a!>b!");
	assert_true(measure_sum(&measure, MEASURE_P50, 0, BIT(A) | BIT(B), &seconds));
	assert_true(seconds == 6);
	assert_false(measure_sum(&measure, MEASURE_P99, 0, BIT(A), &seconds)); /* nobody told */
	measure_end(&measure);
}

static void a_median_is_the_middle(void **state)
{
	double odd[] = { 9, 1, 5 }, even[] = { 4, 100, 1, 2 };

	(void)state;
	assert_true(judge_median(odd, 3) == 5);
	assert_true(judge_median(even, 4) == 3);
}

static void a_percentile_is_one_of_the_values(void **state)
{
	uint32_t values[] = { 50, 10, 40, 20, 30 }, one[] = { 7 };

	(void)state;
	assert_int_equal(judge_percentile(values, 5, 50), 30);
	assert_int_equal(judge_percentile(values, 5, 99), 50);
	assert_int_equal(judge_percentile(values, 5, 20), 10);
	assert_int_equal(judge_percentile(values, 5, 21), 20);
	assert_int_equal(judge_percentile(one, 1, 1), 7);
}

/* The median of ratios, each of one round: neither the ratio of medians (3.0) nor that of sums. */
static void ratios_are_of_one_round(void **state)
{
	struct world world = { 0 };
	struct measure measure;
	struct figure figure;

	(void)state;
	measure_begin(&measure, N);
	round_of(&measure, &world, 1, 2, 0, ALL);    /* 0.5 */
	round_of(&measure, &world, 6, 1, 0, ALL);    /* 6 */
	round_of(&measure, &world, 1000, 500, 0, ALL); /* 2: a disturbed round counts as any other */
	figure = judge_ratio(&measure, MEASURE_WALL, BIT(A), BIT(B));
	assert_true(figure.median == 2 && figure.low == 0.5 && figure.high == 6);
	assert_int_equal(figure.rounds, 3);
	measure_end(&measure);
}

static void a_ratio_to_a_sum(void **state)
{
	struct world world = { 0 };
	struct measure measure;
	struct figure figure;

	(void)state;
	measure_begin(&measure, N);
	round_of(&measure, &world, 12, 2, 4, ALL);
	figure = judge_ratio(&measure, MEASURE_CPU, BIT(A), BIT(B) | BIT(C));
	assert_true(figure.median == 2);
	measure_end(&measure);
}

/* Rounds that an earlier attempt made count, and those in which not all of the cases ran do not. */
static void rounds_add_up_where_all_cases_ran(void **state)
{
	struct world world = { 0 };
	struct measure measure;

	(void)state;
	measure_begin(&measure, N);
	round_of(&measure, &world, 1, 1, 1, ALL);
	round_of(&measure, &world, 2, 1, 1, BIT(A) | BIT(B));
	round_of(&measure, &world, 3, 1, 1, BIT(A) | BIT(B));
	assert_int_equal(judge_ratio(&measure, MEASURE_WALL, BIT(A), BIT(B)).rounds, 3);
	assert_true(judge_ratio(&measure, MEASURE_WALL, BIT(A), BIT(B)).median == 2);
	assert_int_equal(judge_ratio(&measure, MEASURE_WALL, BIT(A), BIT(C)).rounds, 1);
	assert_true(judge_ratio(&measure, MEASURE_WALL, BIT(A), BIT(C)).median == 1);
	measure_end(&measure);
}

static void nanoseconds_a_call_over_the_bare_one(void **state)
{
	struct world world = { 0 };
	struct measure measure;

	(void)state;
	measure_begin(&measure, N);
	round_of(&measure, &world, 6, 4, 0, ALL);
	assert_true(judge_over(&measure, MEASURE_WALL, BIT(A), BIT(B), 1000).median == 2e6);
	assert_true(judge_over(&measure, MEASURE_WALL, BIT(B), 0, 1000).median == 4e6);
	measure_end(&measure);
}

static bool is_disturbed(double idle)
{
	struct world world = { .idle = idle };
	struct measure measure;
	bool disturbed;

	measure_begin(&measure, N);
	round_of(&measure, &world, 8, 4, 0, ALL);
	disturbed = judge_disturbed(&measure, BIT(A) | BIT(B));
	measure_end(&measure);
	return disturbed;
}

static void wall_time_beyond_cpu_time_is_a_disturbance(void **state)
{
	(void)state;
	assert_false(is_disturbed(0));
	assert_false(is_disturbed(0.05));
	assert_true(is_disturbed(0.2));
}

static void a_gate_holds_up_to_its_figure(void **state)
{
	struct figure figure = { .median = 0.8, .low = 0.1, .high = 9, .rounds = 9 };

	(void)state;
	assert_true(judge_within(&figure, 0.8));
	assert_false(judge_within(&figure, 0.79));
	assert_true(judge_within(&figure, 0)); /* there is no gate */
}

static void nothing_measured_holds_nothing(void **state)
{
	struct figure figure = { 0 };

	(void)state;
	assert_false(judge_within(&figure, 0.8));
	assert_false(judge_within(&figure, 0));
}

static void a_call_may_cost_a_share_or_a_few_ns(void **state)
{
	(void)state;
	assert_true(judge_over_gate(0) == 30);
	assert_true(judge_over_gate(1500) == 30);
	assert_true(judge_over_gate(50000) == 1000);
}

enum { PAGES = 1024 };

/* How often each page is in an order; the number of pages that do not follow on the one before. */
static unsigned int count_pages(enum fault_order order, unsigned int times[PAGES], unsigned int *n)
{
	uint32_t pages[PAGES];
	unsigned int jumps = 0;

	memset(times, 0, PAGES * sizeof(*times));
	*n = fault_order(order, pages, PAGES);
	for (unsigned int i = 0; i < *n; i++) {
		assert_true(pages[i] < PAGES);
		times[pages[i]]++;
		jumps += i && pages[i] != pages[i - 1] + 1;
	}
	return jumps;
}

static void orders_have_each_page_once(void **state)
{
	unsigned int times[PAGES], n;

	(void)state;
	assert_int_equal(count_pages(ORDER_FORWARD, times, &n), 0);
	assert_int_equal(n, PAGES);
	assert_true(count_pages(ORDER_SHUFFLED, times, &n) > PAGES / 2);
	assert_int_equal(n, PAGES);
	for (unsigned int i = 0; i < PAGES; i++)
		assert_int_equal(times[i], 1);
}

static void scattered_runs_are_short_and_one_page_in_sixteen(void **state)
{
	unsigned int times[PAGES], n, jumps, row = 0;

	(void)state;
	jumps = count_pages(ORDER_RUNS, times, &n);
	assert_in_range(jumps, 8, 13); /* 14 slots; two runs may happen to touch */
	assert_in_range(n, PAGES / 32, PAGES / 9);
	for (unsigned int i = 0; i < PAGES; i++) {
		assert_true(times[i] <= 1);
		row = times[i] ? row + 1 : 0;
		assert_true(row <= 16);
	}
}

static void gives_up(void *argument)
{
	*(int *)argument = 1;
	give_up("no %s", "way");
}

static void does_not(void *argument)
{
	*(int *)argument = 2;
}

static void giving_up_ends_what_is_under_way_and_says_why(void **state)
{
	char reason[20] = "";
	int ran = 0;

	(void)state;
	assert_false(trap_run(gives_up, &ran, reason, sizeof(reason)));
	assert_string_equal(reason, "no way");
	assert_int_equal(ran, 1);
	assert_true(trap_run(does_not, &ran, reason, sizeof(reason)));
	assert_int_equal(ran, 2);
}

static const struct gt_test tests[] = {
	GT(the_first_case_changes_from_round_to_round, GT_NEEDS_NOTHING),
	GT(cases_that_are_not_wanted_do_not_run, GT_NEEDS_NOTHING),
	GT(the_clock_runs_while_the_case_runs, GT_NEEDS_NOTHING),
	GT(a_run_tells_what_it_timed, GT_NEEDS_NOTHING),
	GT(a_median_is_the_middle, GT_NEEDS_NOTHING),
	GT(a_percentile_is_one_of_the_values, GT_NEEDS_NOTHING),
	GT(ratios_are_of_one_round, GT_NEEDS_NOTHING),
	GT(a_ratio_to_a_sum, GT_NEEDS_NOTHING),
	GT(rounds_add_up_where_all_cases_ran, GT_NEEDS_NOTHING),
	GT(nanoseconds_a_call_over_the_bare_one, GT_NEEDS_NOTHING),
	GT(wall_time_beyond_cpu_time_is_a_disturbance, GT_NEEDS_NOTHING),
	GT(a_gate_holds_up_to_its_figure, GT_NEEDS_NOTHING),
	GT(nothing_measured_holds_nothing, GT_NEEDS_NOTHING),
	GT(a_call_may_cost_a_share_or_a_few_ns, GT_NEEDS_NOTHING),
	GT(orders_have_each_page_once, GT_NEEDS_NOTHING),
	GT(scattered_runs_are_short_and_one_page_in_sixteen, GT_NEEDS_NOTHING),
	GT(giving_up_ends_what_is_under_way_and_says_why, GT_NEEDS_NOTHING),
};

GT_MAIN("bench", tests)
