/* SPDX-License-Identifier: MIT */
#include "populate_input.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "source.h"
#include "sys.h"

#define ALIGNMENT 4096 /* of what a file that was opened O_DIRECT is asked for, and of the buffer */
#define SECTOR 512	/* what every such file gives, but at its end */

void gmemi_input_from_buffer(struct gmemi_input *input, const void *data)
{
	*input = (struct gmemi_input){ .kind = GMEMI_INPUT_BUFFER, .data = data, .fd = -1, .before = -1 };
}

/* A file of holes is never read: whether it could be is asked by reading nothing. */
static int check_readable(const struct gmemi_input *input)
{
	int64_t r = gmemi_sys_pread(input->fd, (unsigned char[1]){ 0 }, 0, input->base);

	return r < 0 ? gmemi_failed((int)r, "reading the input", NULL) : 0;
}

/* Asking for holes moves the file offset, which is put back at the end. An opening of our own would not need that, but
 * closing it would drop the POSIX locks that the program has on the file. Only files have holes. */
static int look_at(struct gmemi_input *input, int64_t where)
{
	struct gmemi_file about;
	int r = gmemi_sys_describe(input->fd, &about), flags;

	if (r < 0)
		return gmemi_failed(r, "fstat() of the input", NULL);
	flags = gmemi_sys_open_flags(input->fd);
	if (flags < 0)
		return gmemi_failed(flags, "asking how the input was opened", NULL);
	input->blocks = flags & O_DIRECT && input->kind == GMEMI_INPUT_FILE;
	input->pipe = about.type == GMEMI_FILE_PIPE;
	if (about.type == GMEMI_FILE_REGULAR) {
		input->before = where;
		input->size = about.size;
	}
	return 0;
}

int gmemi_input_from_fd(struct gmemi_input *input, int fd, uint64_t fd_offset)
{
	int64_t where = gmemi_sys_seek(fd, 0, SEEK_CUR);
	int r;

	*input = (struct gmemi_input){ .kind = GMEMI_INPUT_STREAM, .fd = fd, .before = -1 };
	if (where < 0 && where != -ESPIPE)
		return gmemi_failed((int)where, "lseek() on the input", NULL);
	if (where >= 0) {
		input->kind = GMEMI_INPUT_FILE;
		input->base = fd_offset;
		if (fd_offset > INT64_MAX)
			return gmemi_refuse(-EINVAL, "fd_offset is beyond the end of any file");
	}
	r = where >= 0 ? check_readable(input) : 0;
	return r < 0 ? r : look_at(input, where);
}

int gmemi_input_from_source(struct gmemi_input *input, struct gmem_source *source, uint64_t source_offset, uint64_t length)
{
	int r = gmemi_source_claim(source);

	if (r < 0)
		return r;
	*input = (struct gmemi_input){
		.kind = GMEMI_INPUT_SOURCE,
		.source = source,
		.fd = -1,
		.base = source_offset,
		.before = -1,
	};
	if (length > UINT64_MAX - source_offset)
		r = gmemi_refuse(-EINVAL, "source_offset + length wraps around");
	else if (gmemi_source_late(source))
		r = gmemi_late_begin(source, &input->late);
	if (r < 0)
		gmemi_source_release(source);
	return r;
}

void gmemi_input_end(struct gmemi_input *input)
{
	if (input->before >= 0)
		(void)gmemi_sys_seek(input->fd, (uint64_t)input->before, SEEK_SET); /* where it was: that cannot fail */
	if (input->kind != GMEMI_INPUT_SOURCE)
		return;
	gmemi_late_end(input->late);
	gmemi_source_release(input->source);
}

/* Past the last data: up to where the file ends, but no further than where it ended when the call began. What has come since
 * may be data that came after it was asked for. */
static int64_t hole_at_the_end(const struct gmemi_input *input)
{
	int64_t end = gmemi_sys_seek(input->fd, 0, SEEK_END);

	return end > (int64_t)input->size ? (int64_t)input->size : end;
}

/* Files that know no holes say EINVAL; and past the last data (ENXIO) the end of the file has to be found by reading. */
static uint64_t hole_in_file(const struct gmemi_input *input, uint64_t position, uint64_t length)
{
	int64_t data;

	if (position > INT64_MAX)
		return 0;
	data = gmemi_sys_seek(input->fd, position, SEEK_DATA);
	if (data == -ENXIO)
		data = hole_at_the_end(input);
	return data <= (int64_t)position ? 0 : gmemi_min(length, (uint64_t)data - position);
}

static int64_t hole_in_source(const struct gmemi_input *input, uint64_t position, uint64_t length)
{
	int r = gmemi_source_extent(input->source, position, &length);

	if (r < 0)
		return r;
	return r == GMEM_ANSWER_ZERO ? (int64_t)length : 0;
}

