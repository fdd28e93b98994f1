/* SPDX-License-Identifier: MIT */
#include "daemon.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gt.h"

#define UNCONFINED "without libseccomp"
#define NOTIFY "%s/notify"

static struct sockaddr_un name_of(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	return name;
}

/* --- files -------------------------------------------------------------------------------------------------------------- */

static void write_image(const char *path, const unsigned char *content, size_t length)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(content, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void make_place(struct daemon *daemon, const unsigned char *content, size_t length)
{
	struct sockaddr_un name;
	char path[48];

	strcpy(daemon->dir, "/tmp/daemon-XXXXXX");
	assert_non_null(mkdtemp(daemon->dir));
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->dir);
	snprintf(daemon->image, sizeof(daemon->image), "%s/image", daemon->dir);
	snprintf(path, sizeof(path), NOTIFY, daemon->dir);
	write_image(daemon->image, content, length);
	name = name_of(path);
	daemon->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	daemon->said = memfd_create("said", MFD_CLOEXEC);
	assert_true(daemon->said >= 0);
	assert_int_equal(bind(daemon->notify, (struct sockaddr *)&name, sizeof(name)), 0);
}

static void remove_place(struct daemon *daemon)
{
	static const char *const files[] = { "notify", "image", "socket", "socket.control" }; /* the last: where it was killed */
	char path[64];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", daemon->dir, files[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(daemon->dir), 0);
	close(daemon->notify);
	close(daemon->said);
}

static bool has_said(const struct daemon *daemon, const char *word)
{
	char text[8192] = "";
	ssize_t n = pread(daemon->said, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	return strstr(text, word);
}

/* --- the process -------------------------------------------------------------------------------------------------------- */

static void become(const struct daemon *daemon)
{
	char path[48], source[64];

	snprintf(path, sizeof(path), NOTIFY, daemon->dir);
	snprintf(source, sizeof(source), "file:%s", daemon->image);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails takes it along */
	setenv("NOTIFY_SOCKET", path, 1);
	dup2(daemon->said, STDERR_FILENO);
	execl(getenv("GMEM_PAGER"), "gmem-pager", "--socket", daemon->socket, "--source", source,
	      daemon->confined ? NULL : "--no-seccomp", NULL);
	perror(getenv("GMEM_PAGER"));
	_exit(127);
}

static void launch(struct daemon *daemon)
{
	daemon->pid = fork();
	assert_true(daemon->pid >= 0);
	if (daemon->pid == 0)
		become(daemon);
}

static int reap(struct daemon *daemon)
{
	int status;

	assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* False: it has ended before. */
static bool gets_ready(struct daemon *daemon)
{
	struct pollfd fds[2] = { { .fd = daemon->notify, .events = POLLIN },
				 { .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN } };
	char text[64] = "";

	assert_true(fds[1].fd >= 0);
	assert_true(poll(fds, 2, -1) > 0);
	close(fds[1].fd);
	if (!fds[0].revents)
		return false;
	assert_true(recv(daemon->notify, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "READY=1");
	return true;
}

static void not_started(struct daemon *daemon)
{
	char text[1000] = "";

	(void)!pread(daemon->said, text, sizeof(text) - 1, 0);
	fail_msg("gmem-pager did not start (%d): %s", reap(daemon), text);
}

static void assert_confined(const struct daemon *daemon)
{
	char path[64], line[200];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon->pid);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		found |= strcmp(line, daemon->confined ? "Seccomp:\t2\n" : "Seccomp:\t0\n") == 0;
	fclose(file);
	assert_true(found);
}

/* What the one before told of itself. */
static void forget_told(const struct daemon *daemon)
{
	char text[512];

	while (recv(daemon->notify, text, sizeof(text), MSG_DONTWAIT) >= 0)
		;
}

/* Some are built where there is no libseccomp, and say so. */
void daemon_start_next(struct daemon *daemon)
{
	forget_told(daemon);
	launch(daemon);
	if (!gets_ready(daemon)) {
		if (!daemon->confined || !has_said(daemon, UNCONFINED))
			not_started(daemon);
		assert_int_equal(reap(daemon), 1);
		daemon->confined = false;
		launch(daemon);
		if (!gets_ready(daemon))
			not_started(daemon);
	}
	assert_confined(daemon);
}

struct daemon daemon_start(const unsigned char *content, size_t length)
{
	struct daemon daemon = { .confined = true };

	if (!getenv("GMEM_PAGER") || !getenv("PAGER_TOOLS"))
		gt_skip("GMEM_PAGER and PAGER_TOOLS do not say where the daemon and its tools are");
	make_place(&daemon, content, length);
	daemon_start_next(&daemon);
	return daemon;
}

int daemon_connect(const struct daemon *daemon)
{
	struct sockaddr_un name = name_of(daemon->socket);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	return fd;
}

void daemon_kill(struct daemon *daemon)
{
	assert_int_equal(kill(daemon->pid, SIGKILL), 0);
	assert_int_equal(reap(daemon), 128 + SIGKILL);
}

void daemon_end(struct daemon *daemon, int status)
{
	assert_int_equal(kill(daemon->pid, SIGTERM), 0);
	assert_int_equal(reap(daemon), status);
	remove_place(daemon);
}

void daemon_serves(const struct daemon *daemon, const char *tool, const char *mode)
{
	char path[512];
	pid_t child;
	int status;

	snprintf(path, sizeof(path), "%s/%s", getenv("PAGER_TOOLS"), tool);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		execl(path, tool, daemon->socket, daemon->image, mode, NULL);
		perror(path);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}
