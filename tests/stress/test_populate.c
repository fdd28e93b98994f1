/* SPDX-License-Identifier: MIT */
/* Many threads fill one memory, each with threads of its own, while others map, bind, look, prefault and import it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../live/content.h"
#include "fill.h"
#include "gt.h"
#include "stress.h"

#define FILLERS 8u
#define LENGTH STRESS_LENGTH

/* --- each its own range --- */

/* Cut at any byte: pages at the ends belong to two. */
static uint64_t cut(const struct arena *a, unsigned int number)
{
	uint64_t seed = a->seed + number;

	if (number == 0 || number == FILLERS)
		return number * (a->length / FILLERS);
	return number * (a->length / FILLERS) + content_random(&seed) % (a->length / FILLERS / 2);
}

static void fill_own(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	struct range range = { cut(a, number), cut(a, number + 1) - cut(a, number) };
	uint64_t seed = a->seed * (number + 1) + 1;

	fill_some_way(crew, a, &range, &seed);
}

static void fill_all(struct crew *crew, struct arena *a)
{
	struct gmem_info info = { .size = sizeof(info) };
	uint64_t before;

	assert_int_equal(gmem_query(a->mem, &info), 0);
	before = info.populated + info.skipped;
	for (unsigned int i = 0; i < FILLERS; i++)
		crew_start(crew, fill_own, i);
	for (unsigned int i = 0; i < FILLERS; i++)
		pthread_join(crew->threads[--crew->count], NULL);
	assert_int_equal(gmem_query(a->mem, &info), 0);
	assert_int_equal(info.populated + info.skipped - before, a->length);
}

/* The first time in memory that nobody has seen, then over what is there, or over nothing. */
static void own_ranges(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH);
	struct stress_time time = stress_begin();
	struct crew crew;

	crew_begin(&crew, &a);
	do {
		if (time.rounds % 3)
			arena_renew(&a);
		else if (time.rounds)
			assert_int_equal(gmem_discard(a.mem, 0, a.length, NULL, NULL), 0);
		fill_all(&crew, &a);
		crew_wait(&crew);
		arena_assert_filled(&a);
		content_random(&a.seed);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&a);
}

/* --- beside everything else --- */

static bool among(int r, int one, int other)
{
	return r == 0 || r == one || r == other;
}

/* The library may be writing there: what is read means nothing. */
__attribute__((no_sanitize("thread"))) static void look_at(const volatile unsigned char *at, uint64_t length)
{
	(void)at[0];
	(void)at[length - 1];
}

/* One only: who reads where another unmaps has himself to blame. */
static void map_and_unmap(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = stress_seed(a, number);

	while (crew_goes_on(crew)) {
		struct gmem_map_opts opts = { .size = sizeof(opts), .flags = content_random(&seed) & GMEM_MAP_READONLY };
		struct range range = stress_range(a, &seed, a->page);
		void *at;
		int r = gmem_map(a->mem, range.offset, range.length, &at, &opts);

		if (r == 0)
			look_at(at, range.length);
		if (r || !among(gmem_unmap(a->mem, range.offset, range.length), -EBUSY, -EINVAL))
			crew_failed(crew, "mapping or unmapping: %s", gmem_last_error());
	}
}

static void bind_and_unbind(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = stress_seed(a, number);

	while (crew_goes_on(crew)) {
		struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = content_random(&seed) & GMEM_BIND_PLAIN };
		struct range range = stress_range(a, &seed, a->page);
		uint32_t slot = (uint32_t)(content_random(&seed) % 4);
		int r = gmem_bind(a->mem, slot, slot * a->length, range.offset, range.length, &opts);

		if (!among(r, -EEXIST, -EOPNOTSUPP) ||
		    (content_random(&seed) % 2 && !among(gmem_unbind(a->mem, slot), -ENOENT, 0)))
			crew_failed(crew, "binding or unbinding: %s", gmem_last_error());
	}
}

static void look(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = stress_seed(a, number);

	while (crew_goes_on(crew)) {
		struct gmem_run run = { .size = sizeof(run) };
		struct gmem_info info = { .size = sizeof(info) };
		uint64_t offset = stress_range(a, &seed, a->page).offset;

		if (gmem_query_run(a->mem, offset, &run) || gmem_query(a->mem, &info) ||
		    run.length == 0 || run.length % a->page || run.length > a->length - offset)
			crew_failed(crew, "looking: %s", gmem_last_error());
	}
}

static void prefault(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = stress_seed(a, number), done;

	while (crew_goes_on(crew)) {
		struct gmem_prefault_opts opts = { .size = sizeof(opts), .threads = (uint32_t)(content_random(&seed) % 3) };
		struct range range = stress_range(a, &seed, a->page);

		if (gmem_prefault(a->mem, range.offset, range.length, &done, &opts) || done != range.length)
			crew_failed(crew, "prefaulting: %s", gmem_last_error());
	}
}

