/* SPDX-License-Identifier: MIT */
/* Floor 3: where content comes from. */
#ifndef GMEMI_SOURCE_H
#define GMEMI_SOURCE_H

#include <gmem/source.h>

/* A claim on it while a call uses it. -EINVAL for NULL. */
int gmemi_source_claim(struct gmem_source *source);
void gmemi_source_release(struct gmem_source *source);

/* GMEM_ANSWER_*, or a negative errno with a sentence: never anything else. */
int gmemi_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer);
/* The same, for as many bytes as *length says after: more than 0, and no more than before. */
int gmemi_source_extent(struct gmem_source *source, uint64_t offset, uint64_t *length);

#endif
