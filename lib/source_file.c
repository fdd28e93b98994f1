/* SPDX-License-Identifier: MIT */
/* A source of files. Read into the caller's buffer, never through a mapping: a file may get shorter at any time. */
#include <fcntl.h>
#include <unistd.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "source_extents.h"
#include "source_int.h"
#include "sys.h"

typedef int (*read_fn)(const struct gmemi_extent_file *file, unsigned char *buffer, uint64_t length, uint64_t position);

/* Extents that touch are one. */
static int covers(void *user, uint64_t offset, uint64_t *length)
{
	const struct gmemi_extents *extents = user;
	uint32_t i = gmemi_extents_find(extents, offset);
	const struct gmemi_extent *part = &extents->parts[i];
	uint64_t covered;

	if (i == extents->count)
		return -ENODATA;
	if (part->offset > offset) {
		*length = gmemi_min(*length, part->offset - offset);
		return -ENODATA;
	}
	covered = part->length - (offset - part->offset);
	while (covered < *length && ++i < extents->count && extents->parts[i].offset == offset + covered)
		covered += extents->parts[i].length;
	*length = gmemi_min(*length, covered);
	return GMEM_ANSWER_DATA;
}

/* All or nothing: whether all is there is known before anything is read. */
static int read_parts(const struct gmemi_extents *extents, uint64_t offset, uint64_t length, unsigned char *buffer,
		      read_fn read)
{
	uint32_t i = gmemi_extents_find(extents, offset);
	uint64_t there = length;
	int r = covers((void *)(uintptr_t)extents, offset, &there);

	if (r < 0 || there < length)
		return -ENODATA;
	while (r == 0 && length) {
		const struct gmemi_extent *part = &extents->parts[i++];
		uint64_t skipped = offset - part->offset, run = gmemi_min(length, part->length - skipped);

		r = read(&extents->files[part->file], buffer, run, part->position + skipped);
		offset += run;
		buffer += run;
		length -= run;
	}
	return r;
}

static int read_all(const struct gmemi_extent_file *file, unsigned char *buffer, uint64_t length, uint64_t position)
{
	while (length) {
		int64_t r = gmemi_sys_pread(file->fd, buffer, (size_t)length, position);

		if (r < 0)
			return gmemi_failed((int)r, "reading the file of an extent", NULL);
		if (r == 0)
			return gmemi_refuse(-EIO, "the file of an extent ends at byte %llu: has it been truncated?",
					    (unsigned long long)position);
		buffer += r;
		position += (uint64_t)r;
		length -= (uint64_t)r;
	}
	return 0;
}

static int read_file(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)flags;
	return read_parts(user, offset, length, buffer, read_all);
}

/* Whatever is wrong: who may wait will be told. tmpfs never waits for a device, but does not know how to say so. */
static int read_cached(const struct gmemi_extent_file *file, unsigned char *buffer, uint64_t length, uint64_t position)
{
	if (file->in_memory)
		return gmemi_sys_pread(file->fd, buffer, (size_t)length, position) == (int64_t)length ? 0 : -EAGAIN;
	return gmemi_sys_pread_now(file->fd, buffer, (size_t)length, position) == (int64_t)length ? 0 : -EAGAIN;
}

static int read_file_now(void *user, uint64_t offset, uint64_t length, void *buffer)
{
	return read_parts(user, offset, length, buffer, read_cached);
}

/* Past the last data: up to where the file ends, which is asked between two looks that find nothing, so that no data that
 * came meanwhile is taken for a hole. */
static int64_t hole_at_the_end(int fd, uint64_t position)
{
	struct gmemi_file about;
	int r = gmemi_sys_describe(fd, &about);

	if (r < 0 || gmemi_sys_seek(fd, position, SEEK_DATA) != -ENXIO)
		return -1;
	return (int64_t)about.size;
}

/* Cuts *length to what is like the first byte: in a hole, or not. Files that know no holes say EINVAL. */
static int look_for_holes(int fd, uint64_t position, uint64_t *length)
{
	int64_t next = gmemi_sys_seek(fd, position, SEEK_DATA);
	int answer = GMEM_ANSWER_ZERO;

	if (next == -ENXIO)
		next = hole_at_the_end(fd, position);
	if (next == (int64_t)position) {
		next = gmemi_sys_seek(fd, position, SEEK_HOLE);
		answer = GMEM_ANSWER_DATA;
	}
	if (next <= (int64_t)position)
		return GMEM_ANSWER_DATA;
	*length = gmemi_min(*length, (uint64_t)next - position);
	return answer;
}

static int extent_of_file(void *user, uint64_t offset, uint64_t *length)
{
	const struct gmemi_extents *extents = user;
	const struct gmemi_extent *part = &extents->parts[gmemi_extents_find(extents, offset)];
	uint64_t most = *length, skipped;

	if (covers(user, offset, length) < 0)
		return -ENODATA;
	skipped = offset - part->offset;
	if (!extents->files[part->file].holes)
		return GMEM_ANSWER_DATA;
	*length = gmemi_min(most, part->length - skipped); /* the next part has holes of its own */
	return look_for_holes(extents->files[part->file].fd, part->position + skipped, length);
}

/* A wish: what comes of it, nobody has to know. */
static void advise_file(void *user, uint64_t offset, uint64_t length)
{
	const struct gmemi_extents *extents = user;

	for (uint32_t i = gmemi_extents_find(extents, offset); i < extents->count; i++) {
		const struct gmemi_extent *part = &extents->parts[i];
		uint64_t first = offset > part->offset ? offset : part->offset, skipped = first - part->offset;

		if (first - offset >= length)
			return;
		(void)gmemi_sys_fadvise(extents->files[part->file].fd, part->position + skipped,
					gmemi_min(length - (first - offset), part->length - skipped), POSIX_FADV_WILLNEED);
	}
}

static void release_file(void *user)
{
	gmemi_extents_end(user);
	gmemi_free(user);
}

static int make(struct gmemi_extents *extents, const struct gmem_extent *given, uint32_t count, struct gmem_source **source)
{
	static const struct gmem_source_ops ops = {
		.read = read_file, .extent = extent_of_file, .release = release_file, .advise = advise_file
	};
	static const struct gmemi_source_kind kind = { .read_now = read_file_now, .covers = covers };
	int r = gmemi_extents_begin(extents, given, count);

	if (r < 0)
		return r;
	r = gmemi_source_make(&ops, &kind, extents, false, source);
	if (r < 0)
		gmemi_extents_end(extents);
	return r;
}

int gmem_source_create_file(const struct gmem_extent *extents, uint32_t count, struct gmem_source **source)
{
	struct gmemi_extents *made;
	int r;

	GMEMI_CALL();
	if (!extents || !source)
		return gmemi_refuse(-EINVAL, "%s is NULL", extents ? "source" : "extents");
	if (!count)
		return gmemi_refuse(-EINVAL, "count is 0");
	made = gmemi_alloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	r = make(made, extents, count, source);
	if (r < 0)
		gmemi_free(made);
	return r;
}
