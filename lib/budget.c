/* SPDX-License-Identifier: MIT */
#include "budget.h"

#define SECOND UINT64_C(1000000000)
#define BURST (SECOND / 10)
#define REST (SECOND / 1000) /* once it is spent, so that each event does not need a wake-up of its own */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void gmemi_budget_begin(struct gmemi_budget *budget, uint64_t rate)
{
	*budget = (struct gmemi_budget){ 0 };
	if (rate)
		budget->each = SECOND / rate + (SECOND % rate != 0);
}

uint32_t gmemi_budget_take(struct gmemi_budget *budget, uint32_t most, uint64_t now)
{
	uint64_t burst = larger(BURST, budget->each), count;

	if (!budget->each)
		return most;
	if (gmemi_budget_is_spent(budget, now))
		return 0;
	budget->spent = larger(budget->spent, now);
	count = (now + burst - budget->spent) / budget->each;
	if (count > most)
		count = most;
	budget->spent += count * budget->each;
	if (count == 0)
		budget->until = budget->spent + larger(REST, budget->each) - burst;
	return (uint32_t)count;
}

void gmemi_budget_give(struct gmemi_budget *budget, uint32_t count)
{
	if (!count)
		return;
	budget->spent -= count * budget->each;
	budget->until = 0;
}
