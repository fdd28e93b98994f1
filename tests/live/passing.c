/* SPDX-License-Identifier: MIT */
#include "passing.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gt.h"

union control {
	struct cmsghdr header;
	unsigned char room[CMSG_SPACE(sizeof(int))];
};

struct maker {
	int (*make)(void *arg);
	void *arg;
	int socket;
};

static struct msghdr message_in(struct iovec *byte, union control *control)
{
	return (struct msghdr){
		.msg_iov = byte, .msg_iovlen = 1, .msg_control = control->room, .msg_controllen = sizeof(control->room)
	};
}

void pass_fd(int socket, int fd)
{
	union control control = { .room = { 0 } };
	struct iovec byte = { "", 1 };
	struct msghdr message = message_in(&byte, &control);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(socket, &message, 0), 1);
}

int receive_fd(int socket)
{
	union control control = { .room = { 0 } };
	char room;
	struct iovec byte = { &room, 1 };
	struct msghdr message = message_in(&byte, &control);
	struct cmsghdr *header;
	int fd;

	assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), 1);
	header = CMSG_FIRSTHDR(&message);
	assert_non_null(header);
	assert_int_equal(header->cmsg_type, SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

static int make_and_pass(void *arg)
{
	const struct maker *maker = arg;

	pass_fd(maker->socket, maker->make(maker->arg));
	return 0;
}

int fd_from_child(int (*make)(void *arg), void *arg)
{
	struct maker maker = { .make = make, .arg = arg };
	int ends[2], fd;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	maker.socket = ends[1];
	assert_int_equal(gt_in_child(make_and_pass, &maker), 0);
	fd = receive_fd(ends[0]);
	close(ends[0]);
	close(ends[1]);
	return fd;
}
