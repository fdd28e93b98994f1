/* SPDX-License-Identifier: MIT */
/* Memory that is mapped more than once, in parts, and watched in several regions: one call makes the pages be there in all of
 * them, and whoever waits in any of them goes on. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "faults.h"
#include "handles.h"

#define PAGES 8

/* Mapped to write in one, to read in another, and a part of it twice more. */
struct views {
	struct lazy lazy;
	unsigned char *at[3]; /* the last is in two parts */
	unsigned char *data;
};

static unsigned char *map_pages(struct lazy *lazy, uint64_t first, uint64_t count, uint64_t flags, unsigned char *at)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .flags = flags, .address = at };
	void *address;

	if (gmem_map(lazy->mem, first * lazy->page, count * lazy->page, &address, &opts))
		fail_msg("%s", gmem_last_error());
	return (unsigned char *)address - first * lazy->page;
}

static unsigned char *reserved(uint64_t length)
{
	void *at = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static struct views make_views(enum gmem_strategy strategy)
{
	struct views v = { .lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES) };
	struct lazy *l = &v.lazy;

	alarm(100);
	v.at[0] = l->at;
	v.at[1] = map_pages(l, 0, PAGES, GMEM_MAP_READONLY, NULL);
	v.at[2] = reserved(l->length);
	map_pages(l, 0, 4, 0, v.at[2]);
	map_pages(l, 4, 4, 0, v.at[2] + 4 * l->page);
	watch_pages(l, 0, 3, strategy);
	watch_pages(l, 3, 1, strategy);
	watch_pages(l, 4, 4, strategy);
	v.data = malloc(l->length);
	for (uint64_t i = 0; i < PAGES; i++)
		memset(v.data + i * l->page, (int)i + 1, l->page);
	return v;
}

static void end_views(struct views *v)
{
	uint64_t length = v->lazy.length;

	free(v->data);
	end_lazy(&v->lazy);
	munmap(v->at[2], length);
	alarm(0);
}

/* One call over three regions: every waiter in every mapping goes on. */
static void all_wake(enum gmem_strategy strategy, enum gmem_resolve how)
{
	struct views v = make_views(strategy);
	struct toucher t[3][PAGES];

	for (int view = 0; view < 3; view++)
		for (uint64_t i = 0; i < PAGES; i++)
			touch_begin(&t[view][i], v.at[view] + i * v.lazy.page, READ);
	for (int i = 0; i < 3 * PAGES; i++)
		assert_int_equal(next_event(v.lazy.uffd).kind, GMEM_FAULT_PAGE);
	must_resolve(&v.lazy, 0, PAGES, how, v.data);
	for (int view = 0; view < 3; view++)
		for (uint64_t i = 0; i < PAGES; i++)
			assert_int_equal(touch_end(&t[view][i]), how == GMEM_RESOLVE_DATA ? i + 1 : 0);
	assert_map(v.lazy.mem, "FFFFFFFF");
	end_views(&v);
}

static void waiters_in_all_mappings_wake(void **state)
{
	(void)state;
	all_wake(GMEM_STRATEGY_FILL, GMEM_RESOLVE_DATA);
	all_wake(GMEM_STRATEGY_FILL, GMEM_RESOLVE_ZERO);
}

static void waiters_in_all_mappings_wake_by_copy(void **state)
{
	(void)state;
	want_small_pages();
	all_wake(GMEM_STRATEGY_COPY, GMEM_RESOLVE_DATA);
	all_wake(GMEM_STRATEGY_COPY, GMEM_RESOLVE_ZERO);
}

