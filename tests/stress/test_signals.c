/* SPDX-License-Identifier: MIT */
/* A signal every millisecond whose handler has no SA_RESTART: every call either is not disturbed or can be gone on with, and
 * nothing is lost. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../live/content.h"
#include "../live/huge.h"
#include "gt.h"
#include "stress.h"

#define LENGTH STRESS_LENGTH
#define ENOUGH 20 /* signals in a test, at least */

static volatile sig_atomic_t ticks, astray;
static pid_t own_thread;

/* The library's threads are to be left alone. */
static void tick(int signal)
{
	(void)signal;
	ticks++;
	astray += gettid() != own_thread;
}

static void every(suseconds_t microseconds)
{
	struct itimerval timer = { .it_value.tv_usec = microseconds, .it_interval.tv_usec = microseconds };
	struct sigaction action = { .sa_handler = tick };

	if (microseconds)
		assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
	action.sa_handler = SIG_DFL;
	if (!microseconds)
		assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
}

/* `round` over and over, under signals. */
static void under_signals(struct arena *a, void (*round)(struct arena *a))
{
	struct stress_time time = stress_begin();

	ticks = astray = 0;
	own_thread = gettid();
	every(1000);
	do
		round(a);
	while (stress_goes_on(&time) || ticks < ENOUGH);
	every(0);
	printf("  %d signals\n", (int)ticks);
	assert_int_equal(astray, 0);
	arena_end(a);
}

/* --- populate --- */

/* Where it comes from, and how often it was gone on with. */
struct input {
	int fd;
	struct gmem_source *source;
	struct gmem_populate_opts opts;
	unsigned long pauses;
};

static int put(struct arena *a, struct input *input, uint64_t at, uint64_t *done)
{
	if (input->source)
		return gmem_populate_source(a->mem, at, a->length - at, input->source, at, done, &input->opts);
	if (input->fd >= 0)
		return gmem_populate_fd(a->mem, at, a->length - at, input->fd, at, done, &input->opts);
	return gmem_populate(a->mem, at, a->length - at, a->image + at, done, &input->opts);
}

static void put_all(struct arena *a, struct input *input)
{
	uint64_t at = 0, done;

	while (at < a->length) {
		int r = put(a, input, at, &done);

		at += done;
		if (r && r != -EINTR && r != -EAGAIN)
			fail_msg("%s", gmem_last_error());
		assert_int_equal(r == 0, at == a->length);
		input->pauses += r != 0;
	}
	arena_assert_filled(a);
}

static uint64_t some_flags(struct arena *a)
{
	return content_random(&a->seed) % 2 ? GMEM_POPULATE_KEEP_ZEROS : 0;
}

static struct input input_make(struct arena *a)
{
	struct input input = { .fd = -1, .opts = { .size = sizeof(input.opts) } };

	arena_renew(a);
	input.opts.threads = (uint32_t)(content_random(&a->seed) % 3);
	input.opts.flags = some_flags(a);
	return input;
}

static void from_buffer(struct arena *a)
{
	struct input input = input_make(a);

	put_all(a, &input);
	assert_int_equal(input.pauses, 0); /* nothing is waited for */
}

static void from_file(struct arena *a)
{
	struct input input = input_make(a);

	input.fd = a->file;
	put_all(a, &input);
	assert_int_equal(input.pauses, 0);
}

struct writer {
	struct arena *a;
	int fd;
};

/* In small pieces, so that the reader waits. */
static void write_slowly(struct crew *crew, unsigned int number)
{
	const struct writer *writer = crew->arg;
	uint64_t seed = writer->a->seed + number, at = 0;

	while (at < writer->a->length) {
		uint64_t piece = 1 + content_random(&seed) % 20000, left = writer->a->length - at;
		ssize_t r = write(writer->fd, writer->a->image + at, piece < left ? piece : left);

		if (r < 0) {
			crew_failed(crew, "write(): %s", strerror(errno));
			break;
		}
		at += (uint64_t)r;
		sched_yield();
	}
	close(writer->fd);
}

static void from_pipe(struct arena *a)
{
	struct input input = input_make(a);
	struct writer writer = { .a = a };
	struct crew crew;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	crew_begin(&crew, &writer);
	writer.fd = ends[1];
	crew_start(&crew, write_slowly, 0);
	input.fd = ends[0];
	put_all(a, &input);
	crew_wait(&crew);
	crew_end(&crew);
	close(ends[0]);
}

