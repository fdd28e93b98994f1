/* SPDX-License-Identifier: MIT */
/* Floor 4: where the bytes of a populate call come from: a buffer, a file that can seek, or a stream. */
#ifndef GMEMI_POPULATE_INPUT_H
#define GMEMI_POPULATE_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gmemi_input {
	const unsigned char *data; /* buffer: what is next; NULL = an fd */
	int fd;
	bool seeks;
	uint64_t position;     /* in a file that seeks */
	int64_t before;	       /* of a file, which may have holes: its own offset, put back at the end; else -1 */
	int failure;	       /* of a read after some bytes: comes next */
	unsigned char *buffer; /* what was read from the fd */
	void *memory;	       /* that the buffer is in */
	size_t room;
};

void gmemi_input_from_buffer(struct gmemi_input *input, const void *data);
/* room bytes at most are read at a time. */
int gmemi_input_from_fd(struct gmemi_input *input, int fd, uint64_t fd_offset, size_t room);
void gmemi_input_end(struct gmemi_input *input);

/* How many of the next `length` bytes lie in a hole of the file. */
uint64_t gmemi_input_hole(struct gmemi_input *input, uint64_t length);
/* The next bytes, at most `length`: how many, 0 at the end of the input, or a negative errno. Valid until the next call. */
int64_t gmemi_input_next(struct gmemi_input *input, uint64_t length, const unsigned char **data);
/* Passes over bytes that gmemi_input_hole() told of. */
void gmemi_input_skip(struct gmemi_input *input, uint64_t length);

#endif
