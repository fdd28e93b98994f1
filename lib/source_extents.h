/* SPDX-License-Identifier: MIT */
/* Floor 3: the table behind a source of files. It does not change once it is made. */
#ifndef GMEMI_SOURCE_EXTENTS_H
#define GMEMI_SOURCE_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

struct gmem_extent;

struct gmemi_extent_file {
	int fd;
	bool holes;	/* it may have some */
	bool in_memory; /* reading it waits for no device, whatever it says */
	uint64_t size;
};

struct gmemi_extent {
	uint64_t offset, length, position;
	uint32_t file;
	int32_t given; /* the fd that the program gave */
};

struct gmemi_extents {
	struct gmemi_extent *parts; /* in order */
	uint32_t count;
	struct gmemi_extent_file *files;
	uint32_t open;
};

/* Checks and copies; the fds are duplicated. On failure nothing is left. */
int gmemi_extents_begin(struct gmemi_extents *extents, const struct gmem_extent *given, uint32_t count);
void gmemi_extents_end(struct gmemi_extents *extents);
/* The first that ends behind offset; `count` = none. */
uint32_t gmemi_extents_find(const struct gmemi_extents *extents, uint64_t offset);

#endif
