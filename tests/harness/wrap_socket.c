/* SPDX-License-Identifier: MIT */
/* The wrapped calls on sockets, which the stand-in kernel has none of. */
#include "wrap.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

int __real_accept4(int fd, struct sockaddr *name, socklen_t *length, int flags);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);

int __wrap_accept4(int fd, struct sockaddr *name, socklen_t *length, int flags)
{
	return inject_point(INJECT_ACCEPT, 0) ? -1 : __real_accept4(fd, name, length, flags);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	return inject_point(INJECT_SETSOCKOPT, (unsigned long)name) ? -1 : __real_setsockopt(fd, level, name, value, length);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	return inject_point(INJECT_GETSOCKOPT, (unsigned long)name) ? -1 : __real_getsockopt(fd, level, name, value, length);
}

int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	return inject_point(INJECT_PPOLL, 0) ? -1 : __real_ppoll(fds, count, timeout, mask);
}

/* Half of the length is half of the first part: packets do not lose the rest, because messages here have one part and tests
 * with packets do not ask for halves. */
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct iovec part = message->msg_iov[0];
	struct msghdr shorter = *message;
	ssize_t result;

	shorter.msg_iov = &part;
	if (inject_point_short(INJECT_RECVMSG, &part.iov_len))
		return -1;
	result = __real_recvmsg(fd, &shorter, flags);
	message->msg_controllen = shorter.msg_controllen;
	message->msg_flags = shorter.msg_flags;
	return result;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct iovec part = message->msg_iov[0];
	struct msghdr shorter = *message;

	shorter.msg_iov = &part;
	return inject_point_short(INJECT_SENDMSG, &part.iov_len) ? -1 : __real_sendmsg(fd, &shorter, flags);
}
