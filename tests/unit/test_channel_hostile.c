/* SPDX-License-Identifier: MIT */
/* Peers that send fds that are not what they have to be, too many of them, or stop in the middle. Whatever comes is closed. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "channels.h"

#define MEMORY_LENGTH (UINT64_C(16) << 20)

static const int kinds[] = { SOCK_STREAM, SOCK_SEQPACKET };
#define EACH_KIND(i) (size_t i = 0; i < 2; i++)

/* --- fds of other kinds ------------------------------------------------------------------------------------------------- */

/* Never a userfaultfd; from `MEMORIES` on not even a memory file. */
enum other { SEALED, MEMORIES, PIPE = MEMORIES, SOCKET, NULL_DEVICE, DISK_FILE, EVENT, EPOLL, DIRECTORY, A_PATH, OTHERS };

static int some_fd(enum other other)
{
	char path[] = "/tmp/gmem-test-XXXXXX";
	int fd, ends[2];

	switch (other) {
	case SEALED:
		fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fd, MEMORY_LENGTH), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
		return fd;
	case PIPE:
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		close(ends[0]);
		return ends[1];
	case SOCKET:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case NULL_DEVICE:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case DISK_FILE:
		fd = mkostemp(path, O_CLOEXEC);
		unlink(path);
		return fd;
	case EVENT:
		return eventfd(0, EFD_CLOEXEC);
	case EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	case DIRECTORY:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	default:
		return open("/dev/null", O_PATH | O_CLOEXEC);
	}
}

static const char handshake[] = "[{\"base_host_virt_addr\":65536,\"size\":65536,\"offset\":0,\"page_size\":4096}]";

static void what_is_no_userfaultfd(void **state)
{
	(void)state;
	for (int other = 0; other < OTHERS; other++)
		for
			EACH_KIND(i)
			{
				struct line line = line_make(kinds[i], NULL), native = line_make(kinds[i], NULL);
				struct speaker speaker = { .socket = native.far };
				int fd = some_fd((enum other)other);

				assert_true(fd >= 0);
				send_raw(line.far, handshake, sizeof(handshake) - 1, &fd, 1);
				line_refuses(&line, -EPROTO, "userfaultfd is none");
				say_hello(&speaker);
				say_endpoint(&speaker, fd, 0, 1, 65536);
				line_refuses(&native, -EPROTO, "userfaultfd is none");
				close(fd);
				line_end(&line);
				line_end(&native);
			}
}

/* The peer sees its end of a pipe closed as soon as it was looked at, and nothing was read from it. */
static void what_is_refused_is_untouched(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	int ends[2], fds[2];
	char byte = 'x';

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write(ends[1], &byte, 1), 1);
	fds[0] = ends[1];
	fds[1] = dup(ends[0]);
	send_raw(line.far, handshake, sizeof(handshake) - 1, fds, 2);
	close(fds[1]);
	close(ends[1]);
	line_refuses(&line, -EPROTO, "userfaultfd is none");
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	line_end(&line);
}

static void no_userfaultfd_at_all(void **state)
{
	(void)state;
	for
		EACH_KIND(i)
		{
			struct line line = line_make(kinds[i], NULL);

			send_raw(line.far, handshake, sizeof(handshake) - 1, NULL, 0);
			line_refuses(&line, -EPROTO, "without a userfaultfd");
			line_end(&line);
		}
}

/* One that nobody has called UFFDIO_API on. */
static void a_userfaultfd_without_a_handshake(void **state)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = gmemi_sys_userfaultfd(device, 0);
	struct line line = line_make(SOCK_STREAM, NULL);

	(void)state;
	if (device >= 0)
		close(device);
	send_raw(line.far, handshake, sizeof(handshake) - 1, &fd, 1);
	line_refuses(&line, -EPROTO, "UFFDIO_API");
	close(fd);
	line_end(&line);
}

/* --- too many ----------------------------------------------------------------------------------------------------------- */

