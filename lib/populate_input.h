/* SPDX-License-Identifier: MIT */
/* Floor 4: where the bytes of a populate call come from: a buffer, a file that can seek, a stream, or a source. */
#ifndef GMEMI_POPULATE_INPUT_H
#define GMEMI_POPULATE_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "populate_late.h"

enum gmemi_input_kind { GMEMI_INPUT_BUFFER, GMEMI_INPUT_FILE, GMEMI_INPUT_STREAM, GMEMI_INPUT_SOURCE };

/* One for each call, shared by its threads, which do not change it. Where there is a position, byte n of the call is at
 * base + n. */
struct gmemi_input {
	enum gmemi_input_kind kind;
	const unsigned char *data; /* buffer */
	struct gmem_source *source;
	struct gmemi_late *late; /* of a source that may answer LATER */
	int fd;
	bool pipe;	/* a stream that is one */
	bool blocks;	/* a file that was opened O_DIRECT: whole blocks, at whole blocks */
	uint64_t base;	/* in a file or source */
	uint64_t size;	/* of a file when the call began, 0 = not known */
	int64_t before; /* of a regular file, which may have holes: its own offset, put back at the end; else -1 */
};

/* One for each thread: what it has read. */
struct gmemi_reader {
	const struct gmemi_input *input;
	unsigned char *buffer;
	void *memory; /* that the buffer is in, and the one for what comes late: NULL until it is needed */
	size_t room;
	struct gmemi_wanted wanted;
	int failure; /* of a read after some bytes: comes next */
};

void gmemi_input_from_buffer(struct gmemi_input *input, const void *data);
int gmemi_input_from_fd(struct gmemi_input *input, int fd, uint64_t fd_offset);
int gmemi_input_from_source(struct gmemi_input *input, struct gmem_source *source, uint64_t source_offset, uint64_t length);
void gmemi_input_end(struct gmemi_input *input);

/* How many of the `length` bytes from byte `at` of the call on are zeros that need not be read, or a negative errno. */
int64_t gmemi_input_hole(const struct gmemi_input *input, uint64_t at, uint64_t length);

/* room bytes at most are read at a time. */
void gmemi_reader_begin(struct gmemi_reader *reader, const struct gmemi_input *input, size_t room);
void gmemi_reader_end(struct gmemi_reader *reader);
/* The bytes from byte `at` of the call on, at most `length`: how many, 0 at the end of the input, or a negative errno.
 * Valid until the next call. A stream gives what is next, whatever `at` is. */
int64_t gmemi_reader_next(struct gmemi_reader *reader, uint64_t at, uint64_t length, const unsigned char **data);

#endif
