/* SPDX-License-Identifier: MIT */
/* Floor 4: what a populate call waits for when its source answers LATER. */
#ifndef GMEMI_POPULATE_LATE_H
#define GMEMI_POPULATE_LATE_H

#include <stdint.h>

#include "source_pending.h"

struct gmem_source;
struct gmemi_late; /* one for each call, known to the source as a user */

/* One for each thread: what it has asked for. Zeros before the first use. */
struct gmemi_wanted {
	struct gmemi_wanted *next;
	uint64_t offset, length;
	unsigned char *buffer; /* for what is delivered, from byte `offset` of the source on: the reader's */
	struct gmemi_pendings missing;
	int failure;		    /* that was delivered */
	_Atomic uint32_t deliveries; /* changes with each */
};

int gmemi_late_begin(struct gmem_source *source, struct gmemi_late **late);
void gmemi_late_end(struct gmemi_late *late);
/* gmemi_source_read(), waited for: with LATER all is in wanted->buffer. Both buffers have room for `length` bytes. After a
 * failure everybody else's wait ends with the same code. */
int gmemi_late_read(struct gmemi_late *late, struct gmemi_wanted *wanted, uint64_t offset, uint64_t length,
		    unsigned char *buffer);

#endif
