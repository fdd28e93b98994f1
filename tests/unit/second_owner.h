/* SPDX-License-Identifier: MIT */
/* A VMM that was made from docs/guide/protocol.md: memory, a userfaultfd and a page map of its own, handed over by
 * second_line.h. */
#ifndef UNIT_SECOND_OWNER_H
#define UNIT_SECOND_OWNER_H

#include <stdint.h>

#include "second_line.h"

#define ENDPOINT 0xfedcba98u
#define MEMORY 63u
#define STRATEGY_FILL 1u
#define STRATEGY_COPY 2u

/* A file of `pages`, mapped once, watched in two halves, whose contents are elsewhere in the source. */
struct second_owner {
	struct second *second;
	int uffd, file, map;
	unsigned char *at;
	uint64_t *words; /* of the page map */
	uint64_t features, page, pages;
	uint32_t strategy;
};

/* Takes the socket. */
struct second_owner second_owner_make(int socket, uint32_t strategy, uint64_t pages);
void second_owner_end(struct second_owner *owner);
/* The owner's part of the handshake at once, with messages in between that no version has. */
void second_owner_say_all(struct second_owner *owner);
/* The pager's part. */
void second_owner_hear_all(struct second_owner *owner);
/* Half 0 or 1. */
void second_owner_say_half(struct second_owner *owner, unsigned int half);
/* Where the source has the content of this half. */
uint64_t second_content(const struct second_owner *owner, unsigned int half);
/* Every byte of every page, touched; then the page map. */
void second_owner_check(const struct second_owner *owner);
unsigned int second_state(const struct second_owner *owner, uint64_t page);

#endif
