/* SPDX-License-Identifier: MIT */
/* A source whose content is a buffer, and which does as it is told. Several threads may ask it at a time. */
#ifndef UNIT_SOURCES_H
#define UNIT_SOURCES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <gmem/source.h>

struct script {
	/* Set by the test. What the source has is `length` bytes from byte `first` on: nothing else may be asked for. */
	const unsigned char *data;
	uint64_t first, length;
	bool tells_zeros;   /* answers GMEM_ANSWER_ZERO where all that is asked for is zero */
	bool tells_extents; /* runs of pages (of its own offsets) that are zero, or not */
	/* At every read, if there: not 0 = the answer. The offset is in `data`. */
	int (*before)(struct script *script, uint64_t offset, uint64_t length);
	/* In place of the answer about an extent, if there. */
	int (*extent)(struct script *script, uint64_t offset, uint64_t *length);
	void *user; /* of those two */

	/* Told to the test. */
	atomic_uint reads, extents, released;
	atomic_uint strayed;	     /* asked for what there is not, or more than was promised */
	_Atomic uint64_t bytes_read; /* that the source gave, or said to be zero */
};

/* A source that follows the script, until gmem_source_destroy(). */
struct gmem_source *make_source(struct script *script);
/* Gives it up: it must be released by that, and must not have strayed. */
void end_source(struct gmem_source *source, const struct script *script);

#endif
