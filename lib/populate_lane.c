/* SPDX-License-Identifier: MIT */
#include "populate_lane.h"

#include "bitmap.h"
#include "err.h"
#include "range.h"
#include "sys.h"

/* What goes through a buffer at a time. Of a file, measured: with 256 KiB allocating and mapping in small steps costs more
 * than the cache saves, with 2 MiB the cache has lost it. What others send or make comes sooner in smaller parts. */
#define FILE_BUFFER (UINT64_C(1) << 20)
#define OTHER_BUFFER (UINT64_C(256) << 10)

static struct gmem *memory_of(const struct gmemi_lane *lane)
{
	return lane->fill.mem;
}

/* --- the page map ----------------------------------------------------------------------------------------------------- */

/* Pages whose last byte has been stored since `from`. */
static void mark_filled(const struct gmemi_lane *lane, uint64_t from)
{
	struct gmem *mem = memory_of(lane);
	uint64_t size = mem->page_size, first = from / size, end = lane->at / size;

	gmemi_pagemap_set(mem->map, first, end - first, GMEMI_PAGE_FILLED);
	if (lane->at > from && lane->at % size) /* a page that was zeros for good and now has a few bytes is complete */
		gmemi_pagemap_change(mem->map, end, GMEMI_PAGE_DISCARDED, GMEMI_PAGE_FILLED);
}

/* Left absent: zeros, whatever a source may hold; but what somebody else has filled meanwhile stays so. */
static void mark_skipped(const struct gmemi_lane *lane, uint64_t length)
{
	struct gmem *mem = memory_of(lane);
	uint64_t first = lane->at / mem->page_size;
	struct gmemi_claim claim;

	if (!mem->map)
		return;
	gmemi_content_claim(mem, &claim, lane->at, length);
	for (uint64_t page = first; page < first + length / mem->page_size; page++)
		gmemi_pagemap_change(mem->map, page, GMEMI_PAGE_EMPTY, GMEMI_PAGE_DISCARDED);
	gmemi_content_leave(mem, &claim);
}

/* Whoever waits for these pages in a fault need wait no longer. */
static void tell_watch(const struct gmemi_lane *lane, uint64_t offset, uint64_t length)
{
	struct gmem *mem = memory_of(lane);
	uint64_t first = gmemi_round_down(offset, mem->page_size), end = gmemi_round_down(offset + length, mem->page_size);

	if (mem->map && first < end)
		gmemi_watch_tell_filled(mem, first, end - first);
}

/* A page that is stored in parts, with the content not locked in between: who frees it has to be able to tell. */
static void announce(struct gmemi_lane *lane)
{
	struct gmem *mem = memory_of(lane);

	if (!mem->map)
		return;
	lane->begun.page = UINT64_MAX;
	gmemi_lock(&mem->lock);
	lane->begun.next = mem->begun;
	mem->begun = &lane->begun;
	gmemi_unlock(&mem->lock);
}

static void retract(struct gmemi_lane *lane)
{
	struct gmem *mem = memory_of(lane);
	struct gmemi_begun **link = &mem->begun;

	if (!mem->map)
		return;
	gmemi_lock(&mem->lock);
	while (*link != &lane->begun)
		link = &(*link)->next;
	*link = lane->begun.next;
	gmemi_unlock(&mem->lock);
}

/* How much of what is next belongs to a page that was freed after its first part was stored. */
static uint64_t lost_part(const struct gmemi_lane *lane, uint64_t length)
{
	uint64_t size = memory_of(lane)->page_size;

	if (lane->begun.page != lane->at / size || !lane->begun.lost)
		return 0;
	return gmemi_min(length, size - lane->at % size);
}

static void remember_begun(struct gmemi_lane *lane)
{
	struct gmem *mem = memory_of(lane);
	uint64_t page = lane->at % mem->page_size ? lane->at / mem->page_size : UINT64_MAX;

	if (page == lane->begun.page)
		return;
	gmemi_lock(&mem->lock);
	lane->begun.page = page;
	lane->begun.lost = false;
	gmemi_unlock(&mem->lock);
}

/* --- content that is in a buffer -------------------------------------------------------------------------------------- */