static void waiters_in_all_mappings_are_told_of_poison(void **state)
{
	struct views v;
	struct toucher t[3];

	(void)state;
	want_feature(GMEM_FEATURE_UFFD_POISON, "UFFDIO_POISON");
	v = make_views(GMEM_STRATEGY_FILL);
	for (int view = 0; view < 3; view++)
		touch_begin(&t[view], v.at[view] + 5 * v.lazy.page, READ);
	for (int i = 0; i < 3; i++)
		expect_event(v.lazy.uffd, GMEM_FAULT_PAGE, v.lazy.mem, 5 * v.lazy.page, v.lazy.page);
	must_resolve(&v.lazy, 0, PAGES, GMEM_RESOLVE_POISON, NULL);
	for (int view = 0; view < 3; view++)
		assert_int_equal(touch_end(&t[view]), -SIGBUS);
	assert_int_equal(counted(v.lazy.uffd).poisoned, PAGES);
	must_resolve(&v.lazy, 0, PAGES, GMEM_RESOLVE_DATA, v.data);
	for (int view = 0; view < 3; view++)
		assert_int_equal(touch(v.at[view] + 5 * v.lazy.page), 6);
	end_views(&v);
}

/* A page that the file has not got in the middle: those before it are mapped in all mappings too. */
static void a_hole_in_the_middle_keeps_nobody_waiting(void **state)
{
	struct views v = make_views(GMEM_STRATEGY_FILL);
	struct lazy *l = &v.lazy;
	struct toucher t[3][4];

	(void)state;
	assert_int_equal(gmem_populate(l->mem, 0, l->length, v.data, NULL, NULL), 0);
	assert_int_equal(fallocate(gmem_get_fd(l->mem, GMEM_FD_MEMORY), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(5 * l->page), (off_t)(2 * l->page)), 0);
	for (int view = 0; view < 3; view++)
		for (int i = 0; i < 4; i++)
			touch_begin(&t[view][i], v.at[view] + (uint64_t)(4 + i) * l->page, READ);
	for (int i = 0; i < 12; i++)
		assert_int_equal(next_event(l->uffd).kind, GMEM_FAULT_PAGE);
	must_resolve(l, 4, 4, GMEM_RESOLVE_PRESENT, NULL);
	for (int view = 0; view < 3; view++)
		for (int i = 0; i < 4; i++)
			assert_int_equal(touch_end(&t[view][i]), i == 1 || i == 2 ? 0 : i + 5);
	end_views(&v);
}

/* EEXIST in the middle: what is mapped in one of them only. */
static void what_is_mapped_already(void **state)
{
	struct views v = make_views(GMEM_STRATEGY_FILL);
	struct lazy *l = &v.lazy;
	struct toucher t;

	(void)state;
	must_resolve(l, 1, 1, GMEM_RESOLVE_DATA, v.data + l->page);
	must_resolve(l, 5, 2, GMEM_RESOLVE_DATA, v.data + 5 * l->page);
	l->at[5 * l->page] = 77;
	touch_begin(&t, v.at[1] + 7 * l->page, READ);
	expect_event(l->uffd, GMEM_FAULT_PAGE, l->mem, 7 * l->page, l->page);
	must_resolve(l, 0, PAGES, GMEM_RESOLVE_DATA, v.data);
	assert_int_equal(touch_end(&t), 8);
	for (int view = 0; view < 3; view++)
		for (uint64_t i = 0; i < PAGES; i++)
			assert_int_equal(touch(v.at[view] + i * l->page), i == 5 ? 77 : i + 1);
	no_event(l->uffd);
	end_views(&v);
}

/* Parts that are not mapped through the first mapping found: none of them is left out. */
static void parts_in_any_order(enum gmem_strategy strategy)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	unsigned char *data = malloc(lazy.length), *at = reserved(lazy.length);

	alarm(100);
	assert_int_equal(gmem_unmap(lazy.mem, 0, lazy.length), 0);
	memset(data, 7, lazy.length);
	for (uint64_t i = 0; i < PAGES; i++)
		map_pages(&lazy, (i * 3 + 1) % PAGES, 1, 0, at + (i * 3 + 1) % PAGES * lazy.page);
	watch_pages(&lazy, 0, PAGES, strategy);
	must_resolve(&lazy, 1, PAGES - 1, GMEM_RESOLVE_DATA, data);
	assert_map(lazy.mem, "EFFFFFFF");
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(touch(at + i * lazy.page), 7);
	no_event(lazy.uffd);
	free(data);
	end_lazy(&lazy);
	munmap(at, PAGES * page());
	alarm(0);
}

