/* SPDX-License-Identifier: MIT */
/* Floor 1, between the files of wire: what is in which message. */
#ifndef GMEMI_WIRE_TABLE_H
#define GMEMI_WIRE_TABLE_H

#include "wire.h"

/* A member, in the order of the bytes: where it is in its struct, how many bytes it has, and what it may be. */
struct gmemi_wire_field {
	const char *name;
	uint32_t offset, width;
	uint64_t least, most;
	bool or_none; /* ... or GMEMI_WIRE_NONE */
	bool fd;      /* the place of a fd among those of the message */
};

struct gmemi_wire_layout {
	const char *name;
	const struct gmemi_wire_field *fields;
	uint32_t count;
};

struct gmemi_wire_type_row {
	struct gmemi_wire_layout fixed, item;
	size_t item_struct; /* bytes of the C struct of an item */
};

/* NULL = a type that this version does not know. */
const struct gmemi_wire_type_row *gmemi_wire_row(uint32_t type);

#endif
