/* SPDX-License-Identifier: MIT */
#include "fill.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "err.h"
#include "range.h"
#include "sys.h"
#include "uapi/mman.h"
#include "vm_chain.h"

#define MUCH (UINT64_C(16) << 20) /* bytes, which mincore() takes longer over than one cachestat() */

static struct gmemi_wish wish_of(const struct gmemi_fill *fill)
{
	return (struct gmemi_wish){ .need = fill->mem->need,
				    .backing = gmemi_memory_shared_backing(fill->mem),
				    .forced = fill->forced,
				    .splices = fill->splices,
				    .mappable = gmemi_memory_mappable(fill->mem) };
}

/* The next mechanism behind the present one, or the first. */
static int pick(struct gmemi_fill *fill)
{
	struct gmemi_wish wish = wish_of(fill);

	const struct gmemi_chain_row *next = gmemi_chain_pick(fill->mem->vm, GMEM_TASK_POPULATE, &wish, fill->row);

	if (!next)
		return gmemi_chain_refuse(fill->mem->vm, GMEM_TASK_POPULATE, &wish);
	fill->row = next;
	return 0;
}

/* No copy through a buffer: the best, for those who can use it. */
static bool pick_splice(struct gmemi_fill *fill)
{
	struct gmemi_wish wish = wish_of(fill);

	wish.forced = GMEM_MECH_SPLICE;
	fill->row = gmemi_chain_pick(fill->mem->vm, GMEM_TASK_POPULATE, &wish, NULL);
	return fill->row;
}

/* Somebody who has the same open file can make it append, and then nothing would be where it belongs. Memory of the
 * library's own is sealed against growing: there it is an error of the write. */
static int check_flags(const struct gmem *mem)
{
	int flags = mem->imported ? gmemi_sys_open_flags(gmemi_memory_shared_fd(mem)) : 0;

	if (flags < 0)
		return gmemi_failed(flags, "asking for the flags of the memory's file", NULL);
	return flags & O_APPEND ? gmemi_refuse(-EBADFD, "somebody has set O_APPEND on the file of this memory") : 0;
}

int gmemi_fill_begin(struct gmemi_fill *fill, struct gmem *mem, enum gmem_mechanism forced, bool splices)
{
	int r = check_flags(mem);

	*fill = (struct gmemi_fill){ .mem = mem, .forced = forced, .splices = splices };
	if (r < 0)
		return r;
	return splices && !forced && pick_splice(fill) ? 0 : pick(fill);
}

enum gmem_mechanism gmemi_fill_mechanism(const struct gmemi_fill *fill)
{
	return fill->row->mechanism;
}

/* A full-page write neither clears the page first nor maps it. */
static int put_by_write(struct gmem *mem, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	while (*done < length) {
		int64_t r = gmemi_sys_pwrite(gmemi_memory_shared_fd(mem), data + *done, (size_t)(length - *done), offset + *done);

		if (r <= 0)
			return gmemi_failed(r < 0 ? (int)r : -EIO, "pwrite() to the memory", NULL);
		*done += (uint64_t)r;
	}
	return 0;
}

/* A signal makes a memfd give back all that the call allocated: smaller and smaller pieces get done between two signals. */
static int allocate(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t piece = length;

	while (length) {
		uint64_t size = gmemi_min(piece, length);
		int r = gmemi_sys_fallocate(gmemi_memory_shared_fd(mem), FALLOC_FL_KEEP_SIZE, offset, size);

		if (r == -EINTR && size > mem->page_size)
			piece = gmemi_round_down(size / 2, mem->page_size);
		if (r < 0 && r != -EINTR)
			return gmemi_failed(r, "fallocate() of the memory", "out of memory, or of free huge pages?");
		if (r == 0) {
			offset += size;
			length -= size;
		}
	}
	return 0;
}

