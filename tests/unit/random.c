/* SPDX-License-Identifier: MIT */
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t seed;

void sow(void)
{
	const char *wanted = getenv("GT_SEED");
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)now.tv_nsec * 2654435761u + (uint64_t)now.tv_sec;
	printf("  seed: GT_SEED=%#llx\n", (unsigned long long)seed);
}

uint64_t next_random(void)
{
	uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
