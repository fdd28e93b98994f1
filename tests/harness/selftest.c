/* SPDX-License-Identifier: MIT */
/* The harness, tried on itself: what it is there to find, it finds. With "--victims" the program is a group of tests that must
 * fail or skip, which the real tests run as a child. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"
#include "inject.h"

#define PAGE 4096ul

static void *volatile sink; /* keeps the compiler from removing an allocation that nobody uses */

/* Victims */

static int map_of(int fd, int flags)
{
	sink = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	return sink == MAP_FAILED ? -1 : 0;
}

static void leaks_fd(void **state)
{
	(void)state;
	assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static void leaks_mapping(void **state)
{
	int fd = memfd_create("victim", 0);

	(void)state;
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(map_of(fd, MAP_SHARED), 0);
	close(fd);
}

static void leaks_anonymous_mapping(void **state)
{
	(void)state;
	assert_int_equal(map_of(-1, MAP_PRIVATE | MAP_ANONYMOUS), 0);
}

static void leaks_allocation(void **state)
{
	(void)state;
	sink = calloc(3, 37);
}

static void closes_a_fd_of_others(void **state)
{
	(void)state;
	close(STDIN_FILENO);
}

static void fails_an_assertion(void **state)
{
	(void)state;
	assert_int_equal(1, 2);
}

static void skips_with_a_reason(void **state)
{
	(void)state;
	gt_skip("the %dth moon is missing", 42);
}

static void passes(void **state)
{
	assert_null(*state);
}

/* Long enough that a buffer would be full in the middle of a line. */
static int talk_and_be_killed(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		printf("  line %d of a child that is going to be killed\n", i);
	return raise(SIGKILL);
}

static void has_a_child_killed(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(talk_and_be_killed, NULL), 128 + SIGKILL);
}

static const struct gt_test victims[] = {
	GT(leaks_fd, GT_NEEDS_NOTHING),
	GT(leaks_mapping, GT_NEEDS_NOTHING),
	GT(leaks_anonymous_mapping, GT_NEEDS_NOTHING),
	GT(leaks_allocation, GT_NEEDS_NOTHING),
	GT(closes_a_fd_of_others, GT_NEEDS_NOTHING),
	GT(fails_an_assertion, GT_NEEDS_NOTHING),
	GT(skips_with_a_reason, GT_NEEDS_NOTHING),
	GT(passes, GT_NEEDS_NOTHING),
	GT(has_a_child_killed, GT_NEEDS_NOTHING),
};

static int exec_victim(void *name)
{
	unsetenv("CMOCKA_TEST_ABORT");
	execl("/proc/self/exe", "selftest", "--victims", (char *)name, (char *)NULL);
	return GT_CHILD_FAILED;
}

/* Runs one victim; its output must contain both texts. */
static void expect_of_victim(const char *name, int status, const char *one, const char *other)
{
	char *output;

	assert_int_equal(gt_child_output(exec_victim, (void *)(uintptr_t)name, &output), status);
	if (!strstr(output, one) || !strstr(output, other))
		fail_msg("\"%s\" or \"%s\" is not in: %s", one, other, output);
	assert_non_null(strstr(output, "# PLAN 1\n"));
	free(output);
}

/* Results and leaks */

static void leaked_fd_is_found(void **state)
{
	(void)state;
	expect_of_victim("leaks_fd", 1, "# FAIL leaks_fd\n", "left open: fd ");
}

static void leaked_mapping_is_found(void **state)
{
	(void)state;
	expect_of_victim("leaks_mapping", 1, "# FAIL leaks_mapping\n", "/memfd:victim");
	expect_of_victim("leaks_anonymous_mapping", 1, "# FAIL leaks_anonymous", "anonymous mmap() of 4096 bytes");
}

static void leaked_allocation_is_found(void **state)
{
	(void)state;
	expect_of_victim("leaks_allocation", 1, "# FAIL leaks_allocation\n", "calloc() of 111 bytes");
}

static void lost_fd_is_found(void **state)
{
	(void)state;
	expect_of_victim("closes_a_fd", 1, "# FAIL closes_a_fd_of_others\n", "was there before: fd 0 ->");
}

static void failure_is_reported(void **state)
{
	(void)state;
	expect_of_victim("fails_an", 1, "# FAIL fails_an_assertion\n", "0x1 != 0x2");
}

