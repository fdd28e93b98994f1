/* SPDX-License-Identifier: MIT */
/* Random numbers that can be had again: a test that uses them says their seed. */
#ifndef UNIT_RANDOM_H
#define UNIT_RANDOM_H

#include <stdint.h>

/* A new seed, printed. GT_SEED=n runs a failure again. */
void sow(void);
uint64_t next_random(void);

#endif