/* A second handle on the file, which places and discards nothing that is being filled: it looks and goes. */
static void import(struct crew *crew, unsigned int number)
{
	struct arena *a = crew->arg;
	uint64_t seed = stress_seed(a, number);

	while (crew_goes_on(crew)) {
		struct range range = stress_range(a, &seed, a->page);
		struct gmem_run run = { .size = sizeof(run) };
		struct gmem *other;

		if (gmem_import(a->vm, gmem_get_fd(a->mem, GMEM_FD_MEMORY), 0, &other, NULL)) {
			crew_failed(crew, "importing: %s", gmem_last_error());
			return;
		}
		if (gmem_query_run(other, range.offset, &run) || gmem_prefault(other, range.offset, range.length, NULL, NULL))
			crew_failed(crew, "using what was imported: %s", gmem_last_error());
		gmem_destroy(other);
	}
}

static const crew_fn others[] = { map_and_unmap, bind_and_unbind, bind_and_unbind, look, prefault, import };
#define OTHERS (sizeof(others) / sizeof(others[0]))

static void unbind_all(struct arena *a)
{
	for (uint32_t slot = 0; slot < 4; slot++)
		assert_true(among(gmem_unbind(a->mem, slot), -ENOENT, 0));
}

/* A random selection, so that some of the time memory is not seen by anybody else. */
static void beside_everything_else(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH);
	struct stress_time time = stress_begin();
	struct crew crew;

	crew_begin(&crew, &a);
	do {
		uint64_t chosen = content_random(&a.seed);

		arena_renew(&a);
		for (unsigned int i = 0; i < OTHERS; i++)
			if (chosen >> i & 1)
				crew_start(&crew, others[i], i);
		fill_all(&crew, &a);
		atomic_store(&crew.stop, true);
		crew_wait(&crew);
		unbind_all(&a);
		arena_assert_filled(&a);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&a);
}

/* --- the same range twice --- */

/* Two images of one length: where one has zeros the other may have content. */
struct rivals {
	struct arena *one, other;
};

static void fill_anything(struct crew *crew, unsigned int number)
{
	struct rivals *rivals = crew->arg;
	uint64_t seed = stress_seed(rivals->one, number);

	for (int i = 0; i < 5 && crew_goes_on(crew); i++) {
		struct range range = stress_range(rivals->one, &seed, 1 + content_random(&seed) % 5000);

		fill_some_way(crew, number % 2 ? &rivals->other : rivals->one, &range, &seed);
	}
}

static void assert_one_or_the_other(const struct rivals *rivals)
{
	unsigned char *at = arena_map(rivals->one);

	for (uint64_t i = 0; i < rivals->one->length; i++)
		if (at[i] != rivals->one->image[i] && at[i] != rivals->other.image[i])
			fail_msg("byte 0x%llx is of neither image", (unsigned long long)i);
	munmap(at, rivals->one->length);
}

static void overlapping_ranges(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH / 4), b = arena_make(backing, false, LENGTH / 4);
	struct rivals rivals = { &a, b };
	struct stress_time time = stress_begin();
	struct crew crew;

	a.contested = rivals.other.contested = true;
	crew_begin(&crew, &rivals);
	do {
		arena_renew(&a);
		rivals.other.mem = a.mem;
		content_random(&a.seed);
		assert_int_equal(gmem_populate(a.mem, 0, a.length, a.image, NULL, NULL), 0);
		for (unsigned int i = 0; i < FILLERS; i++)
			crew_start(&crew, fill_anything, i);
		crew_wait(&crew);
		assert_one_or_the_other(&rivals);
	} while (stress_goes_on(&time));
	crew_end(&crew);
	arena_end(&b);
	arena_end(&a);
}

/* --- pages that somebody holds --- */

#define HELD 200u

/* Pages of a mapping, held by a pipe: it goes on seeing what is written to them only if they stay in the file. */
struct hold {
	struct arena *a;
	enum seen { MAPPED, LENT, IMPORTED } how; /* the memory comes to be seen by others */
	int ends[2];
	unsigned char *at;
	uint64_t pages[HELD], begin;
	atomic_bool begun;
	size_t count;
};

static bool hold_page(struct hold *hold, uint64_t page)
{
	struct iovec vector = { hold->at + page * hold->a->page, hold->a->page };

	if (vmsplice(hold->ends[1], &vector, 1, SPLICE_F_NONBLOCK) != (ssize_t)hold->a->page)
		return false;
	hold->pages[hold->count++] = page;
	return true;
}

