/* SPDX-License-Identifier: MIT */
#include "bitmap.h"

size_t gmemi_bitmap_run_of_many(const uint64_t *words, size_t bit, size_t end)
{
	uint64_t same = gmemi_bitmap_test(words, bit) ? UINT64_MAX : 0;
	size_t at = bit;

	while (at < end) {
		uint64_t differ = (words[at / 64] ^ same) >> (at % 64);

		if (differ) {
			at += (size_t)__builtin_ctzll(differ);
			break;
		}
		at = (at / 64 + 1) * 64;
	}
	return (at < end ? at : end) - bit;
}
