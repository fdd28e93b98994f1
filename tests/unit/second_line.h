/* SPDX-License-Identifier: MIT */
/* One end of a socket on which second_wire.h is spoken, with descriptors. What goes wrong fails the test. */
#ifndef UNIT_SECOND_LINE_H
#define UNIT_SECOND_LINE_H

#include <stdbool.h>

#include "second_wire.h"

struct second {
	int socket;
	bool packets;
	uint64_t said, heard; /* messages */
	uint32_t later;	      /* bytes of a later version behind every part of what is said */
	unsigned char bytes[2 * NOTE_MOST];
	size_t have;
	int fds[64];
	unsigned int fd_count;
};

/* Takes the socket. */
struct second *second_make(int socket);
void second_end(struct second *second);
void second_say(struct second *second, const struct note *note, const int *fds);
/* A message of one endpoint with that alone in it. */
void second_say_of(struct second *second, enum note_type type, uint64_t endpoint);
/* Of a type that no version has yet, with this descriptor, -1 = none; the body is of no meaning. */
void second_say_unknown(struct second *second, uint16_t type, uint32_t body, int fd);
/* The next message that is known; its descriptors are the caller's. */
void second_hear(struct second *second, struct note *note, int fds[NOTE_FDS]);
/* ... which must be of this type, and have so many descriptors. */
void second_expect(struct second *second, enum note_type type, unsigned int count, struct note *note, int fds[NOTE_FDS]);
/* The peer says nothing any more. */
void second_expect_end(struct second *second);

#endif