static void too_many_fds(void **state)
{
	static const unsigned int counts[] = { 4, 15, 16, 17, 18, 40, 253 };
	int fds[253];

	(void)state;
	for (size_t i = 0; i < 253; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for
			EACH_KIND(k)
			{
				struct line line = line_make(kinds[k], NULL);

				send_raw(line.far, handshake, sizeof(handshake) - 1, fds, counts[i]);
				line_refuses(&line, -EPROTO, counts[i] > 3 ? "fds" : "none");
				line_end(&line);
			}
	for (size_t i = 0; i < 253; i++)
		close(fds[i]);
}

/* A few with each of many parts of a message that does not end. */
static void fds_in_heaps(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	int fds[16];

	(void)state;
	for (size_t i = 0; i < 16; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	for (size_t i = 0; i < 16; i++)
		send_raw(line.far, "[", 1, fds, 16);
	line_refuses(&line, -EPROTO, "more fds");
	for (size_t i = 0; i < 16; i++)
		close(fds[i]);
	line_end(&line);
}

/* The kernel cuts them off where this process may not open so many: what did come is closed. */
static int with_few_fds_left(void *arg)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct gmem_uffd *uffd;
	struct rlimit limit;
	int fds[3], next;

	(void)arg;
	for (size_t i = 0; i < 3; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	send_raw(line.far, handshake, sizeof(handshake) - 1, fds, 3);
	getrlimit(RLIMIT_NOFILE, &limit);
	next = dup(0);
	close(next);
	limit.rlim_cur = (rlim_t)next + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(line_recv(&line, &uffd), -EPROTO);
	assert_non_null(strstr(gmem_last_error(), "may open"));
	assert_int_equal(dup(0), next); /* none is left open */
	return 0;
}

static void ancillary_data_that_is_cut(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(with_few_fds_left, NULL), 0);
}

/* Not even where the numbers below are free, and close-on-exec from the beginning. */
static int with_standard_input_closed(void *arg)
{
	int ends[2], fd = eventfd(0, EFD_CLOEXEC);
	struct gmemi_received received;
	char byte;

	(void)arg;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	send_raw(ends[0], "x", 1, &fd, 1);
	close(STDIN_FILENO);
	assert_int_equal(gmemi_sys_receive(ends[1], &byte, 1, &received), 1);
	assert_int_equal(received.count, 1);
	assert_true(received.fds[0] >= 3);
	assert_true(fcntl(received.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	return 0;
}

static void fds_are_three_or_more(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(with_standard_input_closed, NULL), 0);
}

static void fds_that_no_message_names(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	for
		EACH_KIND(i)
		{
			struct line line = line_make(kinds[i], NULL);
			struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO,
						   .hello = { .version_least = 1, .version_most = 1, .role = 1 } };
			unsigned char bytes[128];
			size_t length = gmemi_wire_encode(&wire, bytes, sizeof(bytes));

			send_raw(line.far, bytes, length, &fd, 1);
			line_refuses(&line, -EPROTO, "no message names");
			line_end(&line);
		}
	close(fd);
}

/* --- memory files ------------------------------------------------------------------------------------------------------- */

static int memfd(uint64_t length, int seals)
{
	int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)length), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* A memory of this length, and a page map, which may be -1, are said; it is refused with the word. */
static void refused_memory(int fd, int map, uint64_t length, uint64_t page_size, const char *word)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(1);
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = map >= 0 ? 2 : 1 };
	int fds[2] = { fd, map };

	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 1, 1, 4096);
	wire.memory = (struct gmemi_wire_memory){
		.endpoint = 9, .file = 0, .map = map >= 0 ? 1 : GMEMI_WIRE_NONE, .length = length, .page_size = page_size
	};
	say(&speaker, &wire, fds);
	line_refuses(&line, -EPROTO, word);
	watched_end(&w);
	line_end(&line);
}

static void what_is_no_memory(void **state)
{
	struct watched w = watched_make(1);

	(void)state;
	for (int other = MEMORIES; other < OTHERS; other++) {
		int fd = some_fd((enum other)other);

		refused_memory(fd, -1, 65536, w.page, "memory");
		close(fd);
	}
	refused_memory(w.uffd, -1, 65536, w.page, "memory");
	watched_end(&w);
}

static void memory_that_is_not_to_be_relied_on(void **state)
{
	int unsealed = memfd(MEMORY_LENGTH, 0), grows = memfd(MEMORY_LENGTH, F_SEAL_GROW);
	int write_sealed = memfd(MEMORY_LENGTH, F_SEAL_SHRINK | F_SEAL_WRITE), good = memfd(MEMORY_LENGTH, F_SEAL_SHRINK);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[32];
	int read_only;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", good);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	refused_memory(unsealed, -1, MEMORY_LENGTH, page, "F_SEAL_SHRINK");
	refused_memory(grows, -1, MEMORY_LENGTH, page, "F_SEAL_SHRINK");
	refused_memory(write_sealed, -1, MEMORY_LENGTH, page, "sealed against writing");
	refused_memory(read_only, -1, MEMORY_LENGTH, page, "reading and writing");
	refused_memory(good, -1, MEMORY_LENGTH + page, page, "beyond the end");
	refused_memory(good, -1, page / 2, page, "multiple");
	refused_memory(good, -1, MEMORY_LENGTH, UINT64_C(2) << 20, "pages of");
	close(unsealed);
	close(grows);
	close(write_sealed);
	close(good);
	close(read_only);
}

static void page_maps_that_are_none(void **state)
{
	int good = memfd(MEMORY_LENGTH, F_SEAL_SHRINK), unsealed = memfd(65536, 0), large = memfd(MEMORY_LENGTH, F_SEAL_SHRINK);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes = MEMORY_LENGTH / page / 4;
	int tiny = memfd(bytes - 1, F_SEAL_SHRINK), write_sealed = memfd(65536, F_SEAL_SHRINK | F_SEAL_WRITE), read_only;
	char path[32];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", large);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	refused_memory(good, unsealed, MEMORY_LENGTH, page, "sealed against shrinking");
	refused_memory(good, tiny, MEMORY_LENGTH, page, "bytes, not");
	refused_memory(good, read_only, MEMORY_LENGTH, page, "page map");
	refused_memory(good, write_sealed, MEMORY_LENGTH, page, "page map");
	for (int other = MEMORIES; other < OTHERS; other++) {
		int fd = some_fd((enum other)other);

		refused_memory(good, fd, MEMORY_LENGTH, page, "page map");
		close(fd);
	}
	close(good);
	close(unsealed);
	close(large);
	close(tiny);
	close(write_sealed);
	close(read_only);
}

