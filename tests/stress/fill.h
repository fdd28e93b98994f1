/* SPDX-License-Identifier: MIT */
/* Putting parts of the image into the memory, in all the ways there are. */
#ifndef FILL_H
#define FILL_H

#include "../live/feed.h"
#include "stress.h"

/* A way by chance: the kind of input, threads, mechanism, with zeros or without; in small chunks, so that there are many
 * steps of all threads at the same time. */
struct feed fill_feed(const struct arena *a, enum feed_from *from, uint64_t *seed);
/* What goes wrong the crew is told. */
void fill_some_way(struct crew *crew, struct arena *a, const struct range *range, uint64_t *seed);

#endif
