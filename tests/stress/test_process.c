/* SPDX-License-Identifier: MIT */
/* The process around the library: it forks in the middle, runs out of fds and threads, and makes and gives up memories without
 * end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../live/content.h"
#include "fill.h"
#include "gt.h"

#define LENGTH STRESS_LENGTH
#define SMALL (STRESS_LENGTH / 4)

/* --- fork --- */

static void fill_until_told(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = a->seed * (number + 3);
	struct range half = { number * a->length / 2, a->length / 2 };

	do
		fill_some_way(crew, a, &half, &seed);
	while (crew_goes_on(crew));
}

/* Whatever locks the parent's threads held. What the child gives up is its own copy. */
static int use_in_child(void *arg)
{
	struct arena *a = arg;
	struct gmem_info info = { .size = sizeof(info) };
	struct gmem_run run = { .size = sizeof(run) };
	uint64_t done = 7;
	struct gmem *other;

	assert_int_equal(gmem_populate(a->mem, 0, a->length, a->image, &done, NULL), -ESTALE);
	assert_int_equal(done, 0);
	assert_int_equal(gmem_discard(a->mem, 0, a->length, &done, NULL), -ESTALE);
	assert_int_equal(gmem_prefault(a->mem, 0, a->length, &done, NULL), -ESTALE);
	assert_int_equal(gmem_query(a->mem, &info), -ESTALE);
	assert_int_equal(gmem_query_run(a->mem, 0, &run), -ESTALE);
	assert_int_equal(gmem_import(a->vm, a->file, 0, &other, NULL), -ESTALE);
	gmem_destroy(a->mem);
	gmem_vm_close(a->vm);
	return 0;
}

static void fork_meanwhile(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH);
	struct stress_time time = stress_begin();
	struct crew crew;

	crew_begin(&crew, &a);
	crew_start(&crew, fill_until_told, 0);
	crew_start(&crew, fill_until_told, 1);
	do
		assert_int_equal(gt_in_child(use_in_child, &a), 0);
	while (stress_goes_on(&time));
	atomic_store(&crew.stop, true);
	crew_wait(&crew);
	arena_assert_filled(&a);
	crew_end(&crew);
	arena_end(&a);
}

/* --- make and give up --- */

static int lowest_fd(void)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	if (fd >= 0)
		close(fd);
	return fd;
}

static unsigned int count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned int lines = 0;
	int c;

	assert_non_null(file);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

static void make_and_give_up(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = a->seed + number;

	for (int i = 0; i < 8; i++) {
		struct gmem_create_opts opts = { .size = sizeof(opts), .backing = a->backing };
		bool import = content_random(&seed) % 2;
		struct gmem *mem;
		int r = import ? gmem_import(a->vm, gmem_get_fd(a->mem, GMEM_FD_MEMORY), 0, &mem, NULL)
			       : gmem_create(a->vm, a->length, &mem, &opts);

		if (r || gmem_populate_fd(mem, 0, a->length, a->file, 0, NULL, NULL))
			crew_failed(crew, "%s", gmem_last_error());
		if (r)
			return;
		if (content_random(&seed) % 2) /* through the second handle, KVM may refuse what is bound through the first */
			(void)gmem_bind(mem, number, number * a->length, 0, a->length, NULL);
		gmem_destroy(mem);
	}
}

/* Nothing becomes more from round to round; the first makes what libc and the sanitizers keep. */
static void nothing_piles_up(uint32_t backing)
{
	struct arena a = arena_make(backing, false, SMALL);
	struct stress_time time = stress_begin();
	unsigned int mappings = 0;
	struct crew crew;
	int fd = 0;

	crew_begin(&crew, &a);
	do {
		for (unsigned int i = 0; i < 4; i++)
			crew_start(&crew, make_and_give_up, i);
		crew_wait(&crew);
		if (!fd) {
			fd = lowest_fd();
			mappings = count_mappings();
		}
	} while (stress_goes_on(&time) || time.rounds < 3);
	assert_int_equal(lowest_fd(), fd);
	assert_true(count_mappings() < mappings + 40); /* of the heap and of stacks */
	arena_assert_filled(&a);
	crew_end(&crew);
	arena_end(&a);
}

/* --- out of fds --- */

static int limit_fds(int most)
{
	struct rlimit limit = { (rlim_t)most, (rlim_t)most };

	return setrlimit(RLIMIT_NOFILE, &limit);
}

/* Which of the numbers below the limit are in use. */
static unsigned int count_fds(int most)
{
	unsigned int count = 0;

	for (int fd = 0; fd < most; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static bool is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE;
}

static bool fill_short(struct arena *a, uint64_t flags, enum gmem_mechanism mechanism, uint32_t threads)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = flags, .mechanism = mechanism, .threads = threads };
	uint64_t done = 7;
	int r = gmem_populate_fd(a->mem, 0, a->length, a->file, 0, &done, &opts);

	if (r && !is_shortage(r))
		fail_msg("%d: %s", r, gmem_last_error());
	assert_true(r ? done < a->length : done == a->length);
	return r == 0;
}

