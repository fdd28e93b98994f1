/* SPDX-License-Identifier: MIT */
/* Floor 1: arithmetic on ranges of bytes that cannot overflow. */
#ifndef GMEMI_RANGE_H
#define GMEMI_RANGE_H

#include <stdbool.h>
#include <stdint.h>

/* 0 if [offset, offset + length) is not empty, lies below limit, and both are multiples of align (a power of two); else -EINVAL
 * with a sentence. */
int gmemi_range_check(uint64_t offset, uint64_t length, uint64_t align, uint64_t limit);

static inline bool gmemi_aligned(uint64_t value, uint64_t align)
{
	return (value & (align - 1)) == 0;
}

static inline uint64_t gmemi_round_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

static inline uint64_t gmemi_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Ranges that do not wrap: gmemi_range_check() has seen them. */
static inline bool gmemi_range_overlaps(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
	return a < b ? b - a < a_length : a - b < b_length;
}

static inline bool gmemi_range_contains(uint64_t outer, uint64_t outer_length, uint64_t inner, uint64_t inner_length)
{
	return inner >= outer && inner_length <= outer_length && inner - outer <= outer_length - inner_length;
}

#endif
