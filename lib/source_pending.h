/* SPDX-License-Identifier: MIT */
/* Floor 3: ranges that are waited for, each with a tag. May overlap. The caller has a lock. */
#ifndef GMEMI_SOURCE_PENDING_H
#define GMEMI_SOURCE_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#define GMEMI_ANY_TAG UINT32_MAX

struct gmemi_pending {
	struct gmemi_pending *next;
	uint64_t offset, length;
	uint64_t id; /* what became of one range when it was cut keeps it */
	uint32_t tag, reserved;
};

/* Zeros = empty. */
struct gmemi_pendings {
	struct gmemi_pending *first, *spare;
	uint64_t ids;
};

/* So many ranges more can be had without an allocation. */
int gmemi_pendings_reserve(struct gmemi_pendings *set, unsigned int count);
/* -ENOMEM; id may be NULL. */
int gmemi_pendings_add(struct gmemi_pendings *set, uint32_t tag, uint64_t offset, uint64_t length, uint64_t *id);
void gmemi_pendings_forget(struct gmemi_pendings *set, uint64_t id);
/* The first part of [at, end) that is in a range with this tag. */
bool gmemi_pendings_next(const struct gmemi_pendings *set, uint32_t tag, uint64_t at, uint64_t end, uint64_t *offset,
			 uint64_t *length);
/* Takes [offset, offset + length) out of all ranges with this tag. -ENOMEM, and nothing is changed: a range in two parts takes
 * one more. After success one can be added without an allocation. */
int gmemi_pendings_cut(struct gmemi_pendings *set, uint32_t tag, uint64_t offset, uint64_t length);
/* Empty; what it has allocated is kept, or given back too. */
void gmemi_pendings_clear(struct gmemi_pendings *set);
void gmemi_pendings_end(struct gmemi_pendings *set);

#endif
