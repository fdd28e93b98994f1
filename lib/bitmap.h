/* SPDX-License-Identifier: MIT */
/* Floor 1: one bit for each of a number of things, in words that the caller provides. */
#ifndef GMEMI_BITMAP_H
#define GMEMI_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEMI_BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline uint64_t gmemi_bitmap_mask(size_t bit)
{
	return UINT64_C(1) << (bit % 64);
}

static inline void gmemi_bitmap_assign(uint64_t *words, size_t bit, bool value)
{
	if (value)
		words[bit / 64] |= gmemi_bitmap_mask(bit);
	else
		words[bit / 64] &= ~gmemi_bitmap_mask(bit);
}

static inline bool gmemi_bitmap_test(const uint64_t *words, size_t bit)
{
	return words[bit / 64] & gmemi_bitmap_mask(bit);
}

size_t gmemi_bitmap_run_of_many(const uint64_t *words, size_t bit, size_t end);

/* How many bits from `bit` on, below `end`, are the same as it. Most often there is one. */
static inline size_t gmemi_bitmap_run(const uint64_t *words, size_t bit, size_t end)
{
	return end - bit == 1 ? 1 : gmemi_bitmap_run_of_many(words, bit, end);
}

#endif