int64_t gmemi_input_hole(const struct gmemi_input *input, uint64_t at, uint64_t length)
{
	if (input->kind == GMEMI_INPUT_SOURCE)
		return hole_in_source(input, input->base + at, length);
	if (input->before < 0)
		return 0;
	return (int64_t)hole_in_file(input, input->base + at, length);
}

void gmemi_reader_begin(struct gmemi_reader *reader, const struct gmemi_input *input, size_t room)
{
	*reader = (struct gmemi_reader){ .input = input, .room = room };
}

void gmemi_reader_end(struct gmemi_reader *reader)
{
	gmemi_pendings_end(&reader->wanted.missing);
	gmemi_free(reader->memory);
}

static int make_buffer(struct gmemi_reader *reader)
{
	size_t late = reader->input->late ? reader->room : 0;
	uintptr_t start;

	if (reader->memory)
		return 0;
	reader->memory = gmemi_alloc(1, reader->room + 2 * ALIGNMENT + late); /* the buffer, and one block more */
	if (!reader->memory)
		return -ENOMEM;
	start = (uintptr_t)reader->memory + ALIGNMENT - 1;
	reader->buffer = (unsigned char *)(start - start % ALIGNMENT);
	reader->wanted.buffer = reader->buffer + reader->room + ALIGNMENT;
	return 0;
}

static int64_t read_some(const struct gmemi_reader *reader, uint64_t at, size_t have, size_t want)
{
	const struct gmemi_input *input = reader->input;

	if (input->kind == GMEMI_INPUT_FILE)
		return gmemi_sys_pread(input->fd, reader->buffer + have, want - have, input->base + at + have);
	return gmemi_sys_read(input->fd, reader->buffer + have, want - have);
}

/* Until there is as much as is wanted, so that pages stay whole. What was read before a failure counts: the failure comes
 * next. */
static int64_t read_all(struct gmemi_reader *reader, uint64_t at, size_t want)
{
	size_t have = 0;
	int64_t r = reader->failure;

	reader->failure = 0;
	while (r >= 0 && have < want) {
		r = read_some(reader, at, have, want);
		if (r == 0)
			break;
		if (r > 0)
			have += (size_t)r;
	}
	if (r < 0 && have == 0)
		return gmemi_failed((int)r, "reading the input", NULL);
	reader->failure = r < 0 ? (int)r : 0;
	return (int64_t)have;
}

/* The same of a file that gives whole blocks only: those that the wanted bytes lie in, of which *head are before them. Less
 * than a sector is its end, behind which it must not be asked. */
static int64_t read_blocks(struct gmemi_reader *reader, uint64_t at, size_t want, size_t *head)
{
	uint64_t position = reader->input->base + at, first = gmemi_round_down(position, ALIGNMENT);
	size_t have = 0, ask;
	int64_t r = 0;

	*head = (size_t)(position - first);
	ask = (size_t)gmemi_round_down(*head + want + ALIGNMENT - 1, ALIGNMENT);
	while (have < *head + want && have % SECTOR == 0) {
		r = gmemi_sys_pread(reader->input->fd, reader->buffer + have, ask - have, first + have);
		if (r <= 0)
			break;
		have += (size_t)r;
	}
	if (r < 0 && have <= *head)
		return gmemi_failed((int)r, "reading the input", NULL);
	return have > *head ? (int64_t)gmemi_min(have - *head, want) : 0;
}

/* A buffer that may be delivered to is not one that the source writes to. */
static int64_t ask_source(struct gmemi_reader *reader, uint64_t at, size_t want, const unsigned char **data)
{
	const struct gmemi_input *input = reader->input;
	int r;

	if (input->late)
		r = gmemi_late_read(input->late, &reader->wanted, input->base + at, want, reader->buffer);
	else
		r = gmemi_source_read(input->source, input->base + at, want, reader->buffer, 0);
	if (r == GMEM_ANSWER_ZERO)
		memset(reader->buffer, 0, want);
	*data = r == GMEM_ANSWER_LATER ? reader->wanted.buffer : reader->buffer;
	return r < 0 ? r : (int64_t)want;
}

int64_t gmemi_reader_next(struct gmemi_reader *reader, uint64_t at, uint64_t length, const unsigned char **data)
{
	size_t want = (size_t)gmemi_min(length, reader->room), head = 0;
	int64_t r;

	if (reader->input->kind == GMEMI_INPUT_BUFFER) {
		*data = reader->input->data + at;
		return (int64_t)length;
	}
	r = make_buffer(reader);
	if (r < 0)
		return r;
	if (reader->input->kind == GMEMI_INPUT_SOURCE)
		return ask_source(reader, at, want, data);
	r = reader->input->blocks ? read_blocks(reader, at, want, &head) : read_all(reader, at, want);
	*data = reader->buffer + head;
	return r;
}