/* What a userfaultfd may watch is only touched: a page that fallocate() made first would raise no event, and be zeros. */
static bool touching_allocates(struct gmem *mem, const struct gmemi_mapping *m)
{
	return mem->need & GMEM_NEED_LAZY && !m->alias && gmemi_vm_has(mem->vm, GMEM_FEATURE_MADV_POPULATE);
}

int gmemi_fill_prepare_mapped(struct gmem *mem, const struct gmemi_mapping *m, uint64_t offset, uint64_t length)
{
	uint64_t first = gmemi_round_down(offset, mem->page_size);
	uint64_t size = gmemi_round_down(offset + length - first + mem->page_size - 1, mem->page_size);
	int r = touching_allocates(mem, m) ? 0 : allocate(mem, first, size);

	if (r < 0)
		return r;
	if (mem->need & GMEM_NEED_HIDDEN || !gmemi_vm_has(mem->vm, GMEM_FEATURE_MADV_POPULATE))
		return 0; /* the kernel cannot reach hidden pages to populate them: the copy touches what is allocated */
	r = gmemi_sys_advise(gmemi_mapping_at(m, first), size, MMANI_MADV_POPULATE_WRITE);
	return r < 0 ? gmemi_failed(r, "madvise(MADV_POPULATE_WRITE)",
				    "a private or poisoned page, a file cut short, a changed mapping, or out of memory?")
		     : 0;
}

int gmemi_fill_prepare(struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_mapping *m;
	int r;

	if (!gmemi_memory_mappable(mem))
		return allocate(mem, offset, length);
	while (length) {
		uint64_t size;

		r = gmemi_mapping_hold_some(mem, offset, length, &m);
		if (r < 0)
			return r;
		size = gmemi_min(length, m->offset + m->length - offset);
		r = gmemi_fill_prepare_mapped(mem, m, offset, size);
		gmemi_mapping_drop(mem, m);
		if (r < 0)
			return r;
		offset += size;
		length -= size;
	}
	return 0;
}

/* Through a mapping that a userfaultfd watches, whoever fills pages for it would wait for itself. */
static int hold_to_fill(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **m)
{
	return mem->need & GMEM_NEED_LAZY ? gmemi_mapping_hold_alias(mem, offset, length, m)
					  : gmemi_mapping_hold_some(mem, offset, length, m);
}

static int put_by_mapping(struct gmem *mem, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	while (*done < length) {
		uint64_t at = offset + *done, size;
		struct gmemi_mapping *m;
		int r = hold_to_fill(mem, at, length - *done, &m);

		if (r < 0)
			return r;
		size = gmemi_min(length - *done, m->offset + m->length - at);
		r = gmemi_fill_prepare_mapped(mem, m, at, size);
		if (r == 0)
			memcpy(gmemi_mapping_at(m, at), data + *done, (size_t)size);
		gmemi_mapping_drop(mem, m);
		if (r < 0)
			return r;
		*done += size;
	}
	return 0;
}

static bool is_whole(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	return gmemi_aligned(offset | length, mem->page_size);
}

/* guest_memfd's write() takes whole pages only: the ends of a range that has none go through the mapping. */
static int put_parts(struct gmem *mem, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	if (gmemi_memory_mappable(mem))
		return put_by_mapping(mem, offset, data, length, done);
	return gmemi_refuse(-EINVAL, "this memory cannot be mapped: it takes whole pages only");
}

/* Pages out of the direct map that are there already say EEXIST on one branch (Firecracker's kernel). *by_row: write() itself
 * failed. */
static int put_to_guest_memfd(struct gmem *mem, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done,
			      bool *by_row)
{
	int r;

	*by_row = false;
	if (!is_whole(mem, offset, length))
		return put_parts(mem, offset, data, length, done);
	r = put_by_write(mem, offset, data, length, done);
	if (r == -EEXIST && gmemi_memory_mappable(mem)) {
		gmemi_tolerated();
		return put_by_mapping(mem, offset, data, length, done);
	}
	*by_row = true;
	return r;
}

