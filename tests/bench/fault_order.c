/* SPDX-License-Identifier: MIT */
#include "fault.h"

#define SLOT 72u /* pages; a run of 4.5 on average in each makes one page in 16 */
#define LONGEST 8u

/* The same numbers in each run, and on each machine. */
static uint32_t next(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % below);
}

static void shuffle(uint32_t *values, unsigned int n, uint64_t *state)
{
	for (unsigned int i = n; i > 1; i--) {
		uint32_t other = next(state, i), value = values[i - 1];

		values[i - 1] = values[other];
		values[other] = value;
	}
}

static unsigned int put_run(uint32_t *pages, uint32_t slot, uint64_t *state)
{
	uint32_t length = 1 + next(state, LONGEST), first = slot * SLOT + next(state, SLOT - LONGEST);

	for (uint32_t i = 0; i < length; i++)
		pages[i] = first + i;
	return length;
}

/* The slots are shuffled where the pages will be: at the end of the room, which the runs do not reach before they are read. */
static unsigned int put_runs(uint32_t *pages, unsigned int n, uint64_t *state)
{
	unsigned int slots = n / SLOT, used = 0;
	uint32_t *slot = pages + n - slots;

	for (unsigned int i = 0; i < slots; i++)
		slot[i] = i;
	shuffle(slot, slots, state);
	for (unsigned int i = 0; i < slots; i++)
		used += put_run(pages + used, slot[i], state);
	return used;
}

unsigned int fault_order(enum fault_order order, uint32_t *pages, unsigned int n)
{
	uint64_t state = 1;

	if (order == ORDER_RUNS)
		return put_runs(pages, n, &state);
	for (unsigned int i = 0; i < n; i++)
		pages[i] = i;
	if (order == ORDER_SHUFFLED)
		shuffle(pages, n, &state);
	return n;
}