/* Has nothing now and then. */
struct moody {
	struct arena *a;
	atomic_uint asked;
};

static int read_moody(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct moody *moody = user;

	(void)flags;
	if (atomic_fetch_add(&moody->asked, 1) % 3 == 2)
		return -EAGAIN;
	memcpy(buffer, moody->a->image + offset, length);
	return GMEM_ANSWER_DATA;
}

static void from_source(struct arena *a)
{
	const struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_moody };
	struct input input = input_make(a);
	struct moody moody = { .a = a };

	assert_int_equal(gmem_source_create(&ops, &moody, &input.source), 0);
	put_all(a, &input);
	gmem_source_destroy(input.source);
	assert_true(input.pauses > 0);
}

/* --- the other calls --- */

static void prefault(struct arena *a)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .threads = (uint32_t)(content_random(&a->seed) % 3) };
	struct gmem_run run = { .size = sizeof(run) };
	uint64_t at = 0, done;

	arena_renew(a);
	while (at < a->length) {
		int r = gmem_prefault(a->mem, at, a->length - at, &done, &opts);

		at += done;
		if (r && r != -EINTR && r != -EAGAIN)
			fail_msg("%s", gmem_last_error());
	}
	assert_int_equal(gmem_query_run(a->mem, 0, &run), 0);
	assert_int_equal(run.length, a->length);
	assert_int_equal(run.state, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED);
}

static void discard(struct arena *a)
{
	struct gmem_run run = { .size = sizeof(run) };
	uint64_t done;

	assert_int_equal(gmem_populate_fd(a->mem, 0, a->length, a->file, 0, NULL, NULL), 0);
	assert_int_equal(gmem_discard(a->mem, 0, a->length, &done, NULL), 0);
	assert_int_equal(done, a->length);
	assert_int_equal(gmem_query_run(a->mem, 0, &run), 0);
	assert_int_equal(run.length, a->length);
	assert_int_equal(run.state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
}

static void come_and_go(struct arena *a)
{
	struct gmem *other;
	void *at;

	arena_renew(a);
	for (uint32_t slot = 0; slot < 4; slot++)
		assert_int_equal(gmem_bind(a->mem, slot, slot * a->length, slot * (a->length / 4), a->length / 4, NULL), 0);
	assert_int_equal(gmem_import(a->vm, gmem_get_fd(a->mem, GMEM_FD_MEMORY), 0, &other, NULL), 0);
	assert_int_equal(gmem_map(other, 0, a->length, &at, NULL), 0);
	assert_int_equal(gmem_unmap(other, 0, a->length), 0);
	assert_int_equal(gmem_unbind(a->mem, 2), 0);
	gmem_destroy(other);
}

#define KINDS(test)                                                                                       \
	static void guest_memfd_##test(void **state)                                                      \
	{                                                                                                 \
		struct arena a = arena_make(GMEM_BACKING_GUEST_MEMFD, false, LENGTH);                     \
                                                                                                          \
		(void)state;                                                                              \
		under_signals(&a, test);                                                                  \
	}                                                                                                 \
	static void memfd_##test(void **state)                                                            \
	{                                                                                                 \
		struct arena a = arena_make(GMEM_BACKING_MEMFD, false, LENGTH);                           \
                                                                                                          \
		(void)state;                                                                              \
		under_signals(&a, test);                                                                  \
	}

KINDS(from_buffer)
KINDS(from_file)
KINDS(from_pipe)
KINDS(from_source)
KINDS(prefault)
KINDS(discard)
KINDS(come_and_go)

static void hugetlb_from_file(void **state)
{
	struct arena a = arena_make(GMEM_BACKING_HUGETLB, false, huge_length(8 * HUGE_PAGE));

	(void)state;
	under_signals(&a, from_file);
}

#define GT_KINDS(test) GT(guest_memfd_##test, GT_NEEDS_GUEST_MEMFD), GT(memfd_##test, GT_NEEDS_NOTHING)

static const struct gt_test tests[] = {
	GT_KINDS(from_buffer),
	GT_KINDS(from_file),
	GT_KINDS(from_pipe),
	GT_KINDS(from_source),
	GT_KINDS(prefault),
	GT_KINDS(discard),
	GT_KINDS(come_and_go),
	GT(hugetlb_from_file, GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("stress signals", tests)
