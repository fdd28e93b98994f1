/* SPDX-License-Identifier: MIT */
/* Floor 0: every allocation of the library, in one place so that each can be made to fail. */
#ifndef GMEMI_ALLOC_H
#define GMEMI_ALLOC_H

#include <stddef.h>

/* Zeroed memory for count elements of size bytes; NULL with a sentence (-ENOMEM) when there is none. */
void *gmemi_alloc(size_t count, size_t size);
void gmemi_free(void *memory);

#endif
