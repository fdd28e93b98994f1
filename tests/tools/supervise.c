/* SPDX-License-Identifier: MIT */
/* What a service manager does for a daemon, with everything that happens told on stdout, one line each, so that a test can
 * wait for it: PID, what comes on NOTIFY_SOCKET, and END with the exit status, or 128 and the signal.
 *
 *     supervise NOTIFY-SOCKET LISTEN-SOCKET|- PROGRAM [ARGUMENT]...
 *
 * A NOTIFY-SOCKET that begins with '@' has no file. With LISTEN-SOCKET the program is handed that socket and a second one,
 * LISTEN-SOCKET.control. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(2);
}

static int bound(int type, const char *path, const char *suffix)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s%s", path, suffix);

	need(fd >= 0 && n > 0 && (size_t)n < sizeof(address.sun_path), "the socket's path");
	if (address.sun_path[0] == '@')
		address.sun_path[0] = '\0';
	need(bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)) == 0, path);
	return fd;
}

/* fds from 3 on, as sd_listen_fds(3) has them. */
static void hand_in(const char *path)
{
	char pid[20];
	int vms = bound(SOCK_STREAM, path, ""), control = bound(SOCK_STREAM, path, ".control");

	need(listen(vms, 8) == 0 && listen(control, 8) == 0, "listen");
	vms = dup2(vms, 13);
	control = dup2(control, 14);
	need(dup2(vms, 3) == 3 && dup2(control, 4) == 4, "dup2");
	closefrom(5);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_FDNAMES", "vms:control", 1);
}

static void become(char **argv)
{
	setenv("NOTIFY_SOCKET", argv[1], 1);
	if (strcmp(argv[2], "-") != 0)
		hand_in(argv[2]);
	else
		closefrom(3);
	execv(argv[3], argv + 3);
	need(0, argv[3]);
}

static void tell(int notify)
{
	char text[512];
	ssize_t n;

	while ((n = recv(notify, text, sizeof(text), MSG_DONTWAIT)) > 0)
		need(printf("%.*s\n", (int)n, text) > 0 && fflush(stdout) == 0, "stdout");
}

static int end(pid_t child)
{
	int status;

	need(waitpid(child, &status, 0) == child, "waitpid");
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	printf("END %d\n", status);
	return status;
}

int main(int argc, char **argv)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
	pid_t child;

	if (argc < 4)
		return 2;
	fds[0].fd = bound(SOCK_DGRAM, argv[1], "");
	child = fork();
	need(child >= 0, "fork");
	if (child == 0)
		become(argv);
	fds[1].fd = (int)syscall(SYS_pidfd_open, child, 0);
	need(fds[1].fd >= 0, "pidfd_open");
	need(printf("PID %d\n", (int)child) > 0 && fflush(stdout) == 0, "stdout");
	while (!fds[1].revents) {
		need(poll(fds, 2, -1) > 0 || errno == EINTR, "poll");
		tell(fds[0].fd);
	}
	return end(child);
}
