/* SPDX-License-Identifier: MIT */
/* The protocol of docs/guide/protocol.md once more, written from that page alone and sharing nothing with the library: what one
 * misread, the other need not. Every member is a number here, by its place in the page's table. */
#ifndef UNIT_SECOND_WIRE_H
#define UNIT_SECOND_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum note_type {
	NOTE_HELLO = 1,
	NOTE_ENDPOINT,
	NOTE_MEMORY,
	NOTE_REGIONS,
	NOTE_READY,
	NOTE_REMOVE,
	NOTE_HEARTBEAT,
	NOTE_FAULT,
	NOTE_FAULT_DONE,
	NOTE_ASK_STATISTICS,
	NOTE_STATISTICS,
	NOTE_DETACH,
	NOTE_RELEASE,
	NOTE_ERROR,
	NOTE_TYPES
};

enum { HELLO_LEAST, HELLO_MOST, HELLO_ROLE, HELLO_RESERVED, HELLO_CAPABILITIES };
enum { ENDPOINT_NUMBER, ENDPOINT_UFFD, ENDPOINT_MEMORIES, ENDPOINT_REGIONS, ENDPOINT_FEATURES, ENDPOINT_LENGTH };
enum { MEMORY_ENDPOINT, MEMORY_NUMBER, MEMORY_FILE, MEMORY_MAP, MEMORY_LENGTH, MEMORY_PAGE_SIZE };
enum {
	REGION_MEMORY,
	REGION_STRATEGY,
	REGION_FLAGS,
	REGION_RESERVED,
	REGION_OFFSET,
	REGION_LENGTH,
	REGION_ADDRESS,
	REGION_GUEST,
	REGION_CONTENT,
	REGION_PAGE_SIZE
};
/* REGIONS, READY, REMOVE, ASK_STATISTICS, STATISTICS, DETACH and, with one more, RELEASE */
enum { OF_ENDPOINT, OF_CODE, RELEASE_PENDING };
enum { RANGE_MEMORY, RANGE_RESERVED, RANGE_OFFSET, RANGE_LENGTH };
enum {
	FAULT_ENDPOINT,
	FAULT_MEMORY,
	FAULT_COOKIE,
	FAULT_OFFSET,
	FAULT_LENGTH,
	FAULT_GUEST,
	FAULT_FLAGS,
	FAULT_VCPU,
	FAULT_RESERVED
};
enum { DONE_COOKIE, DONE_OFFSET, DONE_LENGTH, DONE_CODE, DONE_RESERVED };
enum { STATISTIC_WHAT, STATISTIC_RESERVED, STATISTIC_VALUE };
enum { ERROR_CODE, ERROR_RESERVED, ERROR_ABOUT };

#define NOTE_HEADER 24
#define NOTE_BODY 65536
#define NOTE_MOST (NOTE_HEADER + NOTE_BODY)
#define NOTE_FDS 8
#define NOTE_TEXT 400
#define NOTE_VALUES 10
#define NOTE_ITEMS 64 /* that are kept here; the protocol has more room */
#define NOTE_ESSENTIAL 1u
#define NONE UINT64_C(0xffffffff)
#define NO_ADDRESS UINT64_MAX

struct note {
	uint16_t type, fds;
	uint32_t flags;
	uint64_t number;
	uint64_t part[NOTE_VALUES]; /* the fixed one */
	uint64_t item[NOTE_ITEMS][NOTE_VALUES];
	uint32_t items;
	char text[NOTE_TEXT + 1];
	/* To write: how many bytes of a later version follow the fixed part, each item, and everything. */
	uint32_t later_part, later_item, later_body;
};

enum note_kind {
	NOTE_BROKEN, /* against the protocol */
	NOTE_SHORT,  /* not all of it is there yet */
	NOTE_LATER,  /* of a type that is not known: the header alone is read */
	NOTE_KNOWN
};

/* The message that begins here, and its length. */
enum note_kind note_read(const unsigned char *bytes, size_t have, struct note *note, size_t *length);
/* Returns the length; there is room for NOTE_MOST. Of a type that is not known the body has no more than later_body. */
size_t note_write(const struct note *note, unsigned char *bytes);
/* The bytes of what is known of the fixed part, and of an item: 0 = there is none. */
uint32_t note_part_size(unsigned int type);
uint32_t note_item_size(unsigned int type);

#endif