static void one_mapping_for_each_page(void **state)
{
	(void)state;
	parts_in_any_order(GMEM_STRATEGY_FILL);
}

static void one_mapping_for_each_page_by_copy(void **state)
{
	(void)state;
	want_small_pages();
	parts_in_any_order(GMEM_STRATEGY_COPY);
}

/* The kernel knows of regions that lie next to each other as one, and of one with two mappings as two. */
static void done_tells_where_watching_ends(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	unsigned char *data = malloc(lazy.length);
	uint64_t done = 77;

	(void)state;
	memset(data, 7, lazy.length);
	watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO);
	watch_pages(&lazy, 2, 3, GMEM_STRATEGY_AUTO);
	watch_pages(&lazy, 6, 1, GMEM_STRATEGY_AUTO);
	assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, lazy.page, 7 * lazy.page, GMEM_RESOLVE_DATA, data, &done), -ENOENT);
	assert_int_equal(done, 4 * lazy.page);
	assert_map(lazy.mem, "EFFFFEEE");
	assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, 2 * lazy.page, GMEM_RESOLVE_PRESENT, NULL, &done), -EBADFD);
	assert_int_equal(done, 0);
	assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.length, GMEM_RESOLVE_WAKE, NULL, &done), -ENOENT);
	assert_int_equal(done, 5 * lazy.page);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, lazy.page, 4 * lazy.page), -EINVAL);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 2 * lazy.page, 4 * lazy.page), 0);
	assert_int_equal(counted(lazy.uffd).ranges, 2);
	free(data);
	end_lazy(&lazy);
}

/* Whoever made the endpoint says where content and guest addresses are. */
static void an_event_tells_where_its_content_is(void **state)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_CONTENT, .content = 0x70000000 };
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct gmem_fault fault;
	struct toucher t;

	(void)state;
	assert_int_equal(gmem_bind(lazy.mem, 0, 0x40000000, 2 * lazy.page, 4 * lazy.page, NULL), 0);
	assert_int_equal(gmem_uffd_register(lazy.uffd, lazy.mem, 2 * lazy.page, 4 * lazy.page, &opts), 0);
	touch_begin(&t, lazy.at + 3 * lazy.page + 100, 1);
	fault = expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 3 * lazy.page, lazy.page);
	assert_int_equal(fault.content, 0x70000000 + lazy.page);
	assert_int_equal(fault.gpa, 0x40000000 + lazy.page);
	assert_ptr_equal((void *)(uintptr_t)fault.hva, lazy.at + 3 * lazy.page);
	assert_int_equal(fault.flags, GMEM_FAULT_WRITE);
	assert_true(fault.thread != 0 && fault.thread != (uint32_t)getpid());
	must_resolve(&lazy, 3, 1, GMEM_RESOLVE_ZERO, NULL);
	touch_end(&t);
	end_lazy(&lazy);
}

static const struct gt_test tests[] = {
	GT(waiters_in_all_mappings_wake, GT_NEEDS_UFFD_MINOR),
	GT(waiters_in_all_mappings_wake_by_copy, GT_NEEDS_UFFD_MINOR),
	GT(waiters_in_all_mappings_are_told_of_poison, GT_NEEDS_UFFD_MINOR),
	GT(a_hole_in_the_middle_keeps_nobody_waiting, GT_NEEDS_UFFD_MINOR),
	GT(what_is_mapped_already, GT_NEEDS_UFFD_MINOR),
	GT(one_mapping_for_each_page, GT_NEEDS_UFFD_MINOR),
	GT(one_mapping_for_each_page_by_copy, GT_NEEDS_UFFD_MINOR),
	GT(done_tells_where_watching_ends, GT_NEEDS_UFFD_MINOR),
	GT(an_event_tells_where_its_content_is, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_views", tests)
