/* SPDX-License-Identifier: MIT */
/* Content on its way into guest memory, by each of the calls that take some. */
#ifndef FEED_H
#define FEED_H

#include <gmem.h>

enum feed_from { FEED_BUFFER, FEED_FILE, FEED_PIPE, FEED_SOURCE, FEED_WAYS };

struct feed {
	const unsigned char *content; /* of the whole memory */
	int file;                     /* the same as a file */
	struct gmem_populate_opts opts;
};

/* Puts [offset, offset + length) of the content there. */
int feed(struct gmem *mem, const struct feed *feed, enum feed_from from, uint64_t offset, uint64_t length, uint64_t *done);

#endif
