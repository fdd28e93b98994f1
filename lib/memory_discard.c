/* SPDX-License-Identifier: MIT */
/* Freeing pages. */
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"
#include "vm_chain.h"

#define PIECE (UINT64_C(256) << 20) /* what is done between two looks at `done`: a multiple of every page size but 1 GiB */
#define PIECES 1024 /* no more, but of memory with a page map, where those who store there, a pager too, wait for the end */
#define MAPPED_PIECE (UINT64_C(8) << 20) /* ... of a piece of this size, which takes a millisecond or two */

struct discard {
	struct gmem *mem;
	enum gmemi_page_state mark;
	const struct gmemi_chain_row *row;
};

/* What was freed stays freed: asking again ends. */
static int punch_hole(int fd, uint64_t offset, uint64_t length)
{
	int r;

	do
		r = gmemi_sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
	while (r == -EINTR);
	return r;
}

static int punch(int fd, uint64_t offset, uint64_t length)
{
	int r = punch_hole(fd, offset, length);

	return r < 0 ? gmemi_failed(r, "fallocate(PUNCH_HOLE)", r == -EPERM ? "is the file sealed against writing?" : NULL) : 0;
}

int gmemi_memory_punch(struct gmem *mem, uint64_t offset, uint64_t length)
{
	return punch(gmemi_memory_shared_fd(mem), offset, length);
}

static int punch_both(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	int r = punch(mem->fd, offset, length);

	return r == 0 && mem->shared_fd >= 0 ? punch(mem->shared_fd, offset, length) : r;
}

/* Through mappings, as far as each reaches. */
static int remove_mapped(struct gmem *mem, uint64_t offset, uint64_t length)
{
	while (length) {
		struct gmemi_mapping *m;
		uint64_t size;
		int r = gmemi_mapping_hold_some(mem, offset, length, &m);

		if (r < 0)
			return r;
		size = gmemi_min(length, m->offset + m->length - offset);
		r = gmemi_sys_advise(gmemi_mapping_at(m, offset), size, MADV_REMOVE);
		gmemi_mapping_drop(mem, m);
		if (r < 0)
			return gmemi_failed(r, "madvise(MADV_REMOVE)", NULL);
		offset += size;
		length -= size;
	}
	return 0;
}

static struct gmemi_wish wish_of(const struct gmem *mem)
{
	return (struct gmemi_wish){ .need = mem->need, .backing = gmemi_memory_shared_backing(mem) };
}

static int pick(struct discard *d)
{
	struct gmemi_wish wish = wish_of(d->mem);
	const struct gmemi_chain_row *next = gmemi_chain_pick(d->mem->vm, GMEM_TASK_DISCARD, &wish, d->row);

	if (!next)
		return gmemi_chain_refuse(d->mem->vm, GMEM_TASK_DISCARD, &wish);
	d->row = next;
	return 0;
}

static int free_pages(struct discard *d, uint64_t offset, uint64_t length)
{
	for (;;) {
		int r = d->row->mechanism == GMEM_MECH_PUNCH_HOLE ? punch_both(d->mem, offset, length)
								   : remove_mapped(d->mem, offset, length);

		if (r == 0 || !gmemi_chain_demote(d->mem->vm, d->row, r))
			return r;
		r = pick(d);
		if (r < 0)
			return r;
	}
}

void gmemi_content_claim(struct gmem *mem, struct gmemi_claim *claim, uint64_t offset, uint64_t length)
{
	uint64_t first = gmemi_round_down(offset, mem->page_size);
	uint64_t end = gmemi_round_down(offset + length + mem->page_size - 1, mem->page_size);

	if (!mem->map)
		return;
	gmemi_claim_take(&mem->content, claim, first, end - first);
	gmemi_watch_settle(mem);
}

void gmemi_content_leave(struct gmem *mem, struct gmemi_claim *claim)
{
	if (mem->map)
		gmemi_claim_drop(&mem->content, claim);
}

/* To calls that are in the middle of a page. */
static void tell_lost(struct gmem *mem, uint64_t first, uint64_t count)
{
	gmemi_lock(&mem->lock);
	for (struct gmemi_begun *begun = mem->begun; begun; begun = begun->next)
		if (begun->page >= first && begun->page - first < count)
			begun->lost = true;
	gmemi_unlock(&mem->lock);
}

