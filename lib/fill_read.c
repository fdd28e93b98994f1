/* SPDX-License-Identifier: MIT */
/* Reading a file straight into the memory: no buffer, no second copy. */
#include "fill.h"

#include <string.h>

#include "err.h"
#include "range.h"
#include "sys.h"

bool gmemi_fill_is_zero(const unsigned char *page, uint64_t size)
{
	return page[0] == 0 && memcmp(page, page + 1, (size_t)size - 1) == 0;
}

/* Until there is all, or the file ends. */
static int read_to(unsigned char *to, uint64_t length, struct gmemi_fill_file *from, uint64_t *done)
{
	while (*done < length) {
		int64_t r = gmemi_sys_pread(from->fd, to + *done, (size_t)(length - *done), from->position + *done);

		from->failed = r < 0;
		if (r < 0)
			return gmemi_failed((int)r, "reading the input into the memory", NULL);
		if (r == 0)
			return 0;
		*done += (uint64_t)r;
	}
	return 0;
}

/* A mapping of the range, which is cut to what one mapping covers, with its pages in place. */
static int hold_prepared(struct gmem *mem, uint64_t offset, uint64_t *length, struct gmemi_mapping **mapping)
{
	int r = gmemi_mapping_hold_some(mem, offset, *length, mapping);

	if (r < 0)
		return r;
	*length = gmemi_min(*length, (*mapping)->offset + (*mapping)->length - offset);
	r = gmemi_fill_prepare_mapped(mem, *mapping, offset, *length);
	if (r < 0)
		gmemi_mapping_drop(mem, *mapping);
	return r;
}

int gmemi_fill_read(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from, uint64_t *done)
{
	struct gmemi_mapping *m;
	int r = hold_prepared(mem, offset, &length, &m);

	*done = 0;
	if (r < 0)
		return r;
	r = read_to(gmemi_mapping_at(m, offset), length, from, done);
	gmemi_mapping_drop(mem, m);
	return r;
}

/* Frees runs of pages of zeros. */
static uint64_t free_zeros(struct gmem *mem, const unsigned char *at, uint64_t offset, uint64_t length)
{
	uint64_t size = mem->page_size, freed = 0, run = 0;

	for (uint64_t i = 0; i <= length; i += size) {
		if (i < length && gmemi_fill_is_zero(at + i, size)) {
			run += size;
			continue;
		}
		if (run && gmemi_memory_free_unseen(mem, offset + i - run, run))
			freed += run;
		run = 0;
	}
	return freed;
}

int gmemi_fill_read_absent(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from,
			   uint64_t *done, uint64_t *freed)
{
	uint64_t whole;
	struct gmemi_mapping *m;
	int r = hold_prepared(mem, offset, &length, &m);

	*done = 0;
	*freed = 0;
	if (r < 0)
		return r;
	r = read_to(gmemi_mapping_at(m, offset), length, from, done);
	whole = gmemi_round_down(*done, mem->page_size);
	*freed = free_zeros(mem, gmemi_mapping_at(m, offset), offset, whole);
	if (*done < length) /* what was made ready for nothing, but for a page that was begun */
		(void)free_zeros(mem, gmemi_mapping_at(m, offset + whole), offset + whole, length - whole);
	gmemi_mapping_drop(mem, m);
	return r;
}
