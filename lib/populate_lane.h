/* SPDX-License-Identifier: MIT */
/* Floor 4: one thread's part in a populate call: takes content from the input, leaves out zeros, stores the rest, keeps
 * the page map right. */
#ifndef GMEMI_POPULATE_LANE_H
#define GMEMI_POPULATE_LANE_H

#include <gmem/populate.h>

#include "fill.h"
#include "populate_input.h"

struct gmemi_lane {
	struct gmemi_fill fill;
	struct gmemi_reader reader;
	uint64_t origin;     /* where in the memory byte 0 of the call goes */
	uint64_t at, end;    /* of the piece: where in the memory the next byte goes, and where the piece ends */
	uint64_t chunk;	     /* a step does not reach beyond a multiple of it */
	bool keep_zeros;
	struct gmemi_known known;
	uint64_t skipped;    /* bytes left out so far */
	bool sparse;	     /* the last step met zeros */
	struct gmemi_begun begun;
	int pipe[2];	     /* for splice() from a file, made when it is needed; else -1 */
};

/* Nothing can be stored before. -EOPNOTSUPP when there is no way. */
int gmemi_lane_begin(struct gmemi_lane *lane, struct gmem *mem, const struct gmemi_input *input, uint64_t origin,
		     const struct gmem_populate_opts *opts);
void gmemi_lane_end(struct gmemi_lane *lane);
/* [offset, offset + length) of the memory; *done bytes of it. */
int gmemi_lane_run(struct gmemi_lane *lane, uint64_t offset, uint64_t length, uint64_t *done);

#endif
