/* SPDX-License-Identifier: MIT */
/* A pager that was made from docs/guide/protocol.md: takes over what a VMM hands over by second_line.h, and fills it with
 * content_at() through the descriptors alone. */
#ifndef UNIT_SECOND_PAGER_H
#define UNIT_SECOND_PAGER_H

#include <stdint.h>

#include "second_line.h"

struct second_pager {
	struct second *second;
	int uffd, file, map;
	unsigned char *at; /* of the file */
	uint64_t *words;   /* of the page map */
	uint64_t endpoint, memory, length, page;
	struct note regions; /* the items: all of them */
};

/* Takes the socket, and everything up to the other's READY; answers nothing but HELLO. `identity` is what it calls itself. */
struct second_pager second_pager_make(int socket, const char *identity);
void second_pager_end(struct second_pager *pager);
/* The next REGIONS belong to it as well. */
void second_pager_hear_regions(struct second_pager *pager);
/* Waits for somebody who touches a page: which one of the memory that is. */
uint64_t second_pager_await_fault(const struct second_pager *pager);
void second_pager_fill(const struct second_pager *pager, uint64_t page);
unsigned int second_pager_state(const struct second_pager *pager, uint64_t page);

#endif
