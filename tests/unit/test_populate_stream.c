/* SPDX-License-Identifier: MIT */
/* Populating from what cannot seek: pipes and sockets, that wait, end, and are interrupted; and from devices. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "handles.h"
#include "inject.h"

#define LENGTH ((uint64_t)1 << 20)

static struct gmem_vm *vm;
static struct gmem *mem;
static unsigned char *content; /* LENGTH of it */

static void set_up(void)
{
	make_vmless(&vm, &mem, LENGTH, NULL);
	content = malloc(LENGTH);
	assert_non_null(content);
	for (uint64_t i = 0; i < LENGTH; i++)
		content[i] = i / 8192 % 3 ? (unsigned char)(i % 253 + i / 4096) : 0;
}

static void tear_down(void)
{
	free(content);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static int populate(uint64_t offset, uint64_t length, int fd, uint64_t *done)
{
	*done = UINT64_MAX;
	return gmem_populate_fd(mem, offset, length, fd, 12345, done, NULL); /* no offset in what cannot seek */
}

/* ends[0] is read by the library. Flags as of pipe2(), which are those of sockets too. */
static void make_ends(bool socket, int flags, int ends[2])
{
	if (socket)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | flags, 0, ends), 0);
	else
		assert_int_equal(pipe2(ends, flags), 0);
}

static void close_ends(const int ends[2])
{
	close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
}

struct writer {
	int fd;
	uint64_t length, piece;
	int failed;
};

/* Writes the content in pieces of an odd size, and closes. */
static void *write_content(void *arg)
{
	struct writer *writer = arg;
	uint64_t at = 0;

	inject_exempt_thread(true);
	while (at < writer->length && !writer->failed) {
		uint64_t size = writer->length - at < writer->piece ? writer->length - at : writer->piece;
		ssize_t n = write(writer->fd, content + at, size);

		writer->failed = n <= 0;
		at += n > 0 ? (uint64_t)n : 0;
	}
	close(writer->fd);
	return NULL;
}

static void check_stream(bool socket, uint64_t offset, uint64_t sent, uint64_t wanted, uint64_t piece)
{
	struct writer writer = { .length = sent, .piece = piece };
	pthread_t thread;
	uint64_t done;
	int ends[2], r;

	set_up();
	make_ends(socket, O_CLOEXEC, ends);
	writer.fd = ends[1];
	assert_int_equal(pthread_create(&thread, NULL, write_content, &writer), 0);
	r = populate(offset, wanted, ends[0], &done);
	assert_int_equal(pthread_join(thread, NULL) | writer.failed, 0);
	assert_int_equal(r, sent < wanted ? -ENODATA : 0);
	assert_int_equal(done, sent < wanted ? sent : wanted);
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, done);
	assert_only(mem, LENGTH, offset, content, done);
	close(ends[0]);
	tear_down();
}

static void a_stream_comes_in_as_it_was_sent(void **state)
{
	static const uint64_t pieces[] = { 1001, 4096, 65537, LENGTH };

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		check_stream(i % 2, 0, LENGTH, LENGTH, pieces[i / 2]);
		check_stream(i % 2, 4097, LENGTH / 3, LENGTH / 3, pieces[i / 2]);
	}
}

static void the_end_of_a_stream_is_told_to_the_byte(void **state)
{
	static const uint64_t sent[] = { 0, 1, 4095, 4096, 100003 };

	(void)state;
	for (unsigned int i = 0; i < 10; i++)
		check_stream(i % 2, 3, sent[i / 2], LENGTH - 3, 3001);
}

static void no_more_is_taken_than_was_asked_for(void **state)
{
	char rest[10] = "";
	uint64_t done;
	int ends[2];

	(void)state;
	set_up();
	for (unsigned int i = 0; i < 2; i++) {
		make_ends(i, O_CLOEXEC, ends);
		assert_int_equal(write(ends[1], content + 8192, 5010), 5010);
		assert_int_equal(populate(0, 5000, ends[0], &done), 0);
		assert_int_equal(read(ends[0], rest, 10), 10);
		assert_memory_equal(rest, content + 8192 + 5000, 10);
		close_ends(ends);
	}
	tear_down();
}

/* O_NONBLOCK */

static void check_nonblocking(bool socket)
{
	uint64_t sum = 0, sent = 0, done;
	int ends[2];

	set_up();
	make_ends(socket, O_CLOEXEC | O_NONBLOCK, ends);
	assert_int_equal(populate(99, 50000, ends[0], &done), -EAGAIN);
	assert_int_equal(done, 0);
	assert_non_null(strstr(gmem_last_error(), "(EAGAIN, from the kernel)"));
	for (uint64_t size = 1; sent < 50000; size = size * 3 + 1) {
		uint64_t now = size < 50000 - sent ? size : 50000 - sent;

		assert_int_equal(write(ends[1], content + sent, now), now);
		sent += now;
		assert_int_equal(populate(99 + sum, 50000 - sum, ends[0], &done), sent < 50000 ? -EAGAIN : 0);
		sum += done;
		assert_int_equal(sum, sent);
		assert_only(mem, LENGTH, 99, content, sum);
	}
	close(ends[1]);
	ends[1] = -1;
	assert_int_equal(populate(99 + sum, 1, ends[0], &done), -ENODATA);
	assert_int_equal(done, 0);
	close_ends(ends);
	tear_down();
}

static void what_would_block_is_told_and_gone_on_with(void **state)
{
	(void)state;
	check_nonblocking(false);
	check_nonblocking(true);
}

/* Interruptions */

