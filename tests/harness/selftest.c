/* SPDX-License-Identifier: MIT */
/* The harness, tried on itself: what it is there to find, it finds. With "--victims" the program is a group of tests that must fail
 * or skip, which the real tests run as a child. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

static const struct gt_test victims[] = {
	GT(leaks_fd, GT_NEEDS_NOTHING),
	GT(leaks_mapping, GT_NEEDS_NOTHING),
	GT(leaks_anonymous_mapping, GT_NEEDS_NOTHING),
	GT(leaks_allocation, GT_NEEDS_NOTHING),
	GT(closes_a_fd_of_others, GT_NEEDS_NOTHING),
	GT(fails_an_assertion, GT_NEEDS_NOTHING),
	GT(skips_with_a_reason, GT_NEEDS_NOTHING),
	GT(passes, GT_NEEDS_NOTHING),
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

/* Injection */

static int sequence(void *arg)
{
	int fd = memfd_create("sequence", MFD_CLOEXEC);
	int failed = 0, high;

	(void)arg;
	failed += fd < 0;
	failed += ftruncate(fd, PAGE) != 0;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	failed += high < 0;
	failed += lseek(high, 0, SEEK_END) != PAGE;
	failed += map_of(high, MAP_SHARED) != 0;
	failed += munmap(sink, PAGE) != 0;
	sink = calloc(1, 8);
	failed += !sink;
	free(sink);
	failed += close(high) != 0;
	failed += close(fd) != 0;
	return failed;
}

static const char *const sequence_names[] = { "memfd_create", "ftruncate", "fcntl", "lseek", "mmap", "munmap", "calloc", "close", "close" };
#define SEQUENCE (sizeof(sequence_names) / sizeof(sequence_names[0]))

static void each_point_fires(void **state)
{
	(void)state;
	for (unsigned long n = 1; n <= SEQUENCE; n++) {
		inject_arm(n, EPERM);
		assert_true(sequence(NULL) > 0);
		assert_int_equal(inject_disarm(), SEQUENCE);
		assert_true(inject_fired());
		assert_string_equal(inject_where(), sequence_names[n - 1]);
	}
}

static void point_beyond_the_last_does_not_fire(void **state)
{
	(void)state;
	for (unsigned long n = 0; n <= SEQUENCE + 1; n += SEQUENCE + 1) {
		inject_arm(n, EPERM);
		assert_int_equal(sequence(NULL), 0);
		assert_int_equal(inject_disarm(), SEQUENCE);
		assert_false(inject_fired());
		assert_string_equal(inject_where(), "");
	}
}

static void failing_close_closes(void **state)
{
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	inject_arm(1, EINTR);
	assert_int_equal(close(fd), -1);
	assert_int_equal(errno, EINTR);
	inject_disarm();
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(errno, EBADF);
}

static void failing_munmap_is_made_good(void **state)
{
	unsigned char vector;

	(void)state;
	assert_int_equal(map_of(-1, MAP_PRIVATE | MAP_ANONYMOUS), 0);
	inject_arm(1, ENOMEM);
	assert_int_equal(munmap(sink, PAGE), -1);
	assert_int_equal(errno, ENOMEM);
	*(volatile int *)sink = 1; /* still there */
	inject_disarm();
	assert_int_equal(mincore(sink, PAGE, &vector), -1);
	assert_int_equal(errno, ENOMEM);
}

static void reused_range_is_not_unmapped(void **state)
{
	(void)state;
	assert_int_equal(map_of(-1, MAP_PRIVATE | MAP_ANONYMOUS), 0);
	inject_arm(1, ENOMEM);
	assert_int_equal(munmap(sink, PAGE), -1);
	assert_ptr_equal(mmap(sink, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), sink);
	inject_disarm();
	*(volatile int *)sink = 1;
	assert_int_equal(munmap(sink, PAGE), 0);
}

static void short_counts_do_half(void **state)
{
	char buffer[64] = "";
	int fd = memfd_create("short", MFD_CLOEXEC);

	(void)state;
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(pwrite(fd, buffer, 64, 0), 32);
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(pread(fd, buffer, 32, 0), 16);
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(read(fd, buffer, 1), 1); /* half of one is one: 0 would be the end */
	inject_disarm();
	close(fd);
}

static void paused_calls_do_not_count(void **state)
{
	(void)state;
	inject_arm(1, EPERM);
	inject_pause();
	inject_pause();
	inject_resume();
	assert_int_equal(sequence(NULL), 0);
	inject_resume();
	inject_exempt_thread(true);
	assert_int_equal(sequence(NULL), 0);
	inject_exempt_thread(false);
	assert_int_equal(sequence(NULL) > 0, 1);
	assert_int_equal(inject_disarm(), SEQUENCE);
}

