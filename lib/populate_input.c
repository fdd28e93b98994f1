/* SPDX-License-Identifier: MIT */
#include "populate_input.h"

#include <unistd.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "sys.h"

void gmemi_input_from_buffer(struct gmemi_input *input, const void *data)
{
	*input = (struct gmemi_input){ .data = data, .fd = -1 };
}

int gmemi_input_from_fd(struct gmemi_input *input, int fd, uint64_t fd_offset, size_t room)
{
	*input = (struct gmemi_input){ .fd = fd, .position = fd_offset, .room = room };
	input->before = gmemi_sys_seek(fd, 0, SEEK_CUR);
	input->seeks = input->before >= 0;
	if (!input->seeks && input->before != -ESPIPE)
		return gmemi_failed((int)input->before, "lseek() on the input", NULL);
	if (input->seeks && fd_offset > INT64_MAX)
		return gmemi_refuse(-EINVAL, "fd_offset is beyond the end of any file");
	input->buffer = gmemi_alloc(1, room);
	return input->buffer ? 0 : -ENOMEM;
}

void gmemi_input_end(struct gmemi_input *input)
{
	if (input->seeks)
		(void)gmemi_sys_seek(input->fd, (uint64_t)input->before, SEEK_SET); /* where it was: that cannot fail */
	gmemi_free(input->buffer);
}

/* Files that know no holes say EINVAL; and past the last data (ENXIO) the end of the file has to be found by reading. */
uint64_t gmemi_input_hole(struct gmemi_input *input, uint64_t length)
{
	int64_t data;

	if (!input->seeks)
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

/* Until there is as much as is wanted, so that pages stay whole; what was read before a failure counts, and the failure comes again. */
static int64_t read_all(struct gmemi_input *input, size_t want)
{
	size_t have = 0;

	while (have < want) {
		int64_t r = read_some(input, have, want);

		if (r < 0 && have == 0)
			return gmemi_failed((int)r, "reading the input", NULL);
		if (r <= 0)
			break;
		have += (size_t)r;
	}
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
