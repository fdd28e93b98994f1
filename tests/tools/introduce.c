/* SPDX-License-Identifier: MIT */
/* A VM of libgmem's own protocol, with one page, that says any name at all, and looks on at what its pager opens for it.
 *
 *     introduce SOCKET NAME-FILE BYTES DIRECTORY...
 *
 * The content of NAME-FILE is the name, and BYTES is how much memory it says it has. Prints "served: " and the first word of
 * the page, or "refused: " and the pager's sentence; then "opened: " and the name of each file that somebody has opened in one
 * of the directories meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define PAGE 4096u
#define LONGEST_NAME 1000
#define TEXT_LENGTH_AT 36 /* in a message: as docs/guide/protocol.md has it */
#define BODY_LENGTH_AT 4

static int connection;

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

/* --- what is said ------------------------------------------------------------------------------------------------------- */

static void send_bytes(const unsigned char *bytes, size_t length, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} space = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec piece = { (void *)(uintptr_t)bytes, length };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&space.header), &fd, sizeof(fd));
		message.msg_control = &space;
		message.msg_controllen = sizeof(space);
	}
	if (sendmsg(connection, &message, MSG_NOSIGNAL) < 0) /* refused already: the answer says why */
		need(errno == EPIPE || errno == ECONNRESET, "sendmsg");
}

static void say(const struct gmemi_wire *wire, int fd)
{
	unsigned char bytes[1024];

	send_bytes(bytes, gmemi_wire_encode(wire, bytes, sizeof(bytes)), fd);
}

/* What encodes would not let such names through. */
static void say_name(const char *name, uint32_t length)
{
	struct gmemi_wire hello = { .type = GMEMI_WIRE_HELLO,
				    .hello = { .version_least = 1, .version_most = 1, .role = GMEMI_WIRE_OWNER } };
	unsigned char bytes[1024 + LONGEST_NAME];
	size_t size = gmemi_wire_encode(&hello, bytes, sizeof(bytes));
	uint32_t body = (uint32_t)(size - GMEMI_WIRE_HEADER) + length;

	memcpy(bytes + BODY_LENGTH_AT, &body, sizeof(body));
	memcpy(bytes + TEXT_LENGTH_AT, &length, sizeof(length));
	memcpy(bytes + size, name, length);
	send_bytes(bytes, size + length, -1);
}

static void say_page(const unsigned char *page, int uffd, uint64_t claimed)
{
	struct gmemi_wire endpoint = { .type = GMEMI_WIRE_ENDPOINT, .fds = 1, .endpoint = { .regions = 1, .length = claimed } };
	struct gmemi_wire_region region = { .memory = GMEMI_WIRE_NONE, .strategy = GMEMI_WIRE_COPY, .length = PAGE,
					    .gpa = UINT64_MAX, .page_size = PAGE };
	struct gmemi_wire regions = { .type = GMEMI_WIRE_REGIONS, .items = &region, .item_count = 1 };
	struct gmemi_wire ready = { .type = GMEMI_WIRE_READY };

	region.hva = region.offset = (uintptr_t)page;
	say(&endpoint, uffd);
	say(&regions, -1);
	say(&ready, -1);
}

/* --- what is answered --------------------------------------------------------------------------------------------------- */

static size_t read_some(unsigned char *bytes, size_t have, size_t room)
{
	ssize_t n = read(connection, bytes + have, room - have);

	need(n > 0, "the pager says nothing more");
	return have + (size_t)n;
}

/* READY or ERROR, whichever comes. */
static struct gmemi_wire answer(void)
{
	static unsigned char bytes[GMEMI_WIRE_HEADER + GMEMI_WIRE_BODY];
	struct gmemi_wire wire;
	size_t have = 0, length;

	for (;;) {
		while (gmemi_wire_length(bytes, have, &length) == 0 || have < length)
			have = read_some(bytes, have, sizeof(bytes));
		need(gmemi_wire_decode(bytes, length, &wire) >= 0, "no message");
		if (wire.type == GMEMI_WIRE_READY || wire.type == GMEMI_WIRE_ERROR)
			return wire;
		have -= length;
		memmove(bytes, bytes + length, have);
	}
}

static void print_opened(int watch)
{
	union {
		struct inotify_event event;
		char room[4096];
	} space;
	ssize_t n = read(watch, &space, sizeof(space));

	need(n > 0 || errno == EAGAIN, "inotify");
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const struct inotify_event *)(space.room + at);

		printf("opened: %s\n", event->len ? event->name : "the directory");
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

/* --- the run ------------------------------------------------------------------------------------------------------------ */

static uint32_t read_name(const char *path, char name[LONGEST_NAME])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, name, LONGEST_NAME);

	need(n >= 0, path);
	close(fd);
	return (uint32_t)n;
}

static int watch_directories(char **paths)
{
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	need(watch >= 0, "inotify_init1");
	for (; *paths; paths++)
		need(inotify_add_watch(watch, *paths, IN_OPEN) >= 0, *paths);
	return watch;
}

static void connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	need(strlen(path) < sizeof(address.sun_path), "the socket's path");
	strcpy(address.sun_path, path);
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof(address)) == 0, path);
}

static int watch_page(const unsigned char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { (uintptr_t)page, PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	need(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &range) == 0, "userfaultfd");
	return uffd;
}

int main(int argc, char **argv)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[LONGEST_NAME];
	struct gmemi_wire wire;
	uint32_t length;
	int watch;

	if (argc < 4)
		return 2;
	need(page != MAP_FAILED, "mmap");
	length = read_name(argv[2], name);
	connect_to(argv[1]);
	watch = watch_directories(argv + 4);
	say_name(name, length);
	say_page(page, watch_page(page), strtoull(argv[3], NULL, 10));
	wire = answer();
	if (wire.type == GMEMI_WIRE_READY)
		printf("served: %.*s\n", (int)strcspn((const char *)page, " \n"), page);
	else
		printf("refused: %.*s\n", (int)wire.text_length, wire.text);
	print_opened(watch);
	return 0;
}
