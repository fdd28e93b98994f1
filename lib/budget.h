/* SPDX-License-Identifier: MIT */
/* Floor 1: how many events a second may be taken of somebody. It knows no clock: times are the caller's, in nanoseconds. */
#ifndef GMEMI_BUDGET_H
#define GMEMI_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct gmemi_budget {
	uint64_t each;  /* that an event costs, 0 = there is no limit */
	uint64_t spent; /* up to when what was taken is paid for */
	uint64_t until; /* nothing is taken before */
};

/* So many events a second, 0 = no limit; after a pause the events of a tenth of a second, one at least, come at once. */
void gmemi_budget_begin(struct gmemi_budget *budget, uint64_t rate);
/* Takes up to `most` events, not 0: how many. None: it is spent, for a while that lets more than a trickle come together. */
uint32_t gmemi_budget_take(struct gmemi_budget *budget, uint32_t most, uint64_t now);
/* So many were not needed. */
void gmemi_budget_give(struct gmemi_budget *budget, uint32_t count);

static inline bool gmemi_budget_is_spent(const struct gmemi_budget *budget, uint64_t now)
{
	return budget->until > now;
}

#endif