static void live_allocations_are_counted(void **state)
{
	size_t before = inject_live_allocations();
	void *volatile one = calloc(1, 1), *volatile two = calloc(2, 2), *volatile stranger = malloc(1);

	(void)state;
	assert_int_equal(inject_live_allocations(), before + 2);
	free(one);
	free(stranger); /* never seen before: no business of the ledger's */
	assert_int_equal(inject_live_allocations(), before + 1);
	free(two);
	assert_int_equal(inject_live_allocations(), before);
}

#define THREADS 4
#define ROUNDS 500

static void *allocate_a_lot(void *arg)
{
	void *volatile memory;

	for (int i = 0; i < ROUNDS; i++) {
		memory = calloc(1, 16);
		free(memory);
	}
	return arg;
}

static void threads_are_counted_exactly(void **state)
{
	pthread_t threads[THREADS];
	size_t before = inject_live_allocations();

	(void)state;
	inject_pause();
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_a_lot, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	inject_resume();
	inject_arm(THREADS * ROUNDS, ENOMEM);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_a_lot, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(inject_disarm(), THREADS * ROUNDS);
	assert_string_equal(inject_where(), "calloc");
	assert_int_equal(inject_live_allocations(), before);
}

/* The driver */

/* Three points, all cleaned up after. */
static int careful(void *arg)
{
	void *volatile memory = calloc(1, 100);
	int fd, result = -1;

	if (!memory)
		return -1;
	fd = memfd_create("careful", MFD_CLOEXEC);
	if (fd >= 0) {
		result = 0;
		close(fd);
	}
	inject_pause();
	free(memory);
	close(open("/dev/null", O_RDONLY));
	inject_resume();
	++*(int *)arg;
	return result;
}

/* Forgets the memory when the second call fails. */
static int careless(void *arg)
{
	void *volatile memory = calloc(1, 100);
	int fd;

	(void)arg;
	if (!memory)
		return -1;
	fd = memfd_create("careless", MFD_CLOEXEC);
	if (fd < 0)
		return -1;
	close(fd);
	free(memory);
	return 0;
}

static int always_fails(void *arg)
{
	(void)arg;
	return -EINVAL;
}

static int return_nothing_done(void *arg)
{
	(void)arg;
	return 0;
}

static int drive(void *body)
{
	int (*fn)(void *arg);

	memcpy(&fn, body, sizeof(fn));
	inject_each(fn, NULL);
	return 0;
}

static void driver_goes_through_every_point(void **state)
{
	int complete = 0;

	(void)state;
	assert_int_equal(inject_each(careful, &complete), 3);
	/* calloc: one error, one run cut short. memfd_create: 5. close: 2. One run counts only, and one has no failure left. */
	assert_int_equal(complete, 5 + 2 + 1 + 1);
	assert_false(inject_fired());
}

static void expect_of_driver(int (*body)(void *arg), const char *text)
{
	char *output;

	assert_int_equal(gt_child_output(drive, &body, &output), GT_CHILD_FAILED);
	if (!strstr(output, text))
		fail_msg("\"%s\" is not in: %s", text, output);
	free(output);
}

static void driver_names_the_leaking_point(void **state)
{
	(void)state;
	expect_of_driver(careless, "failure point 2, memfd_create(0x1) with Too many open files: 1 leaked");
	expect_of_driver(always_fails, "the body returned -22 though no call was made to fail");
	expect_of_driver(return_nothing_done, "no failure point at all");
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
	GT(child_returns_its_end, GT_NEEDS_NOTHING),
	GT(user_is_ordinary, GT_NEEDS_ORDINARY_USER),
	GT(each_point_fires, GT_NEEDS_NOTHING),
	GT(point_beyond_the_last_does_not_fire, GT_NEEDS_NOTHING),
	GT(failing_close_closes, GT_NEEDS_NOTHING),
	GT(failing_munmap_is_made_good, GT_NEEDS_NOTHING),
	GT(reused_range_is_not_unmapped, GT_NEEDS_NOTHING),
	GT(short_counts_do_half, GT_NEEDS_NOTHING),
	GT(paused_calls_do_not_count, GT_NEEDS_NOTHING),
	GT(live_allocations_are_counted, GT_NEEDS_NOTHING),
	GT(threads_are_counted_exactly, GT_NEEDS_NOTHING),
	GT(driver_goes_through_every_point, GT_NEEDS_NOTHING),
	GT(driver_names_the_leaking_point, GT_NEEDS_NOTHING),
};

int main(int argc, char **argv)
{
	bool as_victim = argc > 1 && strcmp(argv[1], "--victims") == 0;

	gt_set_filter(argc > 1 + as_victim ? argv[1 + as_victim] : NULL);
	if (as_victim)
		return gt_main("victims", victims, sizeof(victims) / sizeof(victims[0]));
	return gt_main("selftest", tests, sizeof(tests) / sizeof(tests[0]));
}
