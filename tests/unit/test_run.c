/* SPDX-License-Identifier: MIT */
/* gmem_query_run(): the states of pages in memory of every make, walks that end where the memory does, and nothing allocated by
 * looking. What the kernel does not tell is in test_run_unknown.c. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "memories.h"
#include "random.h"
#include "refusal.h"

#define PAGES 64
#define ALLOCATED GMEM_RUN_ALLOCATED
#define CONTENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)
#define HUGE (UINT64_C(2) << 20)

static struct memory memory;

static struct gmem_run run_at(uint64_t offset)
{
	struct gmem_run run = { .size = sizeof(run) };

	if (gmem_query_run(memory.mem, offset, &run))
		fail_msg("%s", gmem_last_error());
	return run;
}

static void assert_run(uint64_t first, uint64_t count, uint64_t state)
{
	struct gmem_run run = run_at(first * page());

	assert_int_equal(run.state, state);
	assert_int_equal(run.length, count * page());
}

static void populate(uint64_t first, uint64_t count)
{
	unsigned char *content = pages_of_content(count, 0);

	assert_int_equal(gmem_populate(memory.mem, first * page(), count * page(), content, NULL, NULL), 0);
	free(content);
}

/* By the fd, as another process might: pages that nobody has cleared yet. */
static void allocate(uint64_t first, uint64_t count)
{
	int fd = gmem_get_fd(memory.mem, GMEM_FD_MEMORY);

	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)(first * page()), (off_t)(count * page())), 0);
}

static void discard(uint64_t first, uint64_t count)
{
	assert_int_equal(gmem_discard(memory.mem, first * page(), count * page(), NULL, NULL), 0);
}

/* States of small pages */

static const enum make makes[] = { MEMFD, FAKE_GUEST_MEMFD, FAKE_WITH_WRITE };
#define MAKES (sizeof(makes) / sizeof(makes[0]))

/* From page 8 on: content, allocated only, content again, discarded within it. */
static void check_states(enum make make)
{
	memory = make_memory(make, PAGES * page());
	assert_run(0, PAGES, 0);
	assert_run(PAGES - 1, 1, 0);
	populate(8, 4);
	allocate(12, 8);
	populate(20, 10);
	assert_run(0, 8, 0);
	assert_run(5, 3, 0);
	assert_run(8, 4, CONTENT);
	assert_run(11, 1, CONTENT);
	assert_run(12, 8, ALLOCATED);
	assert_run(19, 1, ALLOCATED);
	assert_run(20, 10, CONTENT);
	assert_run(30, PAGES - 30, 0);
	discard(22, 3);
	assert_run(20, 2, CONTENT);
	assert_run(22, 3, 0);
	assert_run(25, 5, CONTENT);
	populate(12, 8);
	assert_run(8, 14, CONTENT);
	end_memory(&memory);
}

static void pages_have_the_state_that_they_were_brought_to(void **state)
{
	(void)state;
	want_small_pages();
	for (size_t i = 0; i < MAKES; i++)
		check_states(makes[i]);
}

static void pages_of_a_real_guest_memfd_have_it_too(void **state)
{
	(void)state;
	check_states(REAL_GUEST_MEMFD);
}

/* A look through a mapping makes a page of zeros. */
static void check_touch(enum make make)
{
	volatile unsigned char *at;
	void *address;

	memory = make_memory(make, PAGES * page());
	assert_int_equal(gmem_map(memory.mem, 0, memory.length, &address, NULL), 0);
	at = address;
	assert_int_equal(at[3 * page()], 0);
	at[5 * page()] = 1;
	assert_run(0, 3, 0);
	assert_run(3, 1, CONTENT);
	assert_run(4, 1, 0);
	assert_run(5, 1, CONTENT);
	assert_run(6, PAGES - 6, 0);
	end_memory(&memory);
}

static void touched_pages_are_there(void **state)
{
	(void)state;
	want_small_pages();
	for (size_t i = 0; i < MAKES; i++)
		check_touch(makes[i]);
}

static void touched_pages_of_a_real_guest_memfd_are_there(void **state)
{
	(void)state;
	check_touch(REAL_GUEST_MEMFD);
}

/* Walks */

