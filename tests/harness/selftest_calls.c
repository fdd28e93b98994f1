/* SPDX-License-Identifier: MIT */
/* The injector on calls that say their failure in another way, or share one entry of libc. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gt.h"
#include "inject.h"
#include "wrap.h"

#define FACCESSAT2 439
#define CACHESTAT 451

static void expect(const char *where, long result, int error)
{
	int found = errno;

	assert_int_equal(inject_disarm(), 1);
	assert_string_equal(inject_where(), where);
	assert_int_equal(result, -1);
	assert_int_equal(found, error);
}

static void reading_a_link_fails(void **state)
{
	char name[PATH_MAX];

	(void)state;
	inject_arm(1, EACCES);
	expect("readlink", readlink("/proc/self/exe", name, sizeof(name)), EACCES);
	assert_true(readlink("/proc/self/exe", name, sizeof(name)) > 0);
}

static void making_a_pipe_fails_and_makes_none(void **state)
{
	int ends[2] = { -7, -7 };

	(void)state;
	inject_arm(1, EMFILE);
	expect("pipe2", pipe2(ends, O_CLOEXEC), EMFILE);
	assert_int_equal(ends[0] + ends[1], -14);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]);
	close(ends[1]);
}

static void splicing_fails_or_does_half(void **state)
{
	int ends[2], file = memfd_create("splice", MFD_CLOEXEC);
	off_t from = 0;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(ftruncate(file, 4096), 0);
	inject_arm(1, EIO);
	expect("splice", splice(file, &from, ends[1], NULL, 4096, 0), EIO);
	assert_int_equal(from, 0);
	inject_arm(1, INJECT_SHORT);
	assert_int_equal(splice(file, &from, ends[1], NULL, 4096, 0), 2048);
	inject_disarm();
	assert_int_equal(from, 2048);
	assert_int_equal(splice(file, &from, ends[1], NULL, 4096, 0), 2048);
	close(ends[0]);
	close(ends[1]);
	close(file);
}

static void *say_that_it_ran(void *arg)
{
	*(bool *)arg = true;
	return arg;
}

/* The result is the error, and errno means nothing. */
static void making_a_thread_fails_and_makes_none(void **state)
{
	bool ran = false;
	pthread_t thread;
	void *result;

	(void)state;
	inject_arm(1, EAGAIN);
	assert_int_equal(pthread_create(&thread, NULL, say_that_it_ran, &ran), EAGAIN);
	assert_int_equal(inject_disarm(), 1);
	assert_string_equal(inject_where(), "pthread_create");
	assert_false(ran);
	assert_int_equal(pthread_create(&thread, NULL, say_that_it_ran, &ran), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_true(ran && result == &ran);
}

static void system_calls_go_by_their_names(void **state)
{
	uint64_t range[2] = { 0 }, found[5];
	int file = memfd_create("calls", MFD_CLOEXEC);

	(void)state;
	inject_arm(1, EPERM);
	expect("cachestat", syscall(CACHESTAT, file, range, found, 0), EPERM);
	inject_arm(1, EIO);
	expect("mbind", syscall(SYS_mbind, NULL, 0ul, 0, NULL, 0ul, 0), EIO);
	inject_arm(1, EACCES);
	expect("faccessat2", syscall(FACCESSAT2, file, "", W_OK, AT_EMPTY_PATH), EACCES);
	inject_arm(1, ENOSYS);
	expect("syscall", syscall(SYS_gettid), ENOSYS);
	assert_int_equal(syscall(SYS_gettid), gettid());
	close(file);
}

static unsigned int variants_at(void (*call)(void *arg), void *arg)
{
	inject_arm_variant(1, 0);
	call(arg);
	inject_disarm();
	return inject_variants();
}

static void ask_cache(void *arg)
{
	(void)arg;
	syscall(CACHESTAT, -1, NULL, NULL, 0);
}

static void make_thread(void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, say_that_it_ran, arg), EAGAIN);
}

/* Half of it is the first of seven. */
static void splice_nothing(void *arg)
{
	(void)arg;
	assert_int_equal(splice(-1, NULL, -1, NULL, 2, 0), -1);
	assert_int_equal(errno, EBADF);
}

static void each_call_has_errors_of_its_own(void **state)
{
	bool ran = false;

	(void)state;
	assert_int_equal(variants_at(ask_cache, NULL), 3);
	assert_int_equal(variants_at(make_thread, &ran), 2);
	assert_int_equal(variants_at(splice_nothing, NULL), 7);
	assert_false(ran);
}

static const struct gt_test tests[] = {
	GT(reading_a_link_fails, GT_NEEDS_NOTHING),
	GT(making_a_pipe_fails_and_makes_none, GT_NEEDS_NOTHING),
	GT(splicing_fails_or_does_half, GT_NEEDS_NOTHING),
	GT(making_a_thread_fails_and_makes_none, GT_NEEDS_NOTHING),
	GT(system_calls_go_by_their_names, GT_NEEDS_NOTHING),
	GT(each_call_has_errors_of_its_own, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_calls", tests)
