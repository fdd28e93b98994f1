/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "image.h"
#include "say.h"

#define CHUNK (1u << 20) /* bytes, a multiple of a word */

static int image_check(struct image *image)
{
	struct stat st;

	if (fstat(image->fd, &st))
		return fail("%s: %s", image->path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fail("%s: is a directory, not an image", image->path);
	if (!S_ISREG(st.st_mode))
		return fail("%s: not a regular file", image->path);
	if (st.st_size <= 0)
		return fail("%s: the image is empty", image->path);
	image->length = (uint64_t)st.st_size;
	return 0;
}

int image_open(struct image *image, const char *path)
{
	image->path = path;
	/* O_NONBLOCK: a FIFO is refused below, rather than waited for here. */
	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (image->fd < 0)
		return fail("%s: %s", path, strerror(errno));
	return image_check(image);
}

void image_close(struct image *image)
{
	if (image->fd >= 0 && close(image->fd))
		fail("%s: close: %s", image->path, strerror(errno));
	image->fd = -1;
}

static int read_all(const struct image *image, void *buffer, size_t length, uint64_t offset)
{
	size_t got = 0;

	while (got < length) {
		ssize_t n = pread(image->fd, (char *)buffer + got, length - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail("%s: read: %s", image->path, strerror(errno));
		if (n == 0)
			return fail("%s: became shorter while it was read", image->path);
		got += (size_t)n;
	}
	return 0;
}

static uint64_t words_of(uint64_t *words, size_t bytes)
{
	size_t count = (bytes + 7) / 8;

	memset((char *)words + bytes, 0, count * 8 - bytes);
	return count;
}

static int checksum_file(const struct image *image, uint64_t *words, uint64_t *checksum)
{
	uint64_t h = 0;

	for (uint64_t offset = 0; offset < image->length; offset += CHUNK) {
		uint64_t left = image->length - offset;
		size_t length = left < CHUNK ? (size_t)left : CHUNK;

		if (read_all(image, words, length, offset))
			return -1;
		h = checksum_words(h, words, words_of(words, length));
	}
	*checksum = h;
	return 0;
}

int image_checksum(const struct image *image, uint64_t *checksum)
{
	uint64_t *words = malloc(CHUNK);
	int result;

	if (!words)
		return fail("out of memory");
	result = checksum_file(image, words, checksum);
	free(words);
	return result;
}