/* Every page is in the state that the model has for it, and the runs add up to the memory. */
static void walk(const uint64_t model[PAGES])
{
	uint64_t offset = 0;

	while (offset < memory.length) {
		struct gmem_run run = run_at(offset);

		assert_true(run.length > 0 && run.length % page() == 0 && run.length <= memory.length - offset);
		for (uint64_t i = offset / page(); i < (offset + run.length) / page(); i++)
			if (run.state != model[i])
				fail_msg("page %llu: %#llx, not %#llx", (unsigned long long)i, (unsigned long long)run.state,
					 (unsigned long long)model[i]);
		offset += run.length;
	}
	assert_int_equal(offset, memory.length);
}

/* Shared memory clears what is allocated a second time (SGP_FALLOC in mm/shmem.c); a guest_memfd does not. */
static uint64_t state_when_allocated(enum make make, uint64_t before)
{
	return before && make != REAL_GUEST_MEMFD ? CONTENT : before | ALLOCATED;
}

static void walk_by_chance(enum make make)
{
	uint64_t model[PAGES] = { 0 };

	sow();
	memory = make_memory(make, PAGES * page());
	for (int round = 0; round < 200; round++) {
		uint64_t first = next_random() % PAGES, count = 1 + next_random() % (PAGES - first);
		uint64_t kind = next_random() % 3;

		count = count > 8 ? 8 : count;
		if (kind == 0)
			populate(first, count);
		else if (kind == 1)
			allocate(first, count);
		else
			discard(first, count);
		for (uint64_t i = first; i < first + count; i++)
			model[i] = kind == 0 ? CONTENT : kind == 1 ? state_when_allocated(make, model[i]) : 0;
		walk(model);
	}
	end_memory(&memory);
}

static void walks_find_every_page(void **state)
{
	(void)state;
	want_small_pages();
	for (size_t i = 0; i < MAKES; i++)
		walk_by_chance(makes[i]);
}

static void walks_through_a_real_guest_memfd_find_every_page(void **state)
{
	(void)state;
	walk_by_chance(REAL_GUEST_MEMFD);
}

/* A state may reach to the end: looking must neither take for ever nor allocate. */
static void long_memory_is_walked_in_few_steps(void **state)
{
	static const struct {
		enum make make;
		uint64_t length, most; /* steps */
	} rows[] = {
		{ MEMFD, UINT64_C(1) << 62, 3 },
		{ FAKE_GUEST_MEMFD, UINT64_C(64) << 30, 20 },
		{ LAZY_MEMFD, UINT64_C(64) << 30, 20 },
	};

	(void)state;
	want_small_pages();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t offset = 0, steps = 0;

		memory = make_memory(rows[i].make, rows[i].length);
		populate(1000, 1);
		while (offset < memory.length) {
			struct gmem_run run = run_at(offset);

			assert_int_equal(run.state & CONTENT, offset == 1000 * page() ? CONTENT : 0);
			offset += run.length;
			steps++;
		}
		assert_int_equal(offset, memory.length);
		assert_true(steps <= rows[i].most);
		end_memory(&memory);
	}
}

static void check_costs_nothing(enum make make, uint64_t unit)
{
	memory = make_memory(make, 8 * unit);
	for (uint64_t at = 0; at < memory.length; at += unit)
		assert_int_equal(run_at(at).state, 0);
	for (uint64_t at = 0; at < memory.length; at += unit)
		assert_int_equal(run_at(at).length, memory.length - at);
	end_memory(&memory);
}

static void looking_allocates_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < MAKES; i++)
		check_costs_nothing(makes[i], page());
	check_costs_nothing(LAZY_MEMFD, page());
}

static void looking_at_a_real_guest_memfd_allocates_nothing(void **state)
{
	(void)state;
	check_costs_nothing(REAL_GUEST_MEMFD, page());
}

static void looking_at_huge_pages_allocates_nothing(void **state)
{
	(void)state;
	want_huge_pages(8);
	check_costs_nothing(HUGETLB, HUGE);
}

/* The page map says more of them, and divides what the file does not. */
static void the_page_map_is_part_of_the_state(void **state)
{
	(void)state;
	want_small_pages();
	memory = make_memory(LAZY_MEMFD, PAGES * page());
	populate(8, 8);
	allocate(16, 8);
	discard(12, 8);
	assert_run(0, 8, 0);
	assert_run(8, 4, CONTENT | GMEM_RUN_FILLED);
	assert_run(12, 8, GMEM_RUN_DISCARDED);
	assert_run(20, 4, ALLOCATED);
	assert_run(24, PAGES - 24, 0);
	end_memory(&memory);
}

