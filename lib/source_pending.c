/* SPDX-License-Identifier: MIT */
#include "source_pending.h"

#include "alloc.h"
#include "err.h"
#include "range.h"

static void put_spare(struct gmemi_pendings *set, struct gmemi_pending *range)
{
	range->next = set->spare;
	set->spare = range;
}

int gmemi_pendings_reserve(struct gmemi_pendings *set, unsigned int count)
{
	for (const struct gmemi_pending *spare = set->spare; spare && count; spare = spare->next)
		count--;
	for (; count; count--) {
		struct gmemi_pending *more = gmemi_alloc(1, sizeof(*more));

		if (!more)
			return -ENOMEM;
		put_spare(set, more);
	}
	return 0;
}

/* Reserved before. */
static void put_range(struct gmemi_pendings *set, struct gmemi_pending **where, struct gmemi_pending what)
{
	struct gmemi_pending *range = set->spare;

	set->spare = range->next;
	what.next = *where;
	*range = what;
	*where = range;
}

int gmemi_pendings_add(struct gmemi_pendings *set, uint32_t tag, uint64_t offset, uint64_t length, uint64_t *id)
{
	int r = gmemi_pendings_reserve(set, 1);

	if (r < 0)
		return r;
	put_range(set, &set->first, (struct gmemi_pending){ .offset = offset, .length = length, .id = ++set->ids, .tag = tag });
	if (id)
		*id = set->ids;
	return 0;
}

static void remove_at(struct gmemi_pendings *set, struct gmemi_pending **link)
{
	struct gmemi_pending *range = *link;

	*link = range->next;
	put_spare(set, range);
}

void gmemi_pendings_forget(struct gmemi_pendings *set, uint64_t id)
{
	struct gmemi_pending **link = &set->first;

	while (*link)
		if ((*link)->id == id)
			remove_at(set, link);
		else
			link = &(*link)->next;
}

static bool is_met(const struct gmemi_pending *range, uint32_t tag, uint64_t offset, uint64_t length)
{
	return (tag == GMEMI_ANY_TAG || range->tag == tag) &&
	       gmemi_range_overlaps(range->offset, range->length, offset, length);
}

bool gmemi_pendings_next(const struct gmemi_pendings *set, uint32_t tag, uint64_t at, uint64_t end, uint64_t *offset,
			 uint64_t *length)
{
	bool found = false;

	for (const struct gmemi_pending *range = set->first; range && at < end; range = range->next) {
		uint64_t first = range->offset > at ? range->offset : at;

		if (!is_met(range, tag, at, end - at) || (found && first >= *offset))
			continue;
		found = true;
		*offset = first;
		*length = gmemi_min(range->offset + range->length, end) - first;
	}
	return found;
}

/* What is left of a range before and behind. */
static void rest_of(const struct gmemi_pending *range, uint64_t offset, uint64_t length, uint64_t *before, uint64_t *behind)
{
	uint64_t range_end = range->offset + range->length, end = offset + length;

	*before = offset > range->offset ? offset - range->offset : 0;
	*behind = range_end > end ? range_end - end : 0;
}

static unsigned int will_split(const struct gmemi_pendings *set, uint32_t tag, uint64_t offset, uint64_t length)
{
	unsigned int count = 0;

	for (const struct gmemi_pending *range = set->first; range; range = range->next) {
		uint64_t before, behind;

		rest_of(range, offset, length, &before, &behind);
		count += is_met(range, tag, offset, length) && before && behind;
	}
	return count;
}

/* Returns where to go on. */
static struct gmemi_pending **cut_one(struct gmemi_pendings *set, struct gmemi_pending **link, uint64_t offset, uint64_t length)
{
	struct gmemi_pending *range = *link, last = *range;
	uint64_t before, behind;

	rest_of(range, offset, length, &before, &behind);
	last.offset = offset + length;
	last.length = behind;
	if (!before && !behind) {
		remove_at(set, link);
		return link;
	}
	if (!before) {
		*range = last;
	} else {
		range->length = before;
		if (behind)
			put_range(set, &range->next, last);
	}
	return before && behind ? &range->next->next : &range->next;
}

int gmemi_pendings_cut(struct gmemi_pendings *set, uint32_t tag, uint64_t offset, uint64_t length)
{
	struct gmemi_pending **link = &set->first;
	int r = gmemi_pendings_reserve(set, will_split(set, tag, offset, length) + 1);

	while (r == 0 && *link)
		if (is_met(*link, tag, offset, length))
			link = cut_one(set, link, offset, length);
		else
			link = &(*link)->next;
	return r;
}

void gmemi_pendings_clear(struct gmemi_pendings *set)
{
	while (set->first)
		remove_at(set, &set->first);
}

void gmemi_pendings_end(struct gmemi_pendings *set)
{
	gmemi_pendings_clear(set);
	while (set->spare) {
		struct gmemi_pending *range = set->spare;

		set->spare = range->next;
		gmemi_free(range);
	}
}
