/* SPDX-License-Identifier: MIT */
/* Floor 1: ranges that one thread at a time may change, first come, first served. Nobody waits for a claim while it holds one
 * of the same set. */
#ifndef GMEMI_CLAIM_H
#define GMEMI_CLAIM_H

#include <stdint.h>

#include "gate.h"

/* The holder's own, on its stack: taking and dropping allocates nothing. */
struct gmemi_claim {
	struct gmemi_claim *next;
	uint64_t offset, length;
};

struct gmemi_claims {
	struct gmemi_lock lock;    /* guards the list, for a moment at a time */
	struct gmemi_claim *first; /* in the order in which they came, held or waiting */
	uint32_t waiting;
	_Atomic uint32_t drops; /* counts: what those who wait watch */
};

void gmemi_claims_begin(struct gmemi_claims *claims);

/* Waits until no earlier claim overlaps. */
void gmemi_claim_take(struct gmemi_claims *claims, struct gmemi_claim *claim, uint64_t offset, uint64_t length);
void gmemi_claim_drop(struct gmemi_claims *claims, struct gmemi_claim *claim);

#endif
