/* SPDX-License-Identifier: MIT */
/* Floor 3: puts bytes into a range of a memory's shared file, by the populate chain. Knows nothing of where bytes come from. */
#ifndef GMEMI_FILL_H
#define GMEMI_FILL_H

#include "memory.h"

struct gmemi_chain_row;

/* One filler for each call that fills; not shared between threads. */
struct gmemi_fill {
	struct gmem *mem;
	enum gmem_mechanism forced;	  /* 0 = the chain */
	const struct gmemi_chain_row *row; /* in use now */
};

/* Picks the mechanism: -EOPNOTSUPP when none works. */
int gmemi_fill_begin(struct gmemi_fill *fill, struct gmem *mem, enum gmem_mechanism forced);
enum gmem_mechanism gmemi_fill_mechanism(const struct gmemi_fill *fill);
/* The file holds these bytes at offset when it returns 0; *done of them otherwise. Any alignment. A mechanism that turns out
 * absent is demoted, and the next goes on where it stopped. */
int gmemi_fill_put(struct gmemi_fill *fill, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done);
/* How many bytes from offset on, at most length, are alike in this: surely absent from the file (*absent), or perhaps there.
 * Both are multiples of the page size. */
uint64_t gmemi_fill_extent(struct gmemi_fill *fill, uint64_t offset, uint64_t length, bool *absent);

#endif
