/* SPDX-License-Identifier: MIT */
#include "populate_input.h"

#include <unistd.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "sys.h"

#define ALIGNMENT 4096 /* a file that was opened O_DIRECT wants the buffer so */

void gmemi_input_from_buffer(struct gmemi_input *input, const void *data)
{
	*input = (struct gmemi_input){ .data = data, .fd = -1, .before = -1 };
}

static int make_buffer(struct gmemi_input *input)
{
	uintptr_t start;

	input->memory = gmemi_alloc(1, input->room + ALIGNMENT);
	if (!input->memory)
		return -ENOMEM;
	start = (uintptr_t)input->memory + ALIGNMENT - 1;
	input->buffer = (unsigned char *)(start - start % ALIGNMENT);
	return 0;
}

/* Asking for holes moves the file offset, which is put back at the end. An opening of our own would not need that, but closing
 * it would drop the POSIX locks that the program has on the file. Only files have holes. */
static int prepare_holes(struct gmemi_input *input, int64_t where)
{
	int is_file = gmemi_sys_is_file(input->fd);

	if (is_file < 0)
		return gmemi_failed(is_file, "fstat() of the input", NULL);
	if (is_file)
		input->before = where;
	return 0;
}

/* A file of holes is never read: whether it could be is asked by reading nothing. */
static int check_readable(struct gmemi_input *input)
{
	int64_t r = input->seeks ? gmemi_sys_pread(input->fd, input->buffer, 0, input->position) : 0;

	return r < 0 ? gmemi_failed((int)r, "reading the input", NULL) : 0;
}

int gmemi_input_from_fd(struct gmemi_input *input, int fd, uint64_t fd_offset, size_t room)
{
	int64_t where = gmemi_sys_seek(fd, 0, SEEK_CUR);
	int r;

	*input = (struct gmemi_input){ .fd = fd, .seeks = where >= 0, .position = fd_offset, .before = -1, .room = room };
	if (where < 0 && where != -ESPIPE)
		return gmemi_failed((int)where, "lseek() on the input", NULL);
	if (input->seeks && fd_offset > INT64_MAX)
		return gmemi_refuse(-EINVAL, "fd_offset is beyond the end of any file");
	r = make_buffer(input);
	if (r == 0)
		r = check_readable(input);
	if (r == 0)
		r = prepare_holes(input, where);
	if (r < 0)
		gmemi_free(input->memory);
	return r;
}

void gmemi_input_end(struct gmemi_input *input)
{
	if (input->before >= 0)
		(void)gmemi_sys_seek(input->fd, (uint64_t)input->before, SEEK_SET); /* where it was: that cannot fail */
	gmemi_free(input->memory);
}

/* Files that know no holes say EINVAL; and past the last data (ENXIO) the end of the file has to be found by reading. */
uint64_t gmemi_input_hole(struct gmemi_input *input, uint64_t length)
{
	int64_t data;

	if (input->before < 0)
		return 0;
	data = gmemi_sys_seek(input->fd, input->position, SEEK_DATA);
	if (data == -ENXIO)
		data = gmemi_sys_seek(input->fd, 0, SEEK_END);
	return data <= (int64_t)input->position ? 0 : gmemi_min(length, (uint64_t)data - input->position);
}

void gmemi_input_skip(struct gmemi_input *input, uint64_t length)
{
	input->position += length;
}

static int64_t read_some(struct gmemi_input *input, size_t have, size_t want)
{
	if (input->seeks)
		return gmemi_sys_pread(input->fd, input->buffer + have, want - have, input->position + have);
	return gmemi_sys_read(input->fd, input->buffer + have, want - have);
}

/* Until there is as much as is wanted, so that pages stay whole. What was read before a failure counts: the failure comes
 * next. */
static int64_t read_all(struct gmemi_input *input, size_t want)
{
	size_t have = 0;
	int64_t r = input->failure;

	input->failure = 0;
	while (r >= 0 && have < want) {
		r = read_some(input, have, want);
		if (r == 0)
			break;
		if (r > 0)
			have += (size_t)r;
	}
	if (r < 0 && have == 0)
		return gmemi_failed((int)r, "reading the input", NULL);
	input->failure = r < 0 ? (int)r : 0;
	return (int64_t)have;
}

int64_t gmemi_input_next(struct gmemi_input *input, uint64_t length, const unsigned char **data)
{
	int64_t got;

	*data = input->data;
	if (input->data) {
		input->data += length;
		return (int64_t)length;
	}
	*data = input->buffer;
	got = read_all(input, (size_t)gmemi_min(length, input->room));
	if (got > 0)
		input->position += (uint64_t)got;
	return got;
}
