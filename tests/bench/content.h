/* SPDX-License-Identifier: MIT */
/* What goes into memory: a buffer, and a file in the page cache. Every word of it can be told from where it is. */
#ifndef CONTENT_H
#define CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_BLOCK ((size_t)64 << 10)

enum pattern {
	PATTERN_DENSE, /* no page of zeros */
	PATTERN_HALF   /* every second block is zeros: written ones in the buffer, holes in the file */
};

struct content {
	enum pattern pattern;
	size_t size;
	unsigned char *bytes; /* NULL = no buffer */
	int fd;               /* -1 = no file */
};

/* What stands at an offset, a multiple of 8, of dense content. */
uint64_t content_word(size_t offset);

void content_begin(struct content *content, enum pattern pattern, size_t size);
void content_make_buffer(struct content *content);
void content_make_file(struct content *content);
void content_end(struct content *content);

/* Reads the file once, so that the page cache has it. */
void content_warm(const struct content *content);
/* Zeros of the file as holes, or as pages that are there: reading a hole through a mapping makes it one of these, which is not
 * what a copy shall be charged with. */
void content_punch_holes(const struct content *content);
void content_fill_holes(const struct content *content);
/* Looks at a sample of `at`. */
bool content_is(const struct content *content, const unsigned char *at);

#endif