/* --- stopping in the middle --------------------------------------------------------------------------------------------- */

static void nothing_but_an_end(void **state)
{
	(void)state;
	for
		EACH_KIND(i)
		{
			struct line line = line_make(kinds[i], NULL);

			line_close_far(&line);
			line_refuses(&line, -ENOTCONN, "closed its end");
			line_end(&line);
		}
}

static void an_end_in_the_middle(void **state)
{
	(void)state;
	for (size_t cut = 1; cut < sizeof(handshake) - 2; cut++) {
		struct line line = line_make(SOCK_STREAM, NULL);
		int fd = eventfd(0, EFD_CLOEXEC);

		send_raw(line.far, handshake, cut, &fd, 1);
		close(fd);
		line_close_far(&line);
		line_refuses(&line, -EPROTO, "in the middle");
		line_end(&line);
	}
}

/* After each of these steps of the library's own protocol. */
static void say_steps(struct speaker *speaker, const struct watched *w, int steps)
{
	if (steps > 0)
		say_hello(speaker);
	if (steps > 1)
		say_endpoint(speaker, w->uffd, 0, 1, w->length);
	if (steps > 2)
		say_region(speaker, (uintptr_t)w->at, w->length, 0);
}

static void an_end_between_messages(void **state)
{
	(void)state;
	for (int steps = 1; steps < 4; steps++)
		for
			EACH_KIND(i)
			{
				struct line line = line_make(kinds[i], NULL);
				struct speaker speaker = { .socket = line.far };
				struct watched w = watched_make(1);

				say_steps(&speaker, &w, steps);
				line_close_far(&line);
				line_refuses(&line, steps == 1 ? -ENOTCONN : -EPROTO, "closed its end");
				watched_end(&w);
				line_end(&line);
			}
}

/* Whoever polls the channel is woken when the time is over, and finds everything closed. */
static void stalls(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 20000000 };

	(void)state;
	for (int steps = 0; steps < 4; steps++)
		for
			EACH_KIND(i)
			{
				struct line line = line_make(kinds[i], &hurry);
				struct speaker speaker = { .socket = line.far };
				struct watched w = watched_make(1);

				say_steps(&speaker, &w, steps);
				line_refuses(&line, -ETIMEDOUT, "not complete");
				watched_end(&w);
				line_end(&line);
			}
}

/* The second handshake has its own time, from its first byte on: none until that comes. */
static void a_stall_later(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(1);
	struct gmem_uffd *uffd;
	struct pollfd fd = { .fd = gmem_channel_get_fd(line.channel), .events = POLLIN };
	char text[200];
	int length = snprintf(text, sizeof(text), "[{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":0}]",
			      (unsigned long long)(uintptr_t)w.at, (unsigned long long)w.length);

	(void)state;
	send_raw(line.far, text, (size_t)length, &w.uffd, 1);
	uffd = line_take(&line);
	assert_int_equal(line.channel->deadline, UINT64_MAX);
	assert_int_equal(gmem_channel_recv(line.channel, line.vm, &(struct gmem_uffd *){ NULL }), -EAGAIN);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_is_served(uffd, w.at, w.length, 0);
	line.channel->timeout_ns = 20000000; /* from now on, so that no slow machine misses the first */
	send_raw(line.far, "[", 1, NULL, 0);
	line_refuses(&line, -ETIMEDOUT, "not complete");
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

static const struct gt_test tests[] = {
	GT(what_is_no_userfaultfd, GT_NEEDS_NOTHING),
	GT(what_is_refused_is_untouched, GT_NEEDS_NOTHING),
	GT(no_userfaultfd_at_all, GT_NEEDS_NOTHING),
	GT(a_userfaultfd_without_a_handshake, GT_NEEDS_UFFD),
	GT(too_many_fds, GT_NEEDS_NOTHING),
	GT(fds_in_heaps, GT_NEEDS_NOTHING),
	GT(ancillary_data_that_is_cut, GT_NEEDS_NOTHING),
	GT(fds_are_three_or_more, GT_NEEDS_NOTHING),
	GT(fds_that_no_message_names, GT_NEEDS_NOTHING),
	GT(what_is_no_memory, GT_NEEDS_UFFD),
	GT(memory_that_is_not_to_be_relied_on, GT_NEEDS_UFFD),
	GT(page_maps_that_are_none, GT_NEEDS_UFFD),
	GT(nothing_but_an_end, GT_NEEDS_NOTHING),
	GT(an_end_in_the_middle, GT_NEEDS_NOTHING),
	GT(an_end_between_messages, GT_NEEDS_UFFD),
	GT(stalls, GT_NEEDS_UFFD),
	GT(a_stall_later, GT_NEEDS_UFFD),
};

GT_MAIN("channel_hostile", tests)
