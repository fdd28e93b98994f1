/* SPDX-License-Identifier: MIT */
#include "source_extents.h"

#include <fcntl.h>
#include <unistd.h>

#include <gmem/source.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "sys.h"

/* --- sorting: no function of libc that allocates ---------------------------------------------------------------------- */

#define TMPFS_MAGIC 0x01021994 /* memfds too */

typedef uint64_t (*key_of)(const struct gmemi_extent *part);

static uint64_t by_offset(const struct gmemi_extent *part)
{
	return part->offset;
}

static uint64_t by_fd(const struct gmemi_extent *part)
{
	return (uint64_t)part->given;
}

static void swap(struct gmemi_extent *a, struct gmemi_extent *b)
{
	struct gmemi_extent kept = *a;

	*a = *b;
	*b = kept;
}

static void sift_down(struct gmemi_extent *heap, uint64_t root, uint64_t count, key_of key)
{
	for (uint64_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
		if (child + 1 < count && key(&heap[child]) < key(&heap[child + 1]))
			child++;
		if (key(&heap[root]) >= key(&heap[child]))
			return;
		swap(&heap[root], &heap[child]);
		root = child;
	}
}

/* A heap needs neither memory nor luck. */
static void sort(struct gmemi_extent *parts, uint64_t count, key_of key)
{
	for (uint64_t root = count / 2; root-- > 0;)
		sift_down(parts, root, count, key);
	for (uint64_t end = count; end-- > 1;) {
		swap(&parts[0], &parts[end]);
		sift_down(parts, 0, end, key);
	}
}

/* --- making ----------------------------------------------------------------------------------------------------------- */

static int check_given(const struct gmem_extent *given, uint32_t number)
{
	uint64_t most = (uint64_t)INT64_MAX;

	if (given->reserved)
		return gmemi_refuse(-EINVAL, "extents[%u].reserved is not 0", number);
	if (given->length > UINT64_MAX - given->offset)
		return gmemi_refuse(-EINVAL, "extents[%u] wraps around", number);
	if (given->file_offset > most || given->length > most - given->file_offset)
		return gmemi_refuse(-EINVAL, "extents[%u] is beyond the end of any file", number);
	if (given->fd < 0)
		return gmemi_refuse(-EBADF, "extents[%u].fd is %d", number, given->fd);
	return 0;
}

static int copy(struct gmemi_extents *extents, const struct gmem_extent *given, uint32_t count)
{
	extents->parts = gmemi_alloc(count, sizeof(*extents->parts));
	extents->files = extents->parts ? gmemi_alloc(count, sizeof(*extents->files)) : NULL;
	if (!extents->files)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		int r = check_given(&given[i], i);

		if (r < 0)
			return r;
		extents->parts[i] = (struct gmemi_extent){
			.offset = given[i].offset,
			.length = given[i].length,
			.position = given[i].file_offset,
			.given = given[i].fd,
		};
	}
	extents->count = count;
	return 0;
}

/* A device does not say by fstat() how large it is. */
static int size_of_device(struct gmemi_extent_file *file)
{
	int64_t before = gmemi_sys_seek(file->fd, 0, SEEK_CUR);
	int64_t end = before < 0 ? before : gmemi_sys_seek(file->fd, 0, SEEK_END);

	if (end >= 0)
		before = gmemi_sys_seek(file->fd, (uint64_t)before, SEEK_SET);
	if (end < 0 || before < 0)
		return gmemi_failed((int)(end < 0 ? end : before), "lseek() on the device of an extent", NULL);
	file->size = (uint64_t)end;
	return 0;
}

static int check_flags(const struct gmemi_extent_file *file, int given)
{
	int flags = gmemi_sys_open_flags(file->fd);
	int64_t r;

	if (flags < 0)
		return gmemi_failed(flags, "asking how the file of an extent was opened", NULL);
	if (flags & O_DIRECT)
		return gmemi_refuse(-EINVAL, "fd %d was opened O_DIRECT: content goes to buffers of any alignment", given);
	r = gmemi_sys_pread(file->fd, (unsigned char[1]){ 0 }, 0, 0);
	return r < 0 ? gmemi_failed((int)r, "reading the file of an extent", NULL) : 0;
}

