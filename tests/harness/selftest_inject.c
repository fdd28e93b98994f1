/* SPDX-License-Identifier: MIT */
/* The injector and its driver, tried on calls of the test's own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"
#include "inject.h"

#define PAGE 4096ul

static void *volatile sink; /* keeps the compiler from removing what nobody uses */

static int map_of(int fd, int flags)
{
	sink = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	return sink == MAP_FAILED ? -1 : 0;
}

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

static const char *const sequence_names[] = {
	"memfd_create", "ftruncate", "fcntl", "lseek", "mmap", "munmap", "calloc", "close", "close",
};
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
	inject_exempt_thread(true);
	inject_arm(THREADS * ROUNDS, ENOMEM);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_a_lot, NULL), 0);
	inject_exempt_thread(false);
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

/* What a body leaked on purpose, for the test to free. */
static void *remembered[8];
static size_t remembered_count;

/* Forgets the memory when the second call fails. */
static int careless(void *arg)
{
	void *volatile memory = calloc(1, 100);
	int fd;

	(void)arg;
	if (!memory)
		return -1;
	fd = memfd_create("careless", MFD_CLOEXEC);
	if (fd < 0) {
		remembered[remembered_count++] = memory;
		return -1;
	}
	close(fd);
	free(memory);
	return 0;
}

/* The same, but says so. */
static int careless_on_purpose(void *arg)
{
	int result = careless(arg);

	if (inject_fired())
		inject_allow_leak();
	return result;
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

static void driver_lets_leaks_on_purpose_pass(void **state)
{
	size_t before = inject_live_allocations();

	(void)state;
	assert_int_equal(inject_each(careless_on_purpose, NULL), 3);
	assert_int_equal(inject_live_allocations(), before + 5); /* one for each error of memfd_create() */
	while (remembered_count)
		free(remembered[--remembered_count]);
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
	GT(driver_lets_leaks_on_purpose_pass, GT_NEEDS_NOTHING),
	GT(driver_names_the_leaking_point, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_inject", tests)
