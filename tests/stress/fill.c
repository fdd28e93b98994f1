/* SPDX-License-Identifier: MIT */
#include "fill.h"

#include "../live/content.h"

static enum gmem_mechanism some_mechanism(const struct arena *a, enum feed_from from, bool keep_zeros, uint64_t *seed)
{
	bool can_write = a->backing == GMEM_BACKING_MEMFD;
	bool can_splice = can_write && !a->lazy && keep_zeros && (from == FEED_FILE || from == FEED_PIPE);

	if (STRESS_WATCHED && a->contested) /* a race on purpose, out of sight in the kernel */
		return GMEM_MECH_WRITE;
	switch (content_random(seed) % 4) {
	case 0:
		return GMEM_MECH_MAPPING;
	case 1:
		return can_write ? GMEM_MECH_WRITE : GMEM_MECH_NONE;
	case 2:
		return can_splice ? GMEM_MECH_SPLICE : GMEM_MECH_NONE;
	default:
		return GMEM_MECH_NONE;
	}
}

struct feed fill_feed(const struct arena *a, enum feed_from *from, uint64_t *seed)
{
	struct feed f = { .content = a->image, .file = a->file, .opts = { .size = sizeof(f.opts) } };
	bool keep_zeros = content_random(seed) % 3 == 0;

	*from = (enum feed_from)(content_random(seed) % FEED_WAYS);
	f.opts.flags = keep_zeros ? GMEM_POPULATE_KEEP_ZEROS : 0;
	f.opts.threads = (uint32_t)(content_random(seed) % 4);
	f.opts.chunk = a->page << content_random(seed) % 9;
	f.opts.mechanism = some_mechanism(a, *from, keep_zeros, seed);
	return f;
}

void fill_some_way(struct crew *crew, struct arena *a, const struct range *range, uint64_t *seed)
{
	enum feed_from from;
	struct feed f = fill_feed(a, &from, seed);
	uint64_t done;
	int r = feed(a->mem, &f, from, range->offset, range->length, &done);

	if (r || done != range->length)
		crew_failed(crew, "populate of 0x%llx at 0x%llx: %d, 0x%llx done (%s)", (unsigned long long)range->length,
			    (unsigned long long)range->offset, r, (unsigned long long)done, gmem_last_error());
}