static int look_at(struct gmemi_extent_file *file, int given)
{
	struct gmemi_file about;
	int r = gmemi_sys_describe(file->fd, &about);

	if (r < 0)
		return gmemi_failed(r, "fstat() of the file of an extent", NULL);
	if (about.type != GMEMI_FILE_REGULAR && about.type != GMEMI_FILE_BLOCK)
		return gmemi_refuse(-EINVAL, "fd %d is neither a regular file nor a block device", given);
	file->size = about.size;
	file->holes = about.type == GMEMI_FILE_REGULAR && about.allocated < about.size;
	file->in_memory = gmemi_sys_magic(file->fd) == TMPFS_MAGIC;
	r = check_flags(file, given);
	return r == 0 && about.type == GMEMI_FILE_BLOCK ? size_of_device(file) : r;
}

static int open_file(struct gmemi_extents *extents, int given)
{
	struct gmemi_extent_file *file = &extents->files[extents->open];

	file->fd = gmemi_sys_dup(given);
	if (file->fd < 0)
		return gmemi_failed(file->fd, "duplicating the fd of an extent", NULL);
	extents->open++;
	return look_at(file, given);
}

/* One duplicate for each fd, however many extents it has. */
static int open_files(struct gmemi_extents *extents)
{
	int given = -1, r = 0;

	sort(extents->parts, extents->count, by_fd);
	for (uint32_t i = 0; r == 0 && i < extents->count; i++) {
		struct gmemi_extent *part = &extents->parts[i];

		if (part->given != given)
			r = open_file(extents, part->given);
		given = part->given;
		part->file = extents->open - 1;
	}
	return r;
}

static int settle(struct gmemi_extents *extents, struct gmemi_extent *part)
{
	uint64_t size = extents->files[part->file].size;

	if (part->length)
		return 0;
	if (part->position >= size)
		return gmemi_refuse(-EINVAL, "the extent at 0x%llx begins at the end of its file or behind: fd %d has %llu",
				    (unsigned long long)part->offset, part->given, (unsigned long long)size);
	part->length = size - part->position;
	if (part->length > UINT64_MAX - part->offset)
		return gmemi_refuse(-EINVAL, "the extent at 0x%llx wraps around", (unsigned long long)part->offset);
	return 0;
}

static int put_in_order(struct gmemi_extents *extents)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < extents->count; i++)
		r = settle(extents, &extents->parts[i]);
	if (r < 0)
		return r;
	sort(extents->parts, extents->count, by_offset);
	for (uint32_t i = 1; i < extents->count; i++) {
		const struct gmemi_extent *a = &extents->parts[i - 1], *b = &extents->parts[i];

		if (b->offset - a->offset < a->length)
			return gmemi_refuse(-EINVAL, "the extents at 0x%llx and 0x%llx overlap", (unsigned long long)a->offset,
					    (unsigned long long)b->offset);
	}
	return 0;
}

int gmemi_extents_begin(struct gmemi_extents *extents, const struct gmem_extent *given, uint32_t count)
{
	int r;

	*extents = (struct gmemi_extents){ .parts = NULL };
	r = copy(extents, given, count);
	if (r == 0)
		r = open_files(extents);
	if (r == 0)
		r = put_in_order(extents);
	if (r < 0)
		gmemi_extents_end(extents);
	return r;
}

void gmemi_extents_end(struct gmemi_extents *extents)
{
	while (extents->open)
		gmemi_sys_close(extents->files[--extents->open].fd);
	gmemi_free(extents->files);
	gmemi_free(extents->parts);
}

uint32_t gmemi_extents_find(const struct gmemi_extents *extents, uint64_t offset)
{
	uint32_t low = 0, high = extents->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct gmemi_extent *part = &extents->parts[middle];

		if (part->offset <= offset && offset - part->offset >= part->length)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