static bool import_short(struct arena *a)
{
	struct gmem *other;
	int r = gmem_import(a->vm, gmem_get_fd(a->mem, GMEM_FD_MEMORY), 0, &other, NULL);

	if (r == 0)
		gmem_destroy(other);
	else if (!is_shortage(r))
		fail_msg("%d: %s", r, gmem_last_error());
	return r == 0;
}

static bool create_short(struct arena *a)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = a->backing };
	struct gmem *other;
	int r = gmem_create(a->vm, a->length, &other, &opts);

	if (r == 0)
		gmem_destroy(other);
	else if (!is_shortage(r))
		fail_msg("%d: %s", r, gmem_last_error());
	return r == 0;
}

static void assert_image(struct arena *a)
{
	void *at;

	assert_int_equal(gmem_map(a->mem, 0, a->length, &at, NULL), 0);
	assert_memory_equal(at, a->image, a->length);
}

/* What needs no fd works to the last; what needs some says so, and works again as soon as there are. */
static void use_short(struct arena *a, int free)
{
	const enum gmem_mechanism splice = a->backing == GMEM_BACKING_MEMFD ? GMEM_MECH_SPLICE : GMEM_MECH_NONE;
	bool spliced;

	assert_true(fill_short(a, 0, GMEM_MECH_NONE, 2));
	assert_true(fill_short(a, GMEM_POPULATE_KEEP_ZEROS, GMEM_MECH_MAPPING, 2));
	assert_int_equal(gmem_discard(a->mem, 0, a->length, NULL, NULL), 0);
	assert_int_equal(gmem_prefault(a->mem, 0, a->length, NULL, NULL), 0);
	spliced = fill_short(a, GMEM_POPULATE_KEEP_ZEROS, splice, 0);
	if (splice)
		assert_int_equal(spliced, free >= 2); /* the two ends of a pipe */
	fill_short(a, GMEM_POPULATE_KEEP_ZEROS, splice, 3);
	assert_int_equal(import_short(a), free >= 1);
	create_short(a);
	assert_true(fill_short(a, 0, GMEM_MECH_NONE, 0));
	assert_image(a);
}

static int run_short(void *arg)
{
	const uint32_t backing = *(const uint32_t *)arg;
	struct arena a = arena_make(backing, false, SMALL);
	int first = lowest_fd();

	for (int free = 12; free >= 0; free--) {
		unsigned int before;

		assert_int_equal(limit_fds(first + free), 0);
		before = count_fds(first + free);
		use_short(&a, free);
		assert_int_equal(count_fds(first + free), before);
	}
	return 0;
}

static void fds_run_out(uint32_t backing)
{
	assert_int_equal(gt_in_child(run_short, &backing), 0);
}

#define BOTH(test)                                   \
	static void guest_memfd_##test(void **state) \
	{                                            \
		(void)state;                         \
		test(GMEM_BACKING_GUEST_MEMFD);      \
	}                                            \
	static void memfd_##test(void **state)       \
	{                                            \
		(void)state;                         \
		test(GMEM_BACKING_MEMFD);            \
	}

BOTH(fork_meanwhile)
BOTH(nothing_piles_up)
BOTH(fds_run_out)

/* --- out of threads --- */

static int fill_without_threads(void *unused)
{
	struct rlimit none = { 0, 0 };
	struct arena a = arena_make(GMEM_BACKING_MEMFD, false, LENGTH);

	(void)unused;
	assert_int_equal(setrlimit(RLIMIT_NPROC, &none), 0);
	for (uint32_t threads = 0; threads <= 64; threads += 16) {
		struct gmem_prefault_opts opts = { .size = sizeof(opts), .threads = threads };

		assert_int_equal(gmem_discard(a.mem, 0, a.length, NULL, NULL), 0);
		assert_int_equal(gmem_prefault(a.mem, 0, a.length, NULL, &opts), 0);
		assert_true(fill_short(&a, 0, GMEM_MECH_NONE, threads));
	}
	assert_image(&a);
	arena_end(&a);
	return 0;
}

static void threads_that_cannot_be_made(void **state)
{
	(void)state;
	assert_int_equal(gt_as_user(GT_NOBODY, fill_without_threads, NULL), 0);
}

#define GT_BOTH(test) GT(guest_memfd_##test, GT_NEEDS_GUEST_MEMFD), GT(memfd_##test, GT_NEEDS_NOTHING)

static const struct gt_test tests[] = {
	GT_BOTH(fork_meanwhile),
	GT_BOTH(nothing_piles_up),
	GT_BOTH(fds_run_out),
	GT(threads_that_cannot_be_made, GT_NEEDS_ORDINARY_USER),
};

GT_MAIN("stress process", tests)
