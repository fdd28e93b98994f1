/* SPDX-License-Identifier: MIT */
#include "channels.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gt.h"
#include "handles.h"
#include "sys.h"
#include "uapi/userfaultfd.h"

/* --- the line ----------------------------------------------------------------------------------------------------------- */

struct line line_make(int type, const struct gmem_channel_open_opts *opts)
{
	struct line line = { .vm = open_vm(-1) };
	int ends[2];

	alarm(100);
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(gmem_channel_open(ends[0], &line.channel, opts), 0);
	close(ends[0]);
	line.far = ends[1];
	return line;
}

void line_close_far(struct line *line)
{
	close(line->far);
	line->far = -1;
}

void line_end(struct line *line)
{
	if (line->far >= 0)
		close(line->far);
	gmem_channel_close(line->channel);
	gmem_vm_close(line->vm);
	alarm(0);
}

int line_recv(struct line *line, struct gmem_uffd **uffd)
{
	struct pollfd fd = { .fd = gmem_channel_get_fd(line->channel), .events = POLLIN };
	int r;

	while ((r = gmem_channel_recv(line->channel, line->vm, uffd)) == -EAGAIN)
		assert_int_equal(poll(&fd, 1, -1), 1);
	return r;
}

struct gmem_uffd *line_take(struct line *line)
{
	struct gmem_uffd *uffd;
	int r = line_recv(line, &uffd);

	if (r < 0)
		fail_msg("%d: %s", r, gmem_last_error());
	return uffd;
}

void line_refuses(struct line *line, int code, const char *word)
{
	struct gmem_uffd *uffd = NULL;
	int r = line_recv(line, &uffd);

	if (r != code || !strstr(gmem_last_error(), word) || !strstr(gmem_last_error(), "gmem_channel_recv"))
		fail_msg("%d instead of %d with \"%s\": %s", r, code, word, gmem_last_error());
	assert_null(uffd);
	assert_int_equal(gmem_channel_recv(line->channel, line->vm, &uffd), code); /* for good */
}

void send_raw(int socket, const void *data, size_t length, const int *fds, unsigned int count)
{
	static union {
		struct cmsghdr header;
		char room[CMSG_SPACE(253 * sizeof(int))];
	} control;
	struct iovec part = { (void *)(uintptr_t)data, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (count) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	assert_int_equal(sendmsg(socket, &message, MSG_NOSIGNAL), length);
}

/* --- memory ------------------------------------------------------------------------------------------------------------- */

struct watched watched_make(uint64_t pages)
{
	struct watched w = { .page = page(), .length = pages * page() };
	struct uffdi_register range = { .length = w.length, .mode = UFFDI_REGISTER_MISSING };
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	w.uffd = gmemi_sys_userfaultfd(device, 0);
	if (device >= 0)
		close(device);
	assert_true(w.uffd >= 3);
	w.at = mmap(NULL, w.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(w.at != MAP_FAILED);
	range.start = (uintptr_t)w.at;
	assert_int_equal(ioctl(w.uffd, UFFDI_API, &api), 0);
	assert_int_equal(ioctl(w.uffd, UFFDI_REGISTER, &range), 0);
	return w;
}

void watched_end(struct watched *watched)
{
	munmap(watched->at, watched->length);
	close(watched->uffd);
}

unsigned char content_at(uint64_t offset)
{
	return (unsigned char)(offset % 251 + offset / 4096 % 5);
}

static const unsigned char *content(void)
{
	static unsigned char *bytes;

	if (!bytes) {
		bytes = malloc(CONTENT);
		assert_non_null(bytes);
		for (uint64_t i = 0; i < CONTENT; i++)
			bytes[i] = content_at(i);
	}
	return bytes;
}

void assert_is_served(struct gmem_uffd *uffd, const unsigned char *at, uint64_t length, uint64_t first)
{
	const unsigned char *bytes = content();
	struct gmem_source *source;
	struct gmem_pager *pager;

	assert_int_equal(gmem_source_create_memory(bytes, CONTENT, &source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	assert_int_equal(gmem_pager_start(pager), 0);
	for (uint64_t i = 0; i < length; i += page())
		assert_memory_equal(at + i, bytes + first + i, page());
	gmem_pager_destroy(pager);
	gmem_source_destroy(source);
}

/* --- the protocol by hand ----------------------------------------------------------------------------------------------- */

void say(struct speaker *speaker, struct gmemi_wire *wire, const int *fds)
{
	size_t size = gmemi_wire_size(wire);
	unsigned char *bytes = malloc(size);

	assert_non_null(bytes);
	wire->number = ++speaker->number;
	assert_int_equal(gmemi_wire_encode(wire, bytes, size), size);
	send_raw(speaker->socket, bytes, size, fds, wire->fds);
	free(bytes);
}

void say_hello(struct speaker *speaker)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .text = "by hand", .text_length = 7 };

	wire.hello = (struct gmemi_wire_hello){ .version_least = 1, .version_most = 7, .role = GMEMI_WIRE_OWNER };
	say(speaker, &wire, NULL);
}

void say_endpoint(struct speaker *speaker, int uffd, uint32_t memories, uint32_t regions, uint64_t length)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ENDPOINT, .fds = 1 };

	wire.endpoint =
		(struct gmemi_wire_endpoint){ .endpoint = 9, .memories = memories, .regions = regions, .length = length };
	say(speaker, &wire, &uffd);
}

void say_region(struct speaker *speaker, uint64_t hva, uint64_t length, uint64_t content)
{
	struct gmemi_wire_region region = { .memory = GMEMI_WIRE_NONE,
					    .strategy = GMEMI_WIRE_COPY,
					    .offset = hva,
					    .length = length,
					    .hva = hva,
					    .gpa = UINT64_MAX,
					    .content = content,
					    .page_size = page() };
	struct gmemi_wire wire = {
		.type = GMEMI_WIRE_REGIONS, .regions = { .endpoint = 9 }, .items = &region, .item_count = 1
	};

	say(speaker, &wire, NULL);
}

void say_ready(struct speaker *speaker)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_READY, .end = { .endpoint = 9 } };

	say(speaker, &wire, NULL);
}

size_t hear(int socket, unsigned char *bytes, size_t room, enum gmemi_wire_type type, struct gmemi_wire *wire)
{
	size_t have = 0, length;

	for (;;) {
		ssize_t got;
		int r = gmemi_wire_length(bytes, have, &length);

		assert_true(r >= 0);
		if (r == 1 && have >= length) {
			assert_int_equal(gmemi_wire_decode(bytes, length, wire), 1);
			if (wire->type == type)
				return length;
			have -= length;
			memmove(bytes, bytes + length, have);
			continue;
		}
		got = recv(socket, bytes + have, room - have, 0);
		assert_true(got > 0);
		have += (size_t)got;
	}
}
