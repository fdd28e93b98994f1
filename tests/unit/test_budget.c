/* SPDX-License-Identifier: MIT */
/* Budgets of events, at times that are made up. */
#include "gt.h"

#include "budget.h"

#define MS UINT64_C(1000000)
#define START (1000 * MS)

static uint64_t take_all(struct gmemi_budget *budget, uint64_t now)
{
	uint64_t all = 0;
	uint32_t count;

	while ((count = gmemi_budget_take(budget, 8, now)))
		all += count;
	return all;
}

static void without_a_rate_there_is_no_limit(void **state)
{
	struct gmemi_budget budget;

	(void)state;
	gmemi_budget_begin(&budget, 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(gmemi_budget_take(&budget, 8, START), 8);
	assert_false(gmemi_budget_is_spent(&budget, START));
}

static void a_tenth_of_a_second_comes_at_once(void **state)
{
	struct gmemi_budget budget;

	(void)state;
	gmemi_budget_begin(&budget, 1000);
	assert_int_equal(take_all(&budget, START), 100);
	assert_true(gmemi_budget_is_spent(&budget, START));
	assert_int_equal(gmemi_budget_take(&budget, 1, START), 0);
	assert_int_equal(take_all(&budget, START + 50 * MS), 50);
	assert_int_equal(take_all(&budget, START + 10000 * MS), 100); /* more is not saved up */
}

/* Nobody is kept waiting longer than the rate says, and what comes then is what the rate says. */
static void the_wait_ends_when_it_says(void **state)
{
	static const uint64_t rates[] = { 1, 3, 10, 999, 1000, 1001, 100000, 1000000000 };

	(void)state;
	for (unsigned int i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t all = 0, now = START;
		struct gmemi_budget budget;

		gmemi_budget_begin(&budget, rates[i]);
		for (int round = 0; round < 50; round++) {
			uint64_t count = take_all(&budget, now);

			assert_true(count > 0);
			all += count;
			assert_true(budget.until > now);
			assert_true(gmemi_budget_is_spent(&budget, budget.until - 1));
			now = budget.until;
			assert_false(gmemi_budget_is_spent(&budget, now));
		}
		assert_true(all <= (now - START) / 1000 * rates[i] / 1000000 + rates[i] / 10 + 1);
		assert_true(all + 1 >= (now - START) / 1000 * rates[i] / 1000000);
	}
}

static void one_a_second_is_one_a_second(void **state)
{
	struct gmemi_budget budget;

	(void)state;
	gmemi_budget_begin(&budget, 1);
	for (uint64_t second = 0; second < 5; second++) {
		assert_int_equal(gmemi_budget_take(&budget, 8, START + second * 1000 * MS), 1);
		assert_int_equal(gmemi_budget_take(&budget, 8, START + second * 1000 * MS + 999 * MS), 0);
	}
}

static void what_was_not_needed_is_there_again(void **state)
{
	struct gmemi_budget budget;

	(void)state;
	gmemi_budget_begin(&budget, 100);
	assert_int_equal(take_all(&budget, START), 10);
	gmemi_budget_give(&budget, 0);
	assert_true(gmemi_budget_is_spent(&budget, START));
	gmemi_budget_give(&budget, 3);
	assert_false(gmemi_budget_is_spent(&budget, START));
	assert_int_equal(take_all(&budget, START), 3);
}

static const struct gt_test tests[] = {
	GT(without_a_rate_there_is_no_limit, GT_NEEDS_NOTHING),  GT(a_tenth_of_a_second_comes_at_once, GT_NEEDS_NOTHING),
	GT(the_wait_ends_when_it_says, GT_NEEDS_NOTHING),        GT(one_a_second_is_one_a_second, GT_NEEDS_NOTHING),
	GT(what_was_not_needed_is_there_again, GT_NEEDS_NOTHING),
};

GT_MAIN("budget", tests)
