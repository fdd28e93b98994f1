/* SPDX-License-Identifier: MIT */
/* Floor 1: one range, divided among the calling thread and others that exist for the time of the call. Knows nothing of what is
 * done to the range. */
#ifndef GMEMI_PARALLEL_H
#define GMEMI_PARALLEL_H

#include <stdint.h>

#define GMEMI_THREADS 64 /* besides the caller's, at most */

struct gmemi_parallel {
	uint64_t offset, length;
	uint32_t threads; /* besides the caller's */
	const char *name; /* of those */
	void *context;
	/* How much of what is left from `offset` on is the next piece, 1 at least. One thread at a time. */
	uint64_t (*piece)(void *context, uint64_t offset, uint64_t left);
	/* Does a piece. lane 0 is the calling thread, 1 the first of the others. */
	int (*work)(void *context, uint32_t lane, uint64_t offset, uint64_t length, uint64_t *done);
	/* In the calling thread, after each piece of its own and when all is done: not 0, with a sentence, = take no more
	 * pieces. */
	int (*tell)(void *context, uint64_t done);
};

/* Pieces are taken in order, and those that were taken are ended: *done is what is done without a gap. Returns the failure
 * that is nearest to the beginning of the range, or what `tell` said, or 0. Threads that cannot be made are done without. */
int gmemi_parallel_run(const struct gmemi_parallel *parallel, uint64_t *done);

#endif
