/* SPDX-License-Identifier: MIT */
/* A source that has some pages of 4096 bytes and others not, and answers now or later; and a user who listens to what is
 * delivered. */
#ifndef UNIT_PATCHES_H
#define UNIT_PATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include <gmem/source.h>

#include "source.h"

#define PATCH 4096
#define PATCHES 24
#define PATCHED (PATCHES * PATCH) /* bytes */

struct patches {
	/* Set by the test. */
	unsigned char data[PATCHED];
	bool has[PATCHES];
	bool tells_extents;
	bool late; /* reads are answered LATER and kept here, until answer_asked() */
	/* Told to the test. */
	unsigned int reads, released, demanded;
	uint64_t advised; /* bytes */
	struct {
		uint64_t offset, length;
	} asked[4096];
	unsigned int count; /* of those, not answered yet */
};

struct gmem_source *patchy_source(struct patches *patches);
/* Delivers what was asked for and not answered, by patches, the last question first. */
void answer_asked(struct gmem_source *source, struct patches *patches);

/* What was delivered: bytes, or NOTHING, or a negative errno. */
#define NOTHING 1000
struct listener {
	struct gmemi_source_user user; /* first */
	int bytes[PATCHED];
	unsigned int deliveries;
	int result; /* of each */
};

void listen_to(struct gmem_source *source, struct listener *listener);
void forget_delivered(struct listener *listener);

#endif