/* In the chunk that is being filled, so that what is about to be zeros, and absent, is shared all of a sudden. */
static void hold_pages(struct crew *crew, unsigned int number)
{
	struct hold *hold = crew->arg;
	struct arena *a = hold->a;
	uint64_t seed = stress_seed(a, number);

	while (!atomic_load(&hold->begun) && crew_goes_on(crew))
		sched_yield();
	if (hold->how == LENT)
		hold->at = arena_map(a);
	if (hold->how == MAPPED && gmem_map(a->mem, 0, a->length, (void **)&hold->at, NULL))
		crew_failed(crew, "mapping: %s", gmem_last_error());
	for (size_t i = 0; i < HELD && crew_goes_on(crew); i++)
		if (!hold_page(hold, (hold->begin + content_random(&seed) % (a->length / 2)) % a->length / a->page))
			crew_failed(crew, "vmsplice(): %s", strerror(errno));
}

static int tell_holder(void *user, uint64_t done, uint64_t length)
{
	struct hold *hold = user;

	(void)length;
	if (!atomic_load(&hold->begun))
		hold->begin = done;
	atomic_store(&hold->begun, true);
	return 0;
}

static void fill_straight(struct crew *crew, unsigned int number)
{
	struct hold *hold = crew->arg;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = GMEM_MECH_MAPPING, .threads = number,
					   .chunk = hold->a->length / 4, .progress = tell_holder, .user = hold };

	if (gmem_populate_fd(hold->a->mem, 0, hold->a->length, hold->a->file, 0, NULL, &opts))
		crew_failed(crew, "%s", gmem_last_error());
}

/* The same file, through a second handle which alone is left, while a mapping was made through the first. */
static unsigned char *import_again(struct arena *a)
{
	unsigned char *at = arena_map(a);
	struct gmem *other;

	if (gmem_import(a->vm, gmem_get_fd(a->mem, GMEM_FD_MEMORY), 0, &other, NULL))
		fail_msg("%s", gmem_last_error());
	gmem_destroy(a->mem);
	a->mem = other;
	return at;
}

static void assert_held(struct hold *hold)
{
	unsigned char page[4096];

	for (size_t i = 0; i < hold->count; i++) {
		uint64_t *word = (uint64_t *)(void *)(hold->at + hold->pages[i] * hold->a->page);
		uint64_t seen;

		*word += 1 + i;
		assert_int_equal(read(hold->ends[0], page, sizeof(page)), sizeof(page));
		memcpy(&seen, page, sizeof(seen));
		if (seen != *word)
			fail_msg("page 0x%llx was given up under one who held it", (unsigned long long)hold->pages[i]);
		*word -= 1 + i;
	}
	if (hold->how != MAPPED)
		munmap(hold->at, hold->a->length);
}

static void held_pages_stay(uint32_t backing)
{
	struct arena a = arena_make(backing, false, LENGTH);
	struct stress_time time = stress_begin();
	struct hold hold = { .a = &a };
	struct crew crew;

	crew_begin(&crew, &hold);
	assert_int_equal(pipe2(hold.ends, O_CLOEXEC), 0);
	if (fcntl(hold.ends[1], F_SETPIPE_SZ, 256 * 4096) < 0)
		fail_msg("F_SETPIPE_SZ: %s", strerror(errno));
	do {
		arena_renew(&a);
		content_random(&a.seed);
		hold.count = 0;
		hold.how = (enum seen)(time.rounds % 3);
		if (hold.how == IMPORTED)
			hold.at = import_again(&a);
		hold.begun = false;
		crew_start(&crew, hold_pages, 0);
		crew_start(&crew, fill_straight, (unsigned int)(a.seed % 2));
		crew_wait(&crew);
		arena_assert_filled(&a);
		assert_held(&hold);
	} while (stress_goes_on(&time) || time.rounds < 6);
	close(hold.ends[0]);
	close(hold.ends[1]);
	crew_end(&crew);
	arena_end(&a);
}

#define MEMFD(test)                            \
	static void memfd_##test(void **state) \
	{                                      \
		(void)state;                   \
		test(GMEM_BACKING_MEMFD);      \
	}
#define BOTH(test)                                   \
	MEMFD(test)                                  \
	static void guest_memfd_##test(void **state) \
	{                                            \
		(void)state;                         \
		test(GMEM_BACKING_GUEST_MEMFD);      \
	}

BOTH(own_ranges)
BOTH(beside_everything_else)
#ifdef __SANITIZE_THREAD__
MEMFD(overlapping_ranges)
#else
BOTH(overlapping_ranges)
#endif
BOTH(held_pages_stay)

#define GT_BOTH(test) GT(guest_memfd_##test, GT_NEEDS_GUEST_MEMFD), GT(memfd_##test, GT_NEEDS_NOTHING)

static const struct gt_test tests[] = {
	GT_BOTH(own_ranges),
	GT_BOTH(beside_everything_else),
	GT(memfd_overlapping_ranges, GT_NEEDS_NOTHING),
#ifndef __SANITIZE_THREAD__ /* a race on purpose, which memory that takes no write() cannot hide */
	GT(guest_memfd_overlapping_ranges, GT_NEEDS_GUEST_MEMFD),
#endif
	GT_BOTH(held_pages_stay),
};

GT_MAIN("stress populate", tests)
