/* SPDX-License-Identifier: MIT */
/* A guard, and a pager that is too slow to take its endpoint: by hand, in this process. */
#ifndef UNIT_LATES_H
#define UNIT_LATES_H

#include <stdint.h>

#include <gmem.h>

#include "channels.h"
#include "faults.h"

#define LATE_PAGES 256 /* as ranges of one page they are more than a small socket takes */
#define LATE_FIRST 1   /* the number of the first endpoint of a guard */

struct late {
	struct lazy lazy;
	struct line line;
	struct speaker pager;
	struct gmem_guard *guard;
	enum gmem_guard_event last;
};

/* Nothing is attached yet. The channel's time may be 1 ns: what is there already is heard, and nothing is waited for. */
void late_begin(struct late *late, int type, uint64_t timeout_ns);
void late_begin_in_ranges(struct late *late, int type, uint64_t timeout_ns, uint64_t ranges);
void late_end(struct late *late);

/* What a pager says. */
void late_hello(struct speaker *pager);
void late_ready(struct speaker *pager, uint32_t endpoint);
void late_release(struct speaker *pager, uint32_t endpoint);
void late_error(struct speaker *pager);
/* Until the owner has said this. */
void late_await(int socket, enum gmemi_wire_type type);

/* No other pager can be attached. */
void late_no_other_pager(struct late *late);
/* One can, after so many deaths. */
void late_another_pager(struct late *late, uint64_t deaths);
/* The guard's next event is this one. */
void late_expect(struct late *late, enum gmem_guard_event event);

/* Attaches, and is interrupted by signals from the moment on at which `until`, in another thread, has come back. */
void late_be_interrupted(struct late *late, struct gmem_channel *channel, int socket, void (*until)(int socket));

#endif
