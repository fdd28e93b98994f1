/* SPDX-License-Identifier: MIT */
#include "content.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trap.h"

#define SAMPLE_STEP ((size_t)1020 << 10) /* not a multiple of the block: both kinds of block are looked at */
#define WORDS (CONTENT_BLOCK / sizeof(uint64_t))

/* Never 0. */
static uint64_t word_at(uint64_t index)
{
	uint64_t x = index * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
	return x | 1;
}

static bool is_zero_block(const struct content *content, size_t offset)
{
	return content->pattern == PATTERN_HALF && (offset / CONTENT_BLOCK) % 2;
}

static void make_block(uint64_t *block, size_t offset)
{
	for (size_t i = 0; i < WORDS; i++)
		block[i] = word_at(offset / sizeof(uint64_t) + i);
}

uint64_t content_word(size_t offset)
{
	return word_at(offset / sizeof(uint64_t));
}

void content_begin(struct content *content, enum pattern pattern, size_t size)
{
	*content = (struct content){ .pattern = pattern, .size = size, .fd = -1 };
}

void content_make_buffer(struct content *content)
{
	content->bytes = mmap(NULL, content->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (content->bytes == MAP_FAILED) {
		content->bytes = NULL;
		give_up("no memory for the content");
	}
	for (size_t at = 0; at < content->size; at += CONTENT_BLOCK)
		if (is_zero_block(content, at))
			memset(content->bytes + at, 0, CONTENT_BLOCK); /* the zeros are there, as in a buffer that was filled */
		else
			make_block((uint64_t *)(void *)(content->bytes + at), at);
}

void content_make_file(struct content *content)
{
	uint64_t block[WORDS];

	content->fd = memfd_create("bench-content", MFD_CLOEXEC);
	must_errno(content->fd, "memfd_create()");
	must_errno(ftruncate(content->fd, (off_t)content->size), "ftruncate()");
	for (size_t at = 0; at < content->size; at += CONTENT_BLOCK) {
		if (is_zero_block(content, at))
			continue;
		make_block(block, at);
		if (pwrite(content->fd, block, CONTENT_BLOCK, (off_t)at) != (ssize_t)CONTENT_BLOCK)
			give_up("the content's file cannot be written");
	}
}

void content_end(struct content *content)
{
	if (content->bytes)
		munmap(content->bytes, content->size);
	if (content->fd >= 0)
		close(content->fd);
	content_begin(content, content->pattern, 0);
}

void content_punch_holes(const struct content *content)
{
	for (size_t at = 0; at < content->size; at += CONTENT_BLOCK)
		if (is_zero_block(content, at))
			must_errno(fallocate(content->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, CONTENT_BLOCK),
				   "making a hole in the content");
}

void content_fill_holes(const struct content *content)
{
	static const unsigned char zeros[CONTENT_BLOCK];

	for (size_t at = 0; at < content->size; at += CONTENT_BLOCK)
		if (is_zero_block(content, at))
			must_errno(pwrite(content->fd, zeros, sizeof(zeros), (off_t)at), "filling a hole of the content");
}

void content_warm(const struct content *content)
{
	static unsigned char buffer[4 * CONTENT_BLOCK];

	for (size_t at = 0; content->fd >= 0 && at < content->size; at += sizeof(buffer))
		must_errno(pread(content->fd, buffer, sizeof(buffer), (off_t)at), "reading the content's file");
}

bool content_is(const struct content *content, const unsigned char *at)
{
	for (size_t i = 0; i + sizeof(uint64_t) <= content->size; i += SAMPLE_STEP) {
		uint64_t wanted = is_zero_block(content, i) ? 0 : word_at(i / sizeof(uint64_t)), found;

		memcpy(&found, at + i, sizeof(found));
		if (found != wanted)
			return false;
	}
	return true;
}
