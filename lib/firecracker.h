/* SPDX-License-Identifier: MIT */
/* Floor 1: the handshake of Firecracker and its kin: one JSON array with an object for each region. Knows no sockets. */
#ifndef GMEMI_FIRECRACKER_H
#define GMEMI_FIRECRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gmemi_fc_form {
	GMEMI_FC_FIRST,     /* from 1.1 on: no page size */
	GMEMI_FC_KIB,       /* from 1.7 on: page_size_kib, which holds bytes */
	GMEMI_FC_PAGE_SIZE, /* from 1.12 on: page_size and page_size_kib, both bytes */
	GMEMI_FC_GUEST      /* of its branch for guest_memfd: gpa_start and is_guest_memfd */
};

#define GMEMI_FC_LONGEST 256 /* bytes of one region, as any sender writes it */

struct gmemi_fc_region {
	uint64_t hva, length, offset; /* offset: of the content */
	uint64_t page_size;           /* 0 = not said */
	uint64_t gpa;                 /* UINT64_MAX = not said */
	bool guest_memfd;             /* in the guest_memfd that comes with the message, at `offset` */
};

/* Reads a message that gmemi_json_scan() has passed: *regions is an array of the caller's, to be freed. At most `most`
 * regions. *guest: it is in the form of the branch. -EPROTO or -ENOMEM with a sentence. */
int gmemi_fc_read(const char *text, uint32_t most, struct gmemi_fc_region **regions, uint32_t *count, bool *guest);
/* Writes one: *text is the caller's, to be freed, and has no end mark. */
int gmemi_fc_write(enum gmemi_fc_form form, const struct gmemi_fc_region *regions, uint32_t count, char **text, size_t *length);

#endif
