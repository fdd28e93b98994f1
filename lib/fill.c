/* SPDX-License-Identifier: MIT */
#include "fill.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "err.h"
#include "range.h"
#include "sys.h"
#include "uapi/mman.h"
#include "vm_chain.h"

static struct gmemi_wish wish_of(const struct gmemi_fill *fill)
{
	return (struct gmemi_wish){ .need = fill->mem->need,
				    .backing = gmemi_memory_shared_backing(fill->mem),
				    .forced = fill->forced };
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

int gmemi_fill_begin(struct gmemi_fill *fill, struct gmem *mem, enum gmem_mechanism forced)
{
	*fill = (struct gmemi_fill){ .mem = mem, .forced = forced };
	return pick(fill);
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

/* Allocates, clears and maps in bulk; what cannot be had is an error here, where a touch would be SIGBUS. */
static int prepare(struct gmem *mem, const struct gmemi_mapping *m, uint64_t offset, uint64_t length)
{
	uint64_t first = gmemi_round_down(offset, mem->page_size);
	uint64_t size = gmemi_round_down(offset + length - first + mem->page_size - 1, mem->page_size);
	int r = allocate(mem, first, size);

	if (r < 0)
		return r;
	if (mem->need & GMEM_NEED_HIDDEN || !gmemi_vm_has(mem->vm, GMEM_FEATURE_MADV_POPULATE))
		return 0; /* the kernel cannot reach hidden pages to populate them: the copy touches what is allocated */
	r = gmemi_sys_advise(gmemi_mapping_at(m, first), size, MMANI_MADV_POPULATE_WRITE);
	return r < 0 ? gmemi_failed(r, "madvise(MADV_POPULATE_WRITE)", "private or poisoned pages, or out of memory?") : 0;
}

static int put_by_mapping(struct gmem *mem, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	while (*done < length) {
		uint64_t at = offset + *done, size;
		struct gmemi_mapping *m;
		int r = gmemi_mapping_hold_some(mem, at, length - *done, &m);

		if (r < 0)
			return r;
		size = gmemi_min(length - *done, m->offset + m->length - at);
		r = prepare(mem, m, at, size);
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

int gmemi_fill_put(struct gmemi_fill *fill, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done)
{
	*done = 0;
	for (;;) {
		bool by_row;
		int r = put(fill, offset, data, length, done, &by_row);

		if (r == 0 || !by_row || !gmemi_chain_demote(fill->mem->vm, fill->row, r))
			return r;
		r = pick(fill);
		if (r < 0)
			return r;
	}
}

/* SEEK_DATA knows pages in swap too, where mincore() does not. */
static uint64_t extent_by_seek(struct gmem *mem, uint64_t offset, uint64_t length, bool *absent)
{
	int fd = gmemi_memory_shared_fd(mem);
	int64_t data = gmemi_sys_seek(fd, offset, SEEK_DATA), hole;

	*absent = data == -ENXIO || data > (int64_t)offset;
	if (data == -ENXIO)
		return length;
	if (*absent)
		return gmemi_min(length, (uint64_t)data - offset);
	hole = data < 0 ? -1 : gmemi_sys_seek(fd, offset, SEEK_HOLE);
	return hole <= (int64_t)offset ? length : gmemi_min(length, (uint64_t)hole - offset);
}

#define PAGES_AT_ONCE 512

/* guest_memfd has no lseek() and no swap. Pages that mincore() does not show have never been written: they are zeros. */
static uint64_t extent_by_mincore(struct gmem *mem, uint64_t offset, uint64_t length, bool *absent)
{
	unsigned char present[PAGES_AT_ONCE];
	uint64_t pages = gmemi_min(length / mem->page_size, PAGES_AT_ONCE), n = 1;
	struct gmemi_mapping *m;
	int r;

	*absent = false;
	if (gmemi_mapping_hold_some(mem, offset, length, &m) < 0) {
		gmemi_tolerated();
		return length;
	}
	pages = gmemi_min(pages, (m->offset + m->length - offset) / mem->page_size);
	r = gmemi_sys_resident(gmemi_mapping_at(m, offset), pages * mem->page_size, present);
	gmemi_mapping_drop(mem, m);
	if (r < 0)
		return length;
	*absent = !(present[0] & 1);
	while (n < pages && ((present[n] ^ present[0]) & 1) == 0)
		n++;
	return n * mem->page_size;
}

uint64_t gmemi_fill_extent(struct gmemi_fill *fill, uint64_t offset, uint64_t length, bool *absent)
{
	struct gmem *mem = fill->mem;

	*absent = false;
	switch (gmemi_memory_shared_backing(mem)) {
	case GMEM_BACKING_MEMFD:
		return extent_by_seek(mem, offset, length, absent);
	case GMEM_BACKING_GUEST_MEMFD:
		return gmemi_memory_mappable(mem) ? extent_by_mincore(mem, offset, length, absent) : length;
	default: /* hugetlbfs tells nothing */
		return length;
	}
}
