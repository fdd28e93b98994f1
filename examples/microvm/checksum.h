/* SPDX-License-Identifier: MIT */
/* The checksum: h = rol(h, 5) ^ word. It depends on where a word stands, so a page in the wrong place shows too. guest.c does
 * the same in assembly. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t checksum_words(uint64_t h, const uint64_t *words, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		h = (h << 5 | h >> 59) ^ words[i];
	return h;
}

#endif
