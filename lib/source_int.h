/* SPDX-License-Identifier: MIT */
/* Floor 3, between the files of source: what a source is, and what those that the library makes can do besides. */
#ifndef GMEMI_SOURCE_INT_H
#define GMEMI_SOURCE_INT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gate.h"
#include "source.h"

#define GMEMI_SOURCE_LONGEST (UINT64_C(2) << 20) /* that a source is asked to read at a time */

/* Of the library's own kinds. Their functions, also those of their ops, say -ENODATA without a sentence, and anything else with
 * one. */
struct gmemi_source_kind {
	/* As `read`, but never waits: -EAGAIN, without a sentence. */
	int (*read_now)(void *user, uint64_t offset, uint64_t length, void *buffer);
	/* As `extent`, but without waiting, and knows no zeros; NULL = it has to be read to know. */
	int (*covers)(void *user, uint64_t offset, uint64_t *length);
};

struct gmemi_delivery;

struct gmem_source {
	atomic_uint claims; /* the program's, and one for each call or overlay that uses it */
	struct gmem_source_ops ops;
	const struct gmemi_source_kind *kind; /* NULL = the program's own */
	void *user;
	bool late;
	struct gmemi_lock lock;		   /* of what follows; held for no call of anybody */
	struct gmemi_source_user *users;
	struct gmemi_delivery *deliveries; /* under way */
	uint32_t detaching;		   /* threads that wait in gmemi_source_detach() */
	_Atomic uint32_t delivered;	   /* changes when a user has been told, for those */
};

/* With one claim, the caller's. On failure nothing of `user` was touched. */
int gmemi_source_make(const struct gmem_source_ops *ops, const struct gmemi_source_kind *kind, void *user, bool late,
		      struct gmem_source **source);
/* False: it is going away. */
bool gmemi_source_try_claim(struct gmem_source *source);

#endif
