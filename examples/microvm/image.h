/* SPDX-License-Identifier: MIT */
/* The memory image: a regular file. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

struct image {
	const char *path;
	int fd;
	uint64_t length; /* bytes, never 0 */
};

/* Both tell what went wrong on stderr and return -1. */
int image_open(struct image *image, const char *path);
/* Checksum of the file as read() delivers it, the last word padded with zeros. Guest memory plays no part in it. */
int image_checksum(const struct image *image, uint64_t *checksum);

/* image->fd may be -1. */
void image_close(struct image *image);

#endif
