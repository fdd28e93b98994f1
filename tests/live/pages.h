/* SPDX-License-Identifier: MIT */
/* What the kernel says of the pages of a file, asked by hand: mincore() and cachestat() page by page. The library must say the
 * same. */
#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>
#include <stdint.h>

enum page { PAGE_ABSENT, PAGE_ALLOCATED, PAGE_INITIALISED };

/* Skips the test where cachestat() is missing. */
void pages_ask(int fd, size_t pages, enum page *answer);
/* How many pages of a range the file has; negative errno. */
int64_t pages_cached(int fd, uint64_t offset, uint64_t length);
/* mincore() of a fresh mapping. */
void pages_resident(int fd, size_t pages, unsigned char *vector);
/* A name for messages. */
const char *page_name(enum page page);

#endif
