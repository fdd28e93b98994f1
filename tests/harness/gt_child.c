/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gt.h"
#include "gt_int.h"

struct piece {
	int (*fn)(void *arg);
	void *arg;
	unsigned int uid;
	int output; /* where stdout and stderr go, -1 = where they went */
};

static bool in_child;

static void end_child(int status)
{
	fflush(NULL);
	_exit(status);
}

static void aborted(int signal)
{
	(void)signal;
	_exit(GT_CHILD_FAILED);
}

void gt_child_must_not(const char *what, const char *why)
{
	if (!in_child)
		return;
	fprintf(stderr, "%s in a child: %s\n", what, why);
	end_child(GT_CHILD_FAILED);
}

/* cmocka's assertions jump to the runner, which a child shares with its parent: it would go on with the rest of the tests.
 * Asked to, they print and abort instead. */
static void become_child(void)
{
	in_child = true;
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	signal(SIGABRT, aborted);
}

static int run_piece(void *arg)
{
	const struct piece *piece = arg;

	return piece->fn(piece->arg);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int gt_in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid;

	fflush(NULL); /* or both would print it */
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0)
		return wait_for(pid);
	become_child();
	end_child(fn(arg) & 0xff);
	return GT_CHILD_FAILED;
}

/* Files of /proc/self belong to root in a process that changed its uid, until it says that it may be looked at. */
static int run_as_user(void *arg)
{
	const struct piece *piece = arg;
	unsigned int uid = piece->uid;

	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) || prctl(PR_SET_DUMPABLE, 1)) {
		perror("becoming an ordinary user");
		return GT_CHILD_FAILED;
	}
	return run_piece(arg);
}

int gt_as_user(unsigned int uid, int (*fn)(void *arg), void *arg)
{
	struct piece piece = { .fn = fn, .arg = arg, .uid = uid, .output = -1 };

	return gt_in_child(run_as_user, &piece);
}

static int run_redirected(void *arg)
{
	const struct piece *piece = arg;

	if (dup2(piece->output, STDOUT_FILENO) < 0 || dup2(piece->output, STDERR_FILENO) < 0)
		return GT_CHILD_FAILED;
	return run_piece(arg);
}

static char *read_all(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *text;

	assert_true(size >= 0);
	text = malloc((size_t)size + 1);
	assert_non_null(text);
	assert_int_equal(pread(fd, text, (size_t)size, 0), size);
	text[size] = '\0';
	return text;
}

int gt_child_output(int (*fn)(void *arg), void *arg, char **text)
{
	struct piece piece = { .fn = fn, .arg = arg };
	int status;

	/* A memfd, not a pipe: nobody has to read while the child writes. */
	piece.output = memfd_create("gt-output", MFD_CLOEXEC);
	assert_true(piece.output >= 0);
	status = gt_in_child(run_redirected, &piece);
	*text = read_all(piece.output);
	close(piece.output);
	return status;
}
