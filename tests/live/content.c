/* SPDX-License-Identifier: MIT */
#include "content.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gt.h"

#define PAGE 4096u

uint64_t content_seed(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = (uint64_t)time(NULL) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)getpid();

	if (given)
		seed = strtoull(given, NULL, 0);
	if (seed == 0)
		seed = 1;
	printf("  SEED=0x%llx\n", (unsigned long long)seed);
	return seed;
}

uint64_t content_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void random_page(unsigned char *page, uint64_t *seed)
{
	for (size_t i = 0; i < PAGE; i += sizeof(uint64_t)) {
		uint64_t word = content_random(seed);

		memcpy(page + i, &word, sizeof(word));
	}
}

/* A run of pages of one sort; returns how many. */
static size_t run(unsigned char *at, size_t room, uint64_t *seed)
{
	uint64_t dice = content_random(seed);
	size_t pages = 1 + (dice >> 8) % 200;

	if (pages > room)
		pages = room;
	switch (dice % 6) {
	case 0: /* a long run of zeros, which were there already */
		return pages;
	case 1:
		return 1;
	case 2:
		at[0] = 1;
		return 1;
	case 3:
		at[PAGE - 1] = 0x80;
		return 1;
	default:
		for (size_t i = 0; i < pages; i++)
			random_page(at + i * PAGE, seed);
		return pages;
	}
}

/* Watching every access for races is slow, and more memory has no more races in it. */
#ifdef __SANITIZE_THREAD__
#define MIB_AS_A_RULE 8
#else
#define MIB_AS_A_RULE 64
#endif

size_t content_length(void)
{
	const char *wish = getenv("CONTENT_MIB");
	unsigned long mib = wish ? strtoul(wish, NULL, 10) : MIB_AS_A_RULE;

	assert_true(mib > 0 && mib <= CONTENT_MOST >> 20);
	return (size_t)mib << 20;
}

unsigned char *content_make(size_t length, uint64_t *seed)
{
	static unsigned char content[CONTENT_MOST];
	size_t pages = length / PAGE;

	assert_true(length <= CONTENT_MOST && length % PAGE == 0);
	memset(content, 0, length);
	for (size_t page = 0; page < pages;)
		page += run(content + page * PAGE, pages - page, seed);
	return content;
}

static bool is_zero(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

int content_file(const unsigned char *content, size_t length, uint64_t *seed)
{
	int fd = memfd_create("content", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)length), 0);
	for (size_t at = 0; at < length; at += PAGE) {
		if (is_zero(content + at) && content_random(seed) & 1)
			continue;
		assert_int_equal(pwrite(fd, content + at, PAGE, (off_t)at), PAGE);
	}
	return fd;
}