static void skip_is_reported_with_its_reason(void **state)
{
	(void)state;
	expect_of_victim("skips", 0, "# SKIP skips_with_a_reason: the 42th moon is missing\n", "");
}

static void pass_is_reported(void **state)
{
	(void)state;
	expect_of_victim("passes", 0, "# PASS passes\n", "");
}

static void snapshot_sees_a_replaced_fd(void **state)
{
	int fd = open("/dev/null", O_RDONLY), zero = open("/dev/zero", O_RDONLY);
	struct gt_snapshot *before = gt_snapshot();

	(void)state;
	assert_int_equal(dup2(zero, fd), fd);
	assert_int_equal(gt_leaks(before), 2); /* one came, one went */
	close(fd);
	close(zero);
}

/* Children */

static int return_seven(void *arg)
{
	(void)arg;
	return 7;
}

static int fail_assertion(void *arg)
{
	assert_null(arg);
	return 0;
}

static void killed_child_leaves_whole_lines(void **state)
{
	(void)state;
	expect_of_victim("has_a_child_killed", 0, "\n# PASS has_a_child_killed\n",
			 "line 999 of a child that is going to be killed\n");
}

static int touch_nothing(void *arg)
{
	*(volatile int *)arg = 1;
	return 0;
}

static int kill_self(void *arg)
{
	(void)arg;
	return raise(SIGKILL);
}

static int skip_in_child(void *arg)
{
	(void)arg;
	gt_skip("no");
}

/* What the child says of its failures is expected here, and nobody's business. */
static int quiet_child(int (*fn)(void *arg), void *arg)
{
	char *output;
	int status = gt_child_output(fn, arg, &output);

	free(output);
	return status;
}

static void child_returns_its_end(void **state)
{
	assert_int_equal(gt_in_child(return_seven, NULL), 7);
	assert_int_equal(quiet_child(fail_assertion, state), GT_CHILD_FAILED);
	assert_int_equal(quiet_child(fail_assertion, NULL), 0);
	assert_int_equal(quiet_child(kill_self, NULL), 128 + SIGKILL);
	assert_int_equal(quiet_child(skip_in_child, NULL), GT_CHILD_FAILED);
	assert_int_not_equal(quiet_child(touch_nothing, (void *)8), 0);
}

static int check_user(void *arg)
{
	(void)arg;
	assert_int_equal(getuid(), GT_NOBODY);
	assert_int_equal(setuid(0), -1);
	assert_non_null(strstr(gt_missing(GT_NEEDS_ROOT), "running as uid 65534"));
	gt_assert_nothing_leaked(gt_snapshot()); /* /proc/self can be read */
	return 0;
}

static void user_is_ordinary(void **state)
{
	(void)state;
	assert_int_equal(gt_as_user(GT_NOBODY, check_user, NULL), 0);
}

static const struct gt_test tests[] = {
	GT(leaked_fd_is_found, GT_NEEDS_NOTHING),
	GT(leaked_mapping_is_found, GT_NEEDS_NOTHING),
	GT(leaked_allocation_is_found, GT_NEEDS_NOTHING),
	GT(lost_fd_is_found, GT_NEEDS_NOTHING),
	GT(failure_is_reported, GT_NEEDS_NOTHING),
	GT(skip_is_reported_with_its_reason, GT_NEEDS_NOTHING),
	GT(pass_is_reported, GT_NEEDS_NOTHING),
	GT(snapshot_sees_a_replaced_fd, GT_NEEDS_NOTHING),
	GT(killed_child_leaves_whole_lines, GT_NEEDS_NOTHING),
	GT(child_returns_its_end, GT_NEEDS_NOTHING),
	GT(user_is_ordinary, GT_NEEDS_ORDINARY_USER),
};

int main(int argc, char **argv)
{
	bool as_victim = argc > 1 && strcmp(argv[1], "--victims") == 0;

	gt_set_filter(argc > 1 + as_victim ? argv[1 + as_victim] : NULL);
	if (as_victim)
		return gt_main("victims", victims, sizeof(victims) / sizeof(victims[0]));
	return gt_main("selftest", tests, sizeof(tests) / sizeof(tests[0]));
}