static void skip(struct gmemi_lane *lane, uint64_t length)
{
	mark_skipped(lane, length);
	tell_watch(lane, lane->at, length);
	atomic_fetch_add(&memory_of(lane)->skipped, length);
	lane->skipped += length;
	lane->at += length;
}

static int store(struct gmemi_lane *lane, const unsigned char *data, uint64_t length)
{
	struct gmem *mem = memory_of(lane);
	uint64_t lost, from, done = 0;
	struct gmemi_claim claim;
	int r = 0;

	gmemi_content_claim(mem, &claim, lane->at, length);
	lost = mem->map ? lost_part(lane, length) : 0;
	lane->at += lost;
	from = lane->at;
	if (lost < length)
		r = gmemi_fill_put(&lane->fill, from, data + lost, length - lost, &done);
	lane->at += done;
	if (mem->map) {
		mark_filled(lane, from);
		remember_begun(lane);
	}
	gmemi_content_leave(mem, &claim);
	tell_watch(lane, from, done);
	atomic_fetch_add(&mem->populated, lost + done);
	return r;
}

/* Zeros, whole pages: left out where the file has nothing, written over what it has. */
static int store_zeros(struct gmemi_lane *lane, const unsigned char *data, uint64_t length)
{
	while (length) {
		bool absent;
		uint64_t part = gmemi_fill_extent(memory_of(lane), lane->at, length, &absent, &lane->known);
		int r = 0;

		if (absent)
			skip(lane, part);
		else
			r = store(lane, data, part);
		if (r < 0)
			return r;
		data += part;
		length -= part;
	}
	return 0;
}

#define PAGES_AT_ONCE 512

/* Whole pages, no more than PAGES_AT_ONCE: runs of content and runs of zeros. */
static int store_pages(struct gmemi_lane *lane, const unsigned char *data, uint64_t pages)
{
	uint64_t zero[GMEMI_BITMAP_WORDS(PAGES_AT_ONCE)] = { 0 }, size = memory_of(lane)->page_size;
	size_t page = 0;

	for (size_t i = 0; i < pages; i++)
		gmemi_bitmap_assign(zero, i, gmemi_fill_is_zero(data + i * size, size));
	while (page < pages) {
		size_t run = gmemi_bitmap_run(zero, page, (size_t)pages);
		bool zeros = gmemi_bitmap_test(zero, page);
		int r = zeros ? store_zeros(lane, data + page * size, run * size) : store(lane, data + page * size, run * size);

		if (r < 0)
			return r;
		page += run;
	}
	return 0;
}

/* How much of what is next can be dealt with in one way: whole pages, which may be zeros, or bytes, which are always
 * written. */
static uint64_t next_part(const struct gmemi_lane *lane, uint64_t length, bool *pages)
{
	uint64_t size = memory_of(lane)->page_size;
	uint64_t head = gmemi_min(length, size - lane->at % size);

	*pages = head == size && !lane->keep_zeros;
	if (*pages)
		return gmemi_min(length / size, PAGES_AT_ONCE) * size;
	return lane->keep_zeros ? length : head;
}

static int store_content(struct gmemi_lane *lane, const unsigned char *data, uint64_t length)
{
	while (length) {
		bool pages;
		uint64_t part = next_part(lane, length, &pages);
		int r = pages ? store_pages(lane, data, part / memory_of(lane)->page_size) : store(lane, data, part);

		if (r < 0)
			return r;
		data += part;
		length -= part;
	}
	return 0;
}

static int ended(const struct gmemi_lane *lane)
{
	return gmemi_refuse(-ENODATA, "the input ended after %llu bytes", (unsigned long long)(lane->at - lane->origin));
}

/* Ends with a page, so that a page which is zeros is seen as a whole, and what follows begins with one; or with a block. */
static uint64_t next_read(const struct gmemi_lane *lane, uint64_t left)
{
	uint64_t size = memory_of(lane)->page_size, room = lane->reader.room;

	if (lane->reader.input->kind == GMEMI_INPUT_BUFFER || lane->reader.input->blocks || size > room)
		return left;
	return gmemi_min(left, room - lane->at % size);
}