/* Of a pair the half that the host fills. */
static void a_pair_shows_its_shared_half(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE };

	(void)state;
	want_small_pages();
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("sw-protected")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	populate(0, 8);
	allocate(4, 8); /* of the private half */
	assert_run(0, 8, CONTENT);
	assert_run(8, PAGES - 8, 0);
	end_memory(&memory);
}

/* Arguments */

static void bad_offsets_are_refused(void **state)
{
	const uint64_t end = PAGES * page(),
		       offsets[] = { 1, page() / 2, end, end + page(), UINT64_C(1) << 62, -page(), UINT64_MAX };
	struct gmem_run run = { .size = sizeof(run), .length = 77, .state = 88 };

	(void)state;
	memory = make_memory(MEMFD, PAGES * page());
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		spoil_sentence();
		bad("gmem_query_run", gmem_query_run(memory.mem, offsets[i], &run), -EINVAL, "offset");
	}
	bad("gmem_query_run", gmem_query_run(NULL, 0, &run), -EINVAL, "the memory is NULL");
	bad("gmem_query_run", gmem_query_run(memory.mem, 0, NULL), -EINVAL, "run is NULL");
	assert_int_equal(run.length + run.state, 77 + 88);
	end_memory(&memory);
}

static void as_much_is_written_as_there_is_room_for(void **state)
{
	union {
		struct gmem_run run;
		uint64_t words[513];
	} answer;

	(void)state;
	memory = make_memory(MEMFD, PAGES * page());
	for (uint64_t size = 0; size <= sizeof(answer); size += size < 32 ? 1 : 508) {
		int r, expected = size < 8 ? -EINVAL : size > 4096 ? -E2BIG : 0;
		unsigned char *bytes = (unsigned char *)&answer;

		memset(&answer, 0x5a, sizeof(answer));
		answer.run.size = size;
		r = gmem_query_run(memory.mem, 0, &answer.run);
		assert_int_equal(r, expected);
		assert_int_equal(answer.run.size, size);
		for (uint64_t i = 24; r == 0 && i < size; i++)
			assert_int_equal(bytes[i], 0); /* what the library does not know */
		for (uint64_t i = r == 0 && size > 8 ? size : 8; i < sizeof(answer); i++)
			assert_int_equal(bytes[i], 0x5a);
		if (r == 0 && size >= 24)
			assert_true(answer.run.length == memory.length && answer.run.state == 0);
	}
	end_memory(&memory);
}

static int query_in_child(void *arg)
{
	struct gmem_run run = { .size = sizeof(run), .length = 77 };

	(void)arg;
	return gmem_query_run(memory.mem, 0, &run) == -ESTALE && run.length == 77 ? 0 : 1;
}

static void after_a_fork_the_memory_is_stale(void **state)
{
	(void)state;
	memory = make_memory(MEMFD, PAGES * page());
	assert_int_equal(gt_in_child(query_in_child, NULL), 0);
	end_memory(&memory);
}

static const struct gt_test tests[] = {
	GT(pages_have_the_state_that_they_were_brought_to, GT_NEEDS_CACHESTAT),
	GT(pages_of_a_real_guest_memfd_have_it_too, GT_NEEDS_GUEST_MEMFD),
	GT(touched_pages_are_there, GT_NEEDS_CACHESTAT),
	GT(touched_pages_of_a_real_guest_memfd_are_there, GT_NEEDS_GUEST_MEMFD),
	GT(walks_find_every_page, GT_NEEDS_CACHESTAT),
	GT(walks_through_a_real_guest_memfd_find_every_page, GT_NEEDS_GUEST_MEMFD),
	GT(long_memory_is_walked_in_few_steps, GT_NEEDS_NOTHING),
	GT(looking_allocates_nothing, GT_NEEDS_CACHESTAT),
	GT(looking_at_a_real_guest_memfd_allocates_nothing, GT_NEEDS_GUEST_MEMFD),
	GT(looking_at_huge_pages_allocates_nothing, GT_NEEDS_HUGETLB_2M),
	GT(the_page_map_is_part_of_the_state, GT_NEEDS_CACHESTAT),
	GT(a_pair_shows_its_shared_half, GT_NEEDS_CACHESTAT),
	GT(bad_offsets_are_refused, GT_NEEDS_NOTHING),
	GT(as_much_is_written_as_there_is_room_for, GT_NEEDS_CACHESTAT),
	GT(after_a_fork_the_memory_is_stale, GT_NEEDS_NOTHING),
};

GT_MAIN("run", tests)