/* *by_row: a failure is that of the row's own mechanism. */
static int put(struct gmemi_fill *fill, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done, bool *by_row)
{
	struct gmem *mem = fill->mem;

	*by_row = true;
	if (fill->row->mechanism == GMEM_MECH_MAPPING)
		return put_by_mapping(mem, offset, data, length, done);
	if (gmemi_memory_shared_backing(mem) != GMEM_BACKING_GUEST_MEMFD)
		return put_by_write(mem, offset, data, length, done);
	return put_to_guest_memfd(mem, offset, data, length, done, by_row);
}

int gmemi_fill_demote(struct gmemi_fill *fill, int error)
{
	/* What the file of an imported memory can do was decided by whoever made it, and tells nothing of others. */
	if (fill->mem->imported && !fill->forced && gmemi_chain_means_absent(fill->row, error))
		gmemi_tolerated();
	else if (fill->mem->imported || !gmemi_chain_demote(fill->mem->vm, fill->row, error))
		return error;
	if (fill->row->mechanism == GMEM_MECH_SPLICE)
		fill->row = NULL; /* it came first, out of its turn */
	return pick(fill);
}

int gmemi_fill_unsplice(struct gmemi_fill *fill, int error)
{
	if (fill->forced)
		return error;
	gmemi_tolerated();
	fill->splices = false;
	fill->row = NULL; /* it came first, out of its turn */
	return pick(fill);
}

int gmemi_fill_put(struct gmemi_fill *fill, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	*done = 0;
	for (;;) {
		bool by_row;
		int r = put(fill, offset, data, length, done, &by_row);

		if (r < 0 && by_row)
			r = gmemi_fill_demote(fill, r);
		else if (r == 0 || !by_row)
			return r;
		if (r < 0)
			return r;
	}
}

/* One question, which is quick where there is nothing. Asked about more and more, so that no answer costs more than it tells. */
static bool has_nothing(struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t pages;

	return gmemi_sys_cached(gmemi_memory_shared_fd(mem), offset, length, &pages) == 0 && pages == 0;
}

static bool run_in_guest_memfd(struct gmem *mem, uint64_t offset, uint64_t *length, bool *there)
{
	uint64_t most = *length;

	*there = false;
	*length = gmemi_min(most, MUCH);
	if (most > MUCH && has_nothing(mem, offset, *length)) {
		while (*length < most && has_nothing(mem, offset, gmemi_min(most, *length * 2)))
			*length = gmemi_min(most, *length * 2);
		return true;
	}
	/* What mincore() does not show has never been written: it is zeros. */
	return gmemi_memory_mappable(mem) && gmemi_run_by_mincore(mem, offset, length, there);
}

/* As far as pages from offset on are alike in the file. False = the kernel does not say. */
static bool run_in_file(struct gmem *mem, uint64_t offset, uint64_t *length, bool *there)
{
	switch (gmemi_memory_shared_backing(mem)) {
	case GMEM_BACKING_MEMFD: /* lseek() looks as far as there is data, whatever is asked for: all of that is worth knowing */
		*length = mem->length - offset;
		return gmemi_run_by_seek(gmemi_memory_shared_fd(mem), mem->page_size, offset, length, there);
	case GMEM_BACKING_GUEST_MEMFD:
		return run_in_guest_memfd(mem, offset, length, there);
	default: /* hugetlbfs tells nothing */
		return false;
	}
}

uint64_t gmemi_fill_extent(struct gmem *mem, uint64_t offset, uint64_t length, bool *absent, struct gmemi_known *known)
{
	uint64_t run = length;
	bool there = true;

	*absent = false;
	if (gmemi_range_contains(known->offset, known->length, offset, 1))
		return gmemi_min(length, known->offset + known->length - offset);
	if (!run_in_file(mem, offset, &run, &there))
		return length;
	*absent = !there;
	if (there)
		*known = (struct gmemi_known){ offset, run };
	return gmemi_min(length, run);
}
