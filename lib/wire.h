/* SPDX-License-Identifier: MIT */
/* Floor 1: the library's own protocol between a VMM and its pager, from bytes to structs and back; docs/guide/protocol.md is
 * its specification. Knows no sockets, keeps nothing, allocates nothing. */
#ifndef GMEMI_WIRE_H
#define GMEMI_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEMI_WIRE_MAGIC UINT32_C(0x4d454d47) /* the bytes "GMEM" */
#define GMEMI_WIRE_VERSION 1
#define GMEMI_WIRE_HEADER 24  /* bytes before the body */
#define GMEMI_WIRE_PREFIX 16  /* bytes of the body that say how long its parts are */
#define GMEMI_WIRE_BODY 65536 /* bytes of a body, at most */
#define GMEMI_WIRE_FDS 8      /* that one message names, at most */
#define GMEMI_WIRE_ITEM 4096  /* bytes of an item, at most */
#define GMEMI_WIRE_TEXT 400
#define GMEMI_WIRE_MEMORIES 64 /* of an endpoint */
#define GMEMI_WIRE_LENGTH (UINT64_C(1) << 62)
#define GMEMI_WIRE_NONE UINT32_MAX       /* no memory, no fd */
#define GMEMI_WIRE_ESSENTIAL UINT32_C(1) /* of header flags: who does not know the type may not go on */

enum gmemi_wire_type {
	GMEMI_WIRE_HELLO = 1,
	GMEMI_WIRE_ENDPOINT = 2,
	GMEMI_WIRE_MEMORY = 3,
	GMEMI_WIRE_REGIONS = 4,
	GMEMI_WIRE_READY = 5,
	GMEMI_WIRE_REMOVE = 6,
	GMEMI_WIRE_HEARTBEAT = 7,
	GMEMI_WIRE_FAULT = 8,
	GMEMI_WIRE_FAULT_DONE = 9,
	GMEMI_WIRE_ASK_STATISTICS = 10,
	GMEMI_WIRE_STATISTICS = 11,
	GMEMI_WIRE_DETACH = 12,
	GMEMI_WIRE_RELEASE = 13,
	GMEMI_WIRE_ERROR = 14,
	GMEMI_WIRE_TYPES = 15 /* kept: 16 to 31 policies, 32 to 47 succession, 48 to 63 hand-over; from 0x8000 on: private */
};

enum gmemi_wire_role { GMEMI_WIRE_OWNER = 1, GMEMI_WIRE_PAGER = 2 };
enum gmemi_wire_strategy { GMEMI_WIRE_FILL = 1, GMEMI_WIRE_COPY = 2 };
enum gmemi_wire_code {
	GMEMI_WIRE_OK = 0,
	GMEMI_WIRE_BROKEN = 1, /* the peer broke the protocol */
	GMEMI_WIRE_LIMIT = 2,
	GMEMI_WIRE_UNSUPPORTED = 3,
	GMEMI_WIRE_DENIED = 4,
	GMEMI_WIRE_BUSY = 5,
	GMEMI_WIRE_GONE = 6,
	GMEMI_WIRE_SHORTAGE = 7,
	GMEMI_WIRE_FAILED = 8
};
enum gmemi_wire_what { /* is counted */
		       GMEMI_WIRE_FAULTS = 1,
		       GMEMI_WIRE_BYTES = 2,
		       GMEMI_WIRE_ZEROED = 3,
		       GMEMI_WIRE_POISONED = 4,
		       GMEMI_WIRE_REMAINING = 5,
		       GMEMI_WIRE_SOURCE_ERRORS = 6
};
#define GMEMI_WIRE_WRITE_PROTECT UINT32_C(1) /* of region flags: registered for it */

#define GMEMI_WIRE_WRITE UINT32_C(1) /* of a fault's flags */

struct gmemi_wire_hello {
	uint32_t version_least, version_most, role, reserved;
	uint64_t capabilities;
};
struct gmemi_wire_endpoint {
	uint32_t endpoint, uffd, memories, regions;
	uint64_t features, length;
};
struct gmemi_wire_memory {
	uint32_t endpoint, memory, file, map;
	uint64_t length, page_size;
};
struct gmemi_wire_regions {
	uint32_t endpoint, reserved;
};
struct gmemi_wire_region { /* an item of REGIONS */
	uint32_t memory, strategy, flags, reserved;
	uint64_t offset, length, hva, gpa, content, page_size;
};
struct gmemi_wire_range { /* an item of REMOVE */
	uint32_t memory, reserved;
	uint64_t offset, length;
};
struct gmemi_wire_heartbeat {
	uint64_t interval_ns;
};
struct gmemi_wire_fault {
	uint32_t endpoint, memory;
	uint64_t cookie, offset, length, gpa, flags;
	uint32_t vcpu, reserved;
};
struct gmemi_wire_fault_done {
	uint64_t cookie, offset, length;
	uint32_t code, reserved;
};
struct gmemi_wire_statistic { /* an item of STATISTICS */
	uint32_t what, reserved;
	uint64_t value;
};
struct gmemi_wire_end { /* READY, REMOVE, ASK_STATISTICS, STATISTICS, DETACH */
	uint32_t endpoint, code;
};
struct gmemi_wire_release {
	uint32_t endpoint, code;
	uint64_t pending;
};
struct gmemi_wire_error {
	uint32_t code, reserved;
	uint64_t about; /* number of the message that it answers, 0 = none */
};

struct gmemi_wire {
	uint16_t type, fds;
	uint32_t flags;
	uint64_t number;
	union {
		struct gmemi_wire_hello hello;
		struct gmemi_wire_endpoint endpoint;
		struct gmemi_wire_memory memory;
		struct gmemi_wire_regions regions;
		struct gmemi_wire_heartbeat heartbeat;
		struct gmemi_wire_fault fault;
		struct gmemi_wire_fault_done fault_done;
		struct gmemi_wire_end end;
		struct gmemi_wire_release release;
		struct gmemi_wire_error error;
	};
	/* To encode: an array of the structs of the type. Decoded: bytes, one by one for gmemi_wire_item(). */
	const void *items;
	uint32_t item_count, item_size; /* size: decoded only */
	const char *text;               /* printable ASCII without an end mark */
	uint32_t text_length;
};

/* How long the message that begins here is: 1 = *length bytes; 0 = that is not known yet; -EPROTO with a sentence. */
int gmemi_wire_length(const unsigned char *bytes, size_t have, size_t *length);
/* Decodes a message of this length; items and text point into the bytes. 1 = done; 0 = a type of a later version, to be
 * skipped: its header is filled in; -EPROTO with a sentence. */
int gmemi_wire_decode(const unsigned char *bytes, size_t length, struct gmemi_wire *wire);
/* An item of a decoded message, into the struct of its type: -EPROTO with a sentence. */
int gmemi_wire_item(const struct gmemi_wire *wire, uint32_t index, void *item);
/* How many bytes it takes, and the same written: `room` must be enough. Sizes beyond the limits, and texts that are not to be
 * printed, are cut. */
size_t gmemi_wire_size(const struct gmemi_wire *wire);
size_t gmemi_wire_encode(const struct gmemi_wire *wire, unsigned char *bytes, size_t room);
/* How many items of this type fit into one message. */
uint32_t gmemi_wire_items_per_message(enum gmemi_wire_type type);

#endif
