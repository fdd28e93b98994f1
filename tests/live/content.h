/* SPDX-License-Identifier: MIT */
/* Memory images for tests: random where it matters, zero where it hurts. */
#ifndef CONTENT_H
#define CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define CONTENT_MOST ((size_t)64 << 20)

/* What a test of content takes: 64 MiB, or CONTENT_MIB of the environment, for machines that are slow. */
size_t content_length(void);
/* Prints the seed, so that a failure can be repeated: SEED=0x... in the environment sets it. */
uint64_t content_seed(void);
/* xorshift64: never 0. */
uint64_t content_random(uint64_t *seed);
/* A fresh image in a buffer that all callers share: runs of random pages, runs of zero pages, single zero pages, and pages
 * with one byte that is not zero, first or last. length: at most CONTENT_MOST, a multiple of 4096. */
unsigned char *content_make(size_t length, uint64_t *seed);
/* The same as a file (memfd), where half of the zero pages are holes. */
int content_file(const unsigned char *content, size_t length, uint64_t *seed);

#endif
