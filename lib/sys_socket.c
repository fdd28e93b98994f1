/* SPDX-License-Identifier: MIT */
/* System calls on sockets. */
#include "sys.h"

#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sys_int.h"

#define NANOSECONDS UINT64_C(1000000000)
#define PEER_PIDFD 77 /* SO_PEERPIDFD, kernel 6.5 */
#define PIDFD 4       /* SCM_PIDFD, kernel 6.5: a fd that the owner of the socket asked for (SO_PASSPIDFD) */

/* Room for the fds, for the sender's credentials and label where the owner of the socket wants them, and nothing more: who
 * sends more fds has them closed by the kernel, and not put into this process. */
union control {
	struct cmsghdr header;
	unsigned char room[CMSG_SPACE(GMEMI_RECEIVED * sizeof(int)) + CMSG_SPACE(3 * sizeof(int)) + CMSG_SPACE(sizeof(int)) +
			   CMSG_SPACE(256)];
};

/* Rounding makes room for more than was asked for, so what came is counted, not what may come. */
static void take_fds(const struct cmsghdr *header, struct gmemi_received *received, bool wanted)
{
	size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
		if (wanted && received->count < GMEMI_RECEIVED) {
			received->fds[received->count++] = gmemi_sys_raised(fd);
			continue;
		}
		gmemi_sys_close(fd);
		received->cut = received->cut || wanted;
	}
}

static void take_sender(const struct cmsghdr *header, struct gmemi_received *received)
{
	struct ucred sender;

	if (header->cmsg_len < CMSG_LEN(sizeof(sender)))
		return;
	memcpy(&sender, CMSG_DATA(header), sizeof(sender));
	received->sender = (uint32_t)sender.pid;
}

/* By hand: libc's own macros for it convert signs in ways that compilers warn of. */
static void take_control(const union control *control, size_t length, struct gmemi_received *received)
{
	size_t at = 0;

	while (length - at >= sizeof(struct cmsghdr)) {
		const struct cmsghdr *header = (const void *)(control->room + at);
		size_t size = CMSG_ALIGN((size_t)header->cmsg_len);

		if (header->cmsg_len < sizeof(*header) || header->cmsg_len > length - at)
			return;
		if (header->cmsg_level == SOL_SOCKET && (header->cmsg_type == SCM_RIGHTS || header->cmsg_type == PIDFD))
			take_fds(header, received, header->cmsg_type == SCM_RIGHTS);
		else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS)
			take_sender(header, received);
		if (size > length - at) /* the last one need not be rounded */
			return;
		at += size;
	}
}

int64_t gmemi_sys_receive(int fd, void *buffer, size_t room, struct gmemi_received *received)
{
	union control control;
	struct iovec part = { .iov_base = buffer, .iov_len = room };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t r;

	received->count = received->sender = 0;
	do
		r = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (r == -1 && errno == EINTR);
	if (r < 0)
		return gmemi_amount(r, room);
	received->cut = message.msg_flags & (MSG_CTRUNC | MSG_TRUNC);
	take_control(&control, message.msg_controllen, received);
	return gmemi_amount(r, room);
}

int64_t gmemi_sys_send(int fd, const void *data, size_t length, const int *fds, uint32_t count)
{
	union control control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { .iov_base = (void *)(uintptr_t)data, .iov_len = length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t r;

	if (count) {
		control.header.cmsg_len = (socklen_t)CMSG_LEN(count * sizeof(*fds));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(*fds));
		message.msg_control = &control;
		message.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof(*fds));
	}
	do
		r = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r == -1 && errno == EINTR);
	return gmemi_amount(r, length);
}

int gmemi_sys_shutdown(int fd)
{
	return gmemi_nothing(shutdown(fd, SHUT_RDWR));
}

int gmemi_sys_shutdown_sending(int fd)
{
	return gmemi_nothing(shutdown(fd, SHUT_WR));
}

static int option(int fd, int name, void *value, size_t size)
{
	socklen_t length = (socklen_t)size;
	int r = gmemi_nothing(getsockopt(fd, SOL_SOCKET, name, value, &length));

	return r == 0 && length != size ? -EIO : r;
}

int gmemi_sys_socket(int fd, struct gmemi_socket *about)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);
	struct ucred peer;
	int domain, type, listens, r = option(fd, SO_DOMAIN, &domain, sizeof(domain));

	if (r == 0)
		r = option(fd, SO_TYPE, &type, sizeof(type));
	if (r == 0)
		r = option(fd, SO_PEERCRED, &peer, sizeof(peer));
	if (r == 0)
		r = option(fd, SO_ACCEPTCONN, &listens, sizeof(listens));
	if (r < 0)
		return r;
	*about = (struct gmemi_socket){
		.unix_domain = domain == AF_UNIX,
		.stream = type == SOCK_STREAM,
		.packets = type == SOCK_SEQPACKET,
		.connected = getpeername(fd, (struct sockaddr *)&name, &length) == 0,
		.listens = listens != 0,
		.pid = (uint32_t)peer.pid,
		.uid = (uint32_t)peer.uid,
		.gid = (uint32_t)peer.gid,
	};
	return 0;
}

int gmemi_sys_ask_sender(int fd)
{
	int on = 1;

	return gmemi_nothing(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

int gmemi_sys_watch_peer(int fd)
{
	int pidfd, r = option(fd, PEER_PIDFD, &pidfd, sizeof(pidfd));

	return r < 0 ? r : gmemi_moved_up(pidfd); /* close-on-exec by itself */
}

int gmemi_sys_watch_process(uint32_t process)
{
	return gmemi_moved_up(syscall(SYS_pidfd_open, (pid_t)process, 0)); /* ditto */
}

int gmemi_sys_accept(int fd)
{
	int r;

	do
		r = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	while (r == -1 && errno == EINTR);
	return gmemi_moved_up(r);
}

int gmemi_sys_wait_socket(int fd, bool to_write, uint64_t timeout_ns)
{
	struct pollfd one = { .fd = fd, .events = to_write ? POLLOUT : POLLIN };
	struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / NANOSECONDS), .tv_nsec = (long)(timeout_ns % NANOSECONDS) };
	int64_t r = gmemi_amount(ppoll(&one, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL), 1);

	return r == 0 ? -ETIMEDOUT : r < 0 ? (int)r : 0;
}