static int step_through_buffer(struct gmemi_lane *lane, uint64_t left)
{
	uint64_t skipped = lane->skipped;
	const unsigned char *data;
	int64_t got = gmemi_reader_next(&lane->reader, lane->at - lane->origin, next_read(lane, left), &data);
	int r;

	if (got < 0)
		return (int)got;
	if (got == 0)
		return ended(lane);
	r = store_content(lane, data, (uint64_t)got);
	lane->sparse = lane->skipped != skipped;
	return r;
}

/* --- content that no buffer sees -------------------------------------------------------------------------------------- */

static struct gmemi_fill_file file_of(const struct gmemi_lane *lane)
{
	const struct gmemi_input *input = lane->reader.input;

	return (struct gmemi_fill_file){ .fd = input->fd, .position = input->base + (lane->at - lane->origin) };
}

/* Where the file ends, as far as is known. */
static uint64_t in_file(const struct gmemi_lane *lane, uint64_t left)
{
	uint64_t position = file_of(lane).position, size = lane->reader.input->size;

	return position < size ? gmemi_min(left, size - position) : 0;
}

static void advance(struct gmemi_lane *lane, uint64_t done, uint64_t freed)
{
	lane->at += done;
	atomic_fetch_add(&memory_of(lane)->populated, done - freed);
	atomic_fetch_add(&memory_of(lane)->skipped, freed);
}

/* How much of what is next may be read straight into the memory; 0 = nothing. Whole pages, since a file that was opened
 * O_DIRECT wants them. Zeros that are to be left out must then be pages that are absent, of memory that nobody else
 * touches: they are allocated, read and freed again, which pays where there are few. Memory with a page map is filled
 * from a buffer, where a slow file holds no lock. */
static uint64_t straight(struct gmemi_lane *lane, uint64_t left, bool *absent)
{
	struct gmem *mem = memory_of(lane);
	uint64_t length = gmemi_round_down(in_file(lane, left), mem->page_size);
	bool buffered;

	*absent = false;
	if (lane->reader.input->kind != GMEMI_INPUT_FILE || gmemi_fill_mechanism(&lane->fill) != GMEM_MECH_MAPPING || mem->map)
		return 0;
	if (!gmemi_aligned(lane->at, mem->page_size) || !length)
		return 0;
	if (lane->keep_zeros)
		return length;
	buffered = lane->sparse || gmemi_memory_exposed(mem);
	if (buffered && mem->page_size < lane->reader.room)
		length = gmemi_min(length, lane->reader.room); /* further nothing comes of knowing */
	length = gmemi_fill_extent(mem, lane->at, length, absent, &lane->known);
	return *absent && buffered ? 0 : length;
}

/* *moved: false = the mechanism turned out absent, or the file ended: another way has to be taken. */
static int read_straight(struct gmemi_lane *lane, uint64_t length, bool absent, bool *moved)
{
	struct gmemi_fill_file from = file_of(lane);
	uint64_t done, freed = 0;
	int r;

	lane->reader.failure = 0; /* what failed is read again here */
	r = absent ? gmemi_fill_read_absent(memory_of(lane), lane->at, length, &from, &done, &freed)
		       : gmemi_fill_read(memory_of(lane), lane->at, length, &from, &done);

	advance(lane, done, freed);
	lane->sparse = freed > length / 8;
	*moved = done != 0;
	return r < 0 && !from.failed ? gmemi_fill_demote(&lane->fill, r) : r;
}

static int make_pipe(struct gmemi_lane *lane)
{
	int r = lane->pipe[0] >= 0 ? 0 : gmemi_sys_pipe(lane->pipe);

	if (r < 0) {
		lane->pipe[0] = -1;
		return gmemi_failed(r, "making a pipe", NULL);
	}
	return 0;
}

/* A file that cannot be spliced (many of /proc say EINVAL), or no fds for a pipe: nothing is wrong with the memory. */
static int splice_file(struct gmemi_lane *lane, uint64_t left, uint64_t *done)
{
	struct gmemi_fill_file from = file_of(lane);
	int r = make_pipe(lane);

	if (r < 0)
		return gmemi_fill_unsplice(&lane->fill, r);
	r = gmemi_fill_splice_file(memory_of(lane), lane->at, left, &from, lane->pipe, done);
	if (r == -EINVAL && from.failed)
		return gmemi_fill_unsplice(&lane->fill, r);
	return r < 0 ? gmemi_fill_demote(&lane->fill, r) : r;
}