/* To who has asked a source for what was there before, and not stored it yet. */
static void note_refetch(struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_refetches *refetches = &mem->refetches;
	uint64_t number;

	gmemi_lock(&mem->lock);
	number = atomic_fetch_add(&refetches->count, 1);
	refetches->last[number % GMEMI_REFETCHES].offset = offset;
	refetches->last[number % GMEMI_REFETCHES].length = length;
	gmemi_unlock(&mem->lock);
}

static bool is_among(const struct gmemi_refetches *refetches, uint64_t age, uint64_t now, uint64_t offset, uint64_t length)
{
	bool found = now - age > GMEMI_REFETCHES;

	for (uint64_t i = age; !found && i < now; i++)
		found = gmemi_range_overlaps(refetches->last[i % GMEMI_REFETCHES].offset,
					     refetches->last[i % GMEMI_REFETCHES].length, offset, length);
	return found;
}

bool gmemi_content_is_stale(struct gmem *mem, uint64_t age, uint64_t offset, uint64_t length)
{
	bool stale;

	if (gmemi_content_age(mem) == age)
		return false;
	gmemi_lock(&mem->lock);
	stale = is_among(&mem->refetches, age, gmemi_content_age(mem), offset, length);
	gmemi_unlock(&mem->lock);
	return stale;
}

/* Marked before they are freed, and no populate call stores in between. */
static int discard_piece(struct discard *d, uint64_t offset, uint64_t length)
{
	struct gmem *mem = d->mem;
	uint64_t first = offset / mem->page_size, count = length / mem->page_size;
	struct gmemi_claim claim;
	int r;

	gmemi_content_claim(mem, &claim, offset, length);
	if (mem->map) {
		if (d->mark == GMEMI_PAGE_EMPTY)
			note_refetch(mem, offset, length);
		gmemi_pagemap_set(mem->map, first, count, d->mark);
		tell_lost(mem, first, count);
	}
	r = free_pages(d, offset, length);
	gmemi_content_leave(mem, &claim);
	return r;
}

static uint64_t piece_of(const struct gmem *mem, uint64_t length)
{
	uint64_t piece = mem->map ? MAPPED_PIECE : PIECE;
	uint64_t least = mem->page_size > piece ? mem->page_size : piece;

	return mem->map || length / PIECES < least ? least : gmemi_round_down(length / PIECES, least);
}

static int discard(struct discard *d, uint64_t offset, uint64_t length, uint64_t *done)
{
	uint64_t step = piece_of(d->mem, length);
	int r = pick(d);

	while (r == 0 && *done < length) {
		uint64_t size = gmemi_min(length - *done, step - (offset + *done) % step);

		r = discard_piece(d, offset + *done, size);
		if (r == 0)
			*done += size;
	}
	return r;
}

static int check(const struct gmem *mem, uint64_t offset, uint64_t length, uint64_t flags)
{
	int r = gmemi_opts_flags(flags, GMEM_DISCARD_REFETCH, "opts->flags");

	if (r == 0)
		r = gmemi_range_check(offset, length, mem->page_size, mem->length);
	if (r < 0)
		return r;
	if (flags & GMEM_DISCARD_REFETCH && !mem->map)
		return gmemi_refuse(-EOPNOTSUPP, "GMEM_DISCARD_REFETCH needs a page map: GMEM_NEED_LAZY at creation");
	return 0;
}

int gmem_discard(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done, const struct gmem_discard_opts *opts)
{
	struct gmem_discard_opts o;
	struct discard d = { .mem = mem };
	uint64_t so_far = 0;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check(mem, offset, length, o.flags);
	if (r == 0) {
		d.mark = o.flags & GMEM_DISCARD_REFETCH ? GMEMI_PAGE_EMPTY : GMEMI_PAGE_DISCARDED;
		r = discard(&d, offset, length, &so_far);
	}
	if (done)
		*done = so_far;
	return r;
}

void gmemi_memory_expose(struct gmem *mem)
{
	gmemi_lock(&mem->lock);
	mem->exposed = true;
	gmemi_unlock(&mem->lock);
}

bool gmemi_memory_exposed(struct gmem *mem)
{
	bool exposed;

	gmemi_lock(&mem->lock);
	exposed = mem->exposed;
	gmemi_unlock(&mem->lock);
	return exposed;
}

bool gmemi_memory_free_unseen(struct gmem *mem, uint64_t offset, uint64_t length)
{
	bool freed = false;

	gmemi_lock(&mem->lock);
	if (!mem->exposed)
		freed = punch_hole(gmemi_memory_shared_fd(mem), offset, length) == 0;
	gmemi_unlock(&mem->lock);
	return freed;
}
