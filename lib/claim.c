/* SPDX-License-Identifier: MIT */
#include "claim.h"

#include <stddef.h>

#include "range.h"
#include "sys.h"

void gmemi_claims_begin(struct gmemi_claims *claims)
{
	*claims = (struct gmemi_claims){ .first = NULL };
	gmemi_lock_begin(&claims->lock);
}

/* Claims that wait count as well: who came later does not overtake. */
static bool is_blocked(const struct gmemi_claims *claims, const struct gmemi_claim *claim)
{
	for (const struct gmemi_claim *c = claims->first; c != claim; c = c->next)
		if (gmemi_range_overlaps(c->offset, c->length, claim->offset, claim->length))
			return true;
	return false;
}

static void append(struct gmemi_claims *claims, struct gmemi_claim *claim)
{
	struct gmemi_claim **link = &claims->first;

	while (*link)
		link = &(*link)->next;
	*link = claim;
}

/* The lock is held, but not during the wait. */
static void wait_for_a_drop(struct gmemi_claims *claims)
{
	uint32_t seen = atomic_load(&claims->drops);

	claims->waiting++;
	gmemi_unlock(&claims->lock);
	(void)gmemi_sys_wait(&claims->drops, seen, UINT64_MAX); /* whatever it says: the caller looks again */
	gmemi_lock(&claims->lock);
	claims->waiting--;
}

void gmemi_claim_take(struct gmemi_claims *claims, struct gmemi_claim *claim, uint64_t offset, uint64_t length)
{
	*claim = (struct gmemi_claim){ .offset = offset, .length = length };
	gmemi_lock(&claims->lock);
	append(claims, claim);
	while (is_blocked(claims, claim))
		wait_for_a_drop(claims);
	gmemi_unlock(&claims->lock);
}

void gmemi_claim_drop(struct gmemi_claims *claims, struct gmemi_claim *claim)
{
	struct gmemi_claim **link = &claims->first;
	bool heard;

	gmemi_lock(&claims->lock);
	while (*link != claim)
		link = &(*link)->next;
	*link = claim->next;
	heard = claims->waiting;
	atomic_store_explicit(&claims->drops, atomic_load_explicit(&claims->drops, memory_order_relaxed) + 1,
			      memory_order_relaxed); /* the lock is held by whoever changes it */
	gmemi_unlock(&claims->lock);
	if (heard)
		gmemi_sys_wake(&claims->drops);
}