static int splice_pipe(struct gmemi_lane *lane, uint64_t left, uint64_t *done)
{
	int r = gmemi_fill_splice_pipe(memory_of(lane), lane->at, left, file_of(lane).fd, done);

	return r < 0 ? gmemi_fill_demote(&lane->fill, r) : r;
}

static int step_by_splice(struct gmemi_lane *lane, uint64_t left)
{
	uint64_t done = 0;
	int r = lane->reader.input->pipe ? splice_pipe(lane, left, &done) : splice_file(lane, left, &done);

	advance(lane, done, 0);
	if (r < 0 || done || gmemi_fill_mechanism(&lane->fill) != GMEM_MECH_SPLICE)
		return r;
	return ended(lane);
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

/* Bytes that need neither be read nor written: a hole there, nothing here. */
static int64_t passable(struct gmemi_lane *lane, uint64_t left)
{
	struct gmem *mem = memory_of(lane);
	uint64_t part;
	bool absent;
	int64_t hole;

	if (lane->keep_zeros || !gmemi_aligned(lane->at, mem->page_size))
		return 0;
	hole = gmemi_input_hole(lane->reader.input, lane->at - lane->origin, left);
	if (hole < 0)
		return hole;
	hole = (int64_t)gmemi_round_down((uint64_t)hole, mem->page_size);
	if (!hole)
		return 0;
	part = gmemi_fill_extent(mem, lane->at, (uint64_t)hole, &absent, &lane->known);
	return absent ? (int64_t)part : 0;
}

static int step_over_data(struct gmemi_lane *lane, uint64_t left)
{
	bool absent, moved;
	uint64_t length;

	left = gmemi_min(left, lane->chunk - lane->at % lane->chunk);
	if (gmemi_fill_mechanism(&lane->fill) == GMEM_MECH_SPLICE)
		return step_by_splice(lane, left);
	length = straight(lane, left, &absent);
	if (length) {
		int r = read_straight(lane, length, absent, &moved);

		if (r < 0 || moved)
			return r;
	}
	return step_through_buffer(lane, left);
}

static int step(struct gmemi_lane *lane)
{
	uint64_t left = lane->end - lane->at;
	int64_t pass = passable(lane, left);

	if (pass < 0)
		return (int)pass;
	if (!pass)
		return step_over_data(lane, left);
	skip(lane, (uint64_t)pass);
	return 0;
}

int gmemi_lane_run(struct gmemi_lane *lane, uint64_t offset, uint64_t length, uint64_t *done)
{
	int r = 0;

	lane->at = offset;
	lane->end = offset + length;
	while (r == 0 && lane->at < lane->end)
		r = step(lane);
	*done = lane->at - offset;
	return r;
}

/* With a page map no: a slow input would hold off those who free pages. */
static bool can_splice(const struct gmem *mem, const struct gmemi_input *input, const struct gmem_populate_opts *opts)
{
	return opts->flags & GMEM_POPULATE_KEEP_ZEROS && (input->pipe || input->before >= 0) && !mem->map;
}

int gmemi_lane_begin(struct gmemi_lane *lane, struct gmem *mem, const struct gmemi_input *input, uint64_t origin,
		     const struct gmem_populate_opts *opts)
{
	uint64_t room = input->kind == GMEMI_INPUT_FILE ? FILE_BUFFER : OTHER_BUFFER;

	*lane = (struct gmemi_lane){ .origin = origin, .chunk = opts->chunk, .pipe = { -1, -1 } };
	lane->keep_zeros = opts->flags & GMEM_POPULATE_KEEP_ZEROS;
	lane->fill.mem = mem;
	announce(lane);
	gmemi_reader_begin(&lane->reader, input, (size_t)gmemi_min(opts->chunk, room));
	return gmemi_fill_begin(&lane->fill, mem, (enum gmem_mechanism)opts->mechanism, can_splice(mem, input, opts));
}

void gmemi_lane_end(struct gmemi_lane *lane)
{
	retract(lane);
	gmemi_reader_end(&lane->reader);
	if (lane->pipe[0] >= 0) {
		gmemi_sys_close(lane->pipe[0]);
		gmemi_sys_close(lane->pipe[1]);
	}
}