/* The nth call of the library from here is interrupted. Afterwards what was left comes in. */
static int interrupted(unsigned long nth, uint64_t sent, uint64_t wanted, uint64_t *done)
{
	int ends[2], r;

	make_ends(false, O_CLOEXEC, ends);
	assert_int_equal(write(ends[1], content, sent), sent);
	close(ends[1]); /* what comes after the signal is the end, so that no test waits for ever */
	inject_arm(nth, EINTR);
	r = populate(5, wanted, ends[0], done);
	inject_disarm();
	if (r == -EINTR && *done < sent) {
		uint64_t more;

		assert_int_equal(gmem_populate_fd(mem, 5 + *done, sent - *done, ends[0], 0, &more, NULL), 0);
		assert_int_equal(*done + more, sent);
	}
	close(ends[0]);
	return r;
}

static void a_signal_ends_the_wait_for_input(void **state)
{
	unsigned int reads = 0;
	uint64_t done;

	(void)state;
	for (unsigned long nth = 1; nth < 20; nth++) {
		int r;

		set_up();
		r = interrupted(nth, 3000, 40000, &done);
		if (strcmp(inject_where(), "read") == 0) {
			if (r != -EINTR)
				fail_msg("read() number %u was interrupted: the call returned %d", reads + 1, r);
			assert_int_equal(done, reads++ ? 3000 : 0); /* before anything came, and after all there was */
			assert_non_null(strstr(gmem_last_error(), "EINTR"));
		}
		assert_only(mem, LENGTH, 5, content, 3000);
		tear_down();
		if (r == -ENODATA && !inject_fired())
			break;
	}
	assert_true(reads >= 2);
}

static int stop_at_once(void *user, uint64_t done, uint64_t length)
{
	(void)length;
	*(uint64_t *)user = done;
	return 1;
}

static void stopping_loses_nothing_of_a_stream(void **state)
{
	uint64_t told = 0, sum = 0, done;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = 4096 * 16, .progress = stop_at_once, .user = &told };
	struct writer writer = { .length = LENGTH, .piece = 7777 };
	pthread_t thread;
	int ends[2], r;

	(void)state;
	set_up();
	make_ends(false, O_CLOEXEC, ends);
	writer.fd = ends[1];
	assert_int_equal(pthread_create(&thread, NULL, write_content, &writer), 0);
	do {
		r = gmem_populate_fd(mem, sum, LENGTH - sum, ends[0], 0, &done, &opts);
		assert_int_equal(done, told);
		sum += done;
	} while (r == -ECANCELED);
	assert_int_equal(r, 0);
	assert_int_equal(pthread_join(thread, NULL) | writer.failed, 0);
	assert_int_equal(sum, LENGTH);
	assert_only(mem, LENGTH, 0, content, LENGTH);
	close(ends[0]);
	tear_down();
}

static void short_reads_of_a_stream_lose_nothing(void **state)
{
	(void)state;
	for (unsigned long nth = 1, fired = 1; fired; nth++) {
		uint64_t done;
		int ends[2];

		set_up();
		make_ends(true, O_CLOEXEC, ends);
		assert_int_equal(write(ends[1], content, 60001), 60001);
		inject_arm(nth, INJECT_SHORT);
		assert_int_equal(populate(1, 60001, ends[0], &done), 0);
		inject_disarm();
		fired = inject_fired();
		assert_only(mem, LENGTH, 1, content, 60001);
		close_ends(ends);
		tear_down();
	}
}

/* Numbers below 3 are as good as others for an input. */
static int populate_from_stdin(void *arg)
{
	uint64_t done;
	int ends[2];

	(void)arg;
	set_up();
	make_ends(false, O_CLOEXEC, ends);
	assert_int_equal(write(ends[1], content, 3000), 3000);
	assert_int_equal(dup2(ends[0], 0), 0);
	assert_int_equal(populate(0, 3000, 0, &done), 0);
	assert_only(mem, LENGTH, 0, content, 3000);
	return 0;
}

static void standard_input_is_an_input(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(populate_from_stdin, NULL), 0);
}

static void devices_are_read(void **state)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t done;

	(void)state;
	assert_true(zero >= 0 && null >= 0);
	set_up();
	assert_int_equal(gmem_populate(mem, 0, LENGTH, content, NULL, NULL), 0);
	assert_int_equal(populate(page() * 5 / 2, LENGTH - page() * 5 / 2, zero, &done), 0);
	assert_only(mem, LENGTH, 0, content, page() * 5 / 2);
	assert_int_equal(populate(0, page(), null, &done), -ENODATA);
	assert_int_equal(done, 0);
	tear_down();
	close(zero);
	close(null);
}

static const struct gt_test tests[] = {
	GT(a_stream_comes_in_as_it_was_sent, GT_NEEDS_NOTHING),
	GT(the_end_of_a_stream_is_told_to_the_byte, GT_NEEDS_NOTHING),
	GT(no_more_is_taken_than_was_asked_for, GT_NEEDS_NOTHING),
	GT(what_would_block_is_told_and_gone_on_with, GT_NEEDS_NOTHING),
	GT(a_signal_ends_the_wait_for_input, GT_NEEDS_NOTHING),
	GT(stopping_loses_nothing_of_a_stream, GT_NEEDS_NOTHING),
	GT(short_reads_of_a_stream_lose_nothing, GT_NEEDS_NOTHING),
	GT(standard_input_is_an_input, GT_NEEDS_NOTHING),
	GT(devices_are_read, GT_NEEDS_NOTHING),
};

GT_MAIN("populate_stream", tests)
