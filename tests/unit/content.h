/* SPDX-License-Identifier: MIT */
/* What a memory holds, against what it shall hold. Read by pread(), which leaves absent pages absent, where a look through a
 * mapping would allocate them. */
#ifndef UNIT_CONTENT_H
#define UNIT_CONTENT_H

#include <stdint.h>

#include <gmem/memory.h>

/* `length` times this byte; free()d by the caller. */
unsigned char *buffer(uint64_t length, int byte);
void assert_content(const struct gmem *mem, const unsigned char *model, uint64_t length);
/* Of a memory of `size` bytes: `length` of content at offset, and zeros around. */
void assert_only(const struct gmem *mem, uint64_t size, uint64_t offset, const unsigned char *content, uint64_t length);
/* Skips where tmpfs uses huge pages: there a page brings its neighbours with it. */
void want_small_pages(void);
/* Skips unless so many 2 MiB pages are free. */
void want_huge_pages(unsigned long count);
/* 2 MiB pages that mappings have been promised. */
unsigned long promised_huge_pages(void);

#endif
