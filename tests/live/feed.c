/* SPDX-License-Identifier: MIT */
#include "feed.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "gt.h"

#define PAGE 4096u

struct piece {
	const unsigned char *content;
	uint64_t length;
	int fd;
};

static void *write_all(void *arg)
{
	const struct piece *piece = arg;
	size_t done = 0;
	ssize_t r;

	while (done < piece->length) {
		r = write(piece->fd, piece->content + done, piece->length - done);
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	close(piece->fd);
	return NULL;
}

/* A reader that gives up early must not end the test. */
static pthread_t start_writer(struct piece *piece)
{
	sigset_t pipe, before;
	pthread_t thread;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &pipe, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_all, piece), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	return thread;
}

static int from_pipe(struct gmem *mem, const struct feed *feed, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct piece piece = { .content = feed->content + offset, .length = length };
	pthread_t thread;
	int ends[2], r;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	piece.fd = ends[1];
	thread = start_writer(&piece);
	r = gmem_populate_fd(mem, offset, length, ends[0], 0, done, &feed->opts);
	close(ends[0]);
	pthread_join(thread, NULL);
	return r;
}

/* Called in threads of the library: no assertions here. */
static int read_content(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	const struct feed *feed = user;
	const unsigned char *at = feed->content + offset;

	if (flags)
		return -EINVAL;
	if (offset / PAGE % 2 && at[0] == 0 && memcmp(at, at + 1, length - 1) == 0)
		return GMEM_ANSWER_ZERO;
	memcpy(buffer, at, length);
	return GMEM_ANSWER_DATA;
}

/* Knows of zeros page by page, and of some only. */
static int tell_extent(void *user, uint64_t offset, uint64_t *length)
{
	const struct feed *feed = user;
	uint64_t page = PAGE - offset % PAGE;

	*length = *length < page ? *length : page;
	for (uint64_t i = 0; i < *length; i++)
		if (feed->content[offset + i])
			return GMEM_ANSWER_DATA;
	return offset / PAGE % 4 ? GMEM_ANSWER_ZERO : GMEM_ANSWER_DATA;
}

static int from_source(struct gmem *mem, const struct feed *feed, uint64_t offset, uint64_t length, uint64_t *done)
{
	const struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_content, .extent = tell_extent };
	struct gmem_source *source;
	int r;

	assert_int_equal(gmem_source_create(&ops, (void *)(uintptr_t)feed, &source), 0);
	r = gmem_populate_source(mem, offset, length, source, offset, done, &feed->opts);
	gmem_source_destroy(source);
	return r;
}

int feed(struct gmem *mem, const struct feed *feed, enum feed_from from, uint64_t offset, uint64_t length, uint64_t *done)
{
	switch (from) {
	case FEED_FILE:
		return gmem_populate_fd(mem, offset, length, feed->file, offset, done, &feed->opts);
	case FEED_PIPE:
		return from_pipe(mem, feed, offset, length, done);
	case FEED_SOURCE:
		return from_source(mem, feed, offset, length, done);
	default:
		return gmem_populate(mem, offset, length, feed->content + offset, done, &feed->opts);
	}
}
