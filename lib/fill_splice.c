/* SPDX-License-Identifier: MIT */
/* splice(): pages go from a file or pipe to the memory's file inside the kernel. What they hold is not seen. */
#include "fill.h"

#include "err.h"
#include "range.h"
#include "sys.h"

/* A pipe's content to the memory: all of length, unless the pipe ends. */
static int drain(struct gmem *mem, uint64_t offset, uint64_t length, int pipe, uint64_t *done)
{
	while (*done < length) {
		uint64_t to = offset + *done;
		int64_t r = gmemi_sys_splice(pipe, NULL, gmemi_memory_shared_fd(mem), &to, (size_t)(length - *done));

		if (r < 0)
			return gmemi_failed((int)r, "splice() to the memory", NULL);
		if (r == 0)
			return 0;
		*done += (uint64_t)r;
	}
	return 0;
}

int gmemi_fill_splice_pipe(struct gmem *mem, uint64_t offset, uint64_t length, int pipe, uint64_t *done)
{
	*done = 0;
	return drain(mem, offset, length, pipe, done);
}

/* As much of a file as the pipe takes. */
static int64_t suck(struct gmemi_fill_file *from, uint64_t passed, uint64_t length, int pipe)
{
	uint64_t position = from->position + passed;
	int64_t r = gmemi_sys_splice(from->fd, &position, pipe, NULL, (size_t)length);

	from->failed = r < 0;
	return r < 0 ? gmemi_failed((int)r, "splice() from the input", NULL) : r;
}

/* What the pipe holds has to leave it, whatever signals come: the next piece must not find it there. */
static int drain_all(struct gmem *mem, uint64_t offset, uint64_t length, int pipe, uint64_t *done)
{
	int r;

	while ((r = drain(mem, offset, length, pipe, done)) == -EINTR)
		gmemi_tolerated();
	return r == 0 && *done < length ? gmemi_refuse(-EIO, "the pipe gave less than it took") : r;
}

int gmemi_fill_splice_file(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from,
			   const int pipe[2], uint64_t *done)
{
	*done = 0;
	while (*done < length) {
		int64_t taken = suck(from, *done, length - *done, pipe[1]);
		uint64_t stored = 0;
		int r;

		if (taken <= 0)
			return (int)taken;
		r = drain_all(mem, offset + *done, (uint64_t)taken, pipe[0], &stored);
		*done += stored;
		if (r < 0)
			return r;
	}
	return 0;
}
