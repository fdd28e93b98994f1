/* SPDX-License-Identifier: MIT */
/* gmem-pager: the control socket. Whoever connects gets two files, the table and the JSON object, and nothing is read from
 * him: so nobody can hold up the daemon, however slowly he reads. */
#include "gmem-pager.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES 2

union fd_space {
	struct cmsghdr header;
	char room[CMSG_SPACE(FILES * sizeof(int))];
};

/* --- the daemon's end --------------------------------------------------------------------------------------------------- */

static FILE *write_report(struct pager_daemon *daemon, int (*print)(FILE *out, struct pager_daemon *daemon))
{
	int fd = memfd_create("gmem-pager", MFD_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w+");

	if (!file && fd >= 0)
		close(fd);
	if (file && (print(file, daemon) < 0 || fflush(file) || lseek(fd, 0, SEEK_SET) < 0)) {
		fclose(file);
		return NULL;
	}
	return file;
}

static int send_files(int fd, FILE *const files[FILES])
{
	union fd_space space = { 0 };
	char byte = 'r';
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof(space) };
	int fds[FILES];

	for (int i = 0; i < FILES; i++) {
		if (!files[i])
			return -ENOMEM;
		fds[i] = fileno(files[i]);
	}
	space.header.cmsg_level = SOL_SOCKET;
	space.header.cmsg_type = SCM_RIGHTS;
	space.header.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&space.header), fds, sizeof(fds));
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static void answer(struct pager_daemon *daemon, int fd)
{
	FILE *files[FILES] = { write_report(daemon, pager_print_table), write_report(daemon, pager_print_json) };
	int r = send_files(fd, files);

	if (r < 0)
		pager_complain(r, "the status cannot be told: %s", strerror(-r));
	for (int i = 0; i < FILES; i++)
		if (files[i])
			fclose(files[i]);
}

void pager_answer_status(struct pager_daemon *daemon)
{
	int fd = accept4(daemon->sockets.control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return; /* he has gone again, or comes once more */
	if (may_ask(fd))
		answer(daemon, fd);
	close(fd);
}

/* --- the other end ------------------------------------------------------------------------------------------------------ */

static int connect_to(const char *path)
{
	struct sockaddr_un address;
	int r = pager_address(path, &address);
	int fd = r < 0 ? r : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (r < 0)
		return r;
	if (fd < 0)
		return pager_complain(-errno, "a socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = pager_complain(-errno, "%s: %s; is gmem-pager running?", path, strerror(errno));
	close(fd);
	return r;
}

static int receive_files(int fd, int fds[FILES])
{
	union fd_space space;
	char byte;
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof(space) };
	const struct cmsghdr *header;

	if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1)
		return pager_complain(-EACCES, "there is no answer: this user may not ask, or the pager is ending");
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(FILES * sizeof(int)))
		return pager_complain(-EPROTO, "this is no answer of gmem-pager");
	memcpy(fds, CMSG_DATA(header), FILES * sizeof(int));
	return 0;
}

static int copy_out(int fd)
{
	char buffer[4096];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, (size_t)n, stdout);
	if (n < 0 || fflush(stdout) || ferror(stdout))
		return pager_complain(-EIO, "the status cannot be printed: %s", strerror(errno));
	return 0;
}

int pager_ask_status(const struct pager_request *request)
{
	char path[PATH_MAX];
	int fds[FILES], fd, r;

	snprintf(path, sizeof(path), "%s%s", request->control ? request->control : request->socket,
		 request->control ? "" : ".control");
	fd = connect_to(path);
	if (fd < 0)
		return fd;
	r = receive_files(fd, fds);
	close(fd);
	if (r < 0)
		return r;
	r = copy_out(fds[request->json]);
	for (int i = 0; i < FILES; i++)
		close(fds[i]);
	return r;
}
