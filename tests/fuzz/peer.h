/* SPDX-License-Identifier: MIT */
/* Bytes of a peer into a channel, in parts, with fds of several kinds; and the loop that gives a program inputs where no fuzzer
 * does. Included by one program each. */
#ifndef FUZZ_PEER_H
#define FUZZ_PEER_H

#include <gmem.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s: %s\n", what, gmem_last_error());
	abort();
}

static inline unsigned int open_fds(void)
{
	DIR *all = opendir("/proc/self/fd");
	unsigned int count = 0;

	expect(all != NULL, "/proc/self/fd");
	while (readdir(all))
		count++;
	closedir(all);
	return count;
}

/* A channel that has refused what came hears no more. */
static inline void send_part(int socket, const uint8_t *data, size_t size, int fd, int refused)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	if (refused)
		expect(sendmsg(socket, &message, MSG_NOSIGNAL) < 0 && errno == EPIPE, "sending to who has refused");
	else
		expect(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size, "sending");
}

static inline int is_refusal(int r)
{
	return r == -EAGAIN || r == -EPROTO || r == -ENOTCONN;
}

static inline int take_all(struct gmem_channel *channel, struct gmem_vm *vm)
{
	struct gmem_uffd *uffd;
	int r;

	while ((r = gmem_channel_recv(channel, vm, &uffd)) == 0)
		gmem_uffd_destroy(uffd);
	expect(is_refusal(r), "gmem_channel_recv");
	return r;
}

/* The first two bytes say where the rest is cut, and what comes with the first part. Everything is closed in the end. */
static inline void receive(const uint8_t *data, size_t size)
{
	static const char *const names[] = { NULL, "/dev/null", "memfd" };
	struct gmem_channel_open_opts limits = { .size = sizeof(limits), .max_regions = 64, .max_length = UINT64_C(1) << 24 };
	struct gmem_channel *channel;
	static struct gmem_vm *vm;
	unsigned int before;
	int ends[2], fd = -1, r;
	const char *name;
	size_t cut;

	if (size < 4)
		return;
	if (!vm)
		expect(gmem_vm_open(-1, &vm, NULL) == 0, "gmem_vm_open");
	before = open_fds();
	name = names[data[1] % 3];
	if (name)
		fd = strcmp(name, "memfd") == 0 ? memfd_create("fuzz", MFD_CLOEXEC) : open(name, O_RDWR | O_CLOEXEC);
	cut = 1 + data[0] % (size - 3);
	expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair()");
	expect(gmem_channel_open(ends[0], &channel, &limits) == 0, "gmem_channel_open");
	close(ends[0]);
	send_part(ends[1], data + 2, cut, fd, 0);
	r = take_all(channel, vm);
	send_part(ends[1], data + 2 + cut, size - 2 - cut, -1, r != -EAGAIN);
	take_all(channel, vm);
	close(ends[1]);
	take_all(channel, vm);
	gmem_channel_close(channel);
	close(fd);
	expect(open_fds() == before, "fds are left open");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef ROUNDS
#define LONGEST 4096

/* Some bytes changed, taken out or put in. */
static inline size_t damage(uint8_t *data, size_t size, unsigned int *seed)
{
	for (int n = rand_r(seed) % 6; n > 0 && size > 8 && size < LONGEST - 8; n--) {
		size_t at = (size_t)rand_r(seed) % size;

		switch (rand_r(seed) % 4) {
		case 0:
			memmove(data + at, data + at + 1, size - at - 1);
			size--;
			break;
		case 1:
			memmove(data + at + 1, data + at, size - at);
			size++;
			break;
		case 2:
			data[at] = rand_r(seed) % 2 ? 0xff : 0;
			break;
		default:
			data[at] = (uint8_t)rand_r(seed);
		}
	}
	return size;
}

#define FUZZ_MAIN(name, make)                                                                 \
	int main(void)                                                                        \
	{                                                                                     \
		static uint8_t data[LONGEST];                                                 \
		unsigned int seed = 20260101;                                                 \
                                                                                              \
		printf("# PLAN 1\n# RUN %s\n", name);                                         \
		for (int i = 0; i < ROUNDS; i++)                                              \
			LLVMFuzzerTestOneInput(data, damage(data, make(data, &seed), &seed)); \
		printf("# PASS %s\n", name);                                                  \
		return 0;                                                                     \
	}
#endif

#endif
