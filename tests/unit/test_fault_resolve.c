/* SPDX-License-Identifier: MIT */
/* Making pages be there, in every way and state, on the real kernel: what is read, what the page map says, who wakes. */
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
#define HUGE_PAGES 4

/* Page n of it holds n + 1. */
static unsigned char *numbered(const struct lazy *lazy)
{
	unsigned char *data = malloc(lazy->length);

	assert_non_null(data);
	for (uint64_t i = 0; i < lazy->length; i += lazy->page)
		memset(data + i, (int)(i / lazy->page + 1), lazy->page);
	return data;
}

struct way {
	uint32_t backing;
	enum gmem_strategy strategy;
	uint64_t pages;
};

static const struct way fill_memfd = { GMEM_BACKING_MEMFD, GMEM_STRATEGY_FILL, PAGES };
static const struct way copy_memfd = { GMEM_BACKING_MEMFD, GMEM_STRATEGY_COPY, PAGES };
static const struct way fill_huge = { GMEM_BACKING_HUGETLB, GMEM_STRATEGY_FILL, HUGE_PAGES };
static const struct way copy_huge = { GMEM_BACKING_HUGETLB, GMEM_STRATEGY_COPY, HUGE_PAGES };

static struct lazy make_way(const struct way *way)
{
	if (way->backing == GMEM_BACKING_HUGETLB)
		want_huge_pages(way->pages);
	alarm(100);
	return make_watched(way->backing, way->pages, way->strategy);
}

static void end_way(struct lazy *lazy)
{
	end_lazy(lazy);
	alarm(0);
}

static void punch_by_hand(struct lazy *lazy, uint64_t page)
{
	assert_int_equal(fallocate(gmem_get_fd(lazy->mem, GMEM_FD_MEMORY), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(page * lazy->page), (off_t)lazy->page), 0);
}

/* --- each answer ------------------------------------------------------------------------------------------------------ */

static void assert_page_of(struct lazy *lazy, uint64_t page, int byte)
{
	struct toucher t; /* by a thread: a hang is then a failed test, not a hung one */

	touch_begin(&t, lazy->at + page * lazy->page, READ);
	assert_int_equal(touch_end(&t), byte);
	assert_bytes(lazy->at + page * lazy->page, byte, lazy->page);
}

static void answers_of(const struct way *way)
{
	struct lazy lazy = make_way(way);
	unsigned char *data = numbered(&lazy);
	struct toucher t;

	touch_begin(&t, lazy.at + lazy.page + 5, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, lazy.page, lazy.page);
	assert_false(atomic_load(&t.done));
	must_resolve(&lazy, 1, 1, GMEM_RESOLVE_DATA, data + lazy.page);
	assert_int_equal(touch_end(&t), 2);
	assert_page_of(&lazy, 1, 2);
	touch_begin(&t, lazy.at + 2 * lazy.page, 9);
	assert_true(expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 2 * lazy.page, lazy.page).flags & GMEM_FAULT_WRITE);
	must_resolve(&lazy, 2, 1, GMEM_RESOLVE_ZERO, NULL);
	assert_int_equal(touch_end(&t), 9);
	assert_int_equal(lazy.at[2 * lazy.page], 9);
	assert_bytes(lazy.at + 2 * lazy.page + 1, 0, lazy.page - 1);
	assert_map(lazy.mem, way->pages == PAGES ? "EFFEEEEE" : "EFFE");
	must_resolve(&lazy, 0, way->pages, GMEM_RESOLVE_DATA, data); /* what is there stays */
	assert_int_equal(lazy.at[2 * lazy.page], 9);
	assert_page_of(&lazy, 0, 1);
	assert_page_of(&lazy, way->pages - 1, (int)way->pages);
	no_event(lazy.uffd);
	free(data);
	end_way(&lazy);
}

static void answers(void **state)
{
	(void)state;
	answers_of(&fill_memfd);
}

static void answers_by_copy(void **state)
{
	(void)state;
	want_small_pages();
	answers_of(&copy_memfd);
}

static void answers_on_huge_pages(void **state)
{
	(void)state;
	answers_of(&fill_huge);
}

static void answers_by_copy_on_huge_pages(void **state)
{
	(void)state;
	answers_of(&copy_huge);
}

/* Whoever waits tries again, and asks again. */
static void wake_asks_again(void **state)
{
	struct lazy lazy = make_way(&fill_memfd);
	struct toucher t;

	(void)state;
	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	no_event(lazy.uffd);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_WAKE, NULL);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	assert_map(lazy.mem, "EEEEEEEE");
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_ZERO, NULL);
	assert_int_equal(touch_end(&t), 0);
	end_way(&lazy);
}

static void empty_pages_are_not_present(void **state)
{
	struct lazy lazy = make_way(&fill_memfd);
	unsigned char *data = numbered(&lazy);

	(void)state;
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_DATA, data);
	assert_int_equal(gmem_discard(lazy.mem, 3 * lazy.page, lazy.page, NULL, NULL), 0);
	assert_int_equal(resolve_pages(&lazy, 0, PAGES, GMEM_RESOLVE_PRESENT, NULL), -EBADFD);
	assert_map(lazy.mem, "FFEDEEEE");
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_PRESENT, NULL);
	must_resolve(&lazy, 3, 1, GMEM_RESOLVE_PRESENT, NULL);
	assert_map(lazy.mem, "FFEFEEEE");
	assert_page_of(&lazy, 3, 0);
	free(data);
	end_way(&lazy);
}

/* --- poison ----------------------------------------------------------------------------------------------------------- */

static void poison_of(const struct way *way)
{
	struct lazy lazy;
	unsigned char *data;
	struct toucher t;

	want_feature(GMEM_FEATURE_UFFD_POISON, "UFFDIO_POISON");
	lazy = make_way(way);
	data = numbered(&lazy);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	touch_begin(&t, lazy.at + lazy.page, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, lazy.page, lazy.page);
	must_resolve(&lazy, 0, 3, GMEM_RESOLVE_POISON, NULL);
	assert_int_equal(touch_end(&t), -SIGBUS);
	assert_int_equal(touch(lazy.at + 2 * lazy.page), -SIGBUS);
	assert_page_of(&lazy, 0, 1); /* what has content keeps it */
	assert_int_equal(state_of(lazy.mem, 1), EMPTY);
	assert_int_equal(counted(lazy.uffd).poisoned, 2);
	must_resolve(&lazy, 0, 3, GMEM_RESOLVE_POISON, NULL); /* again */
	assert_int_equal(counted(lazy.uffd).poisoned, 2);
	must_resolve(&lazy, 1, 1, GMEM_RESOLVE_DATA, data + lazy.page);
	assert_page_of(&lazy, 1, 2);
	assert_int_equal(touch(lazy.at + 2 * lazy.page), -SIGBUS);
	free(data);
	end_way(&lazy);
}

static void poison_and_repair(void **state)
{
	(void)state;
	poison_of(&fill_memfd);
}

static void poison_and_repair_by_copy(void **state)
{
	(void)state;
	want_small_pages();
	poison_of(&copy_memfd);
}

static void poison_and_repair_huge_pages(void **state)
{
	(void)state;
	poison_of(&fill_huge);
}

/* Two mappings of a page are poisoned twice, and are one page. */
static void poison_counts_pages(void **state)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .flags = GMEM_MAP_READONLY };
	struct lazy lazy;
	void *again;

	(void)state;
	want_feature(GMEM_FEATURE_UFFD_POISON, "UFFDIO_POISON");
	lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	assert_int_equal(gmem_map(lazy.mem, 0, lazy.length, &again, &opts), 0);
	watch_pages(&lazy, 0, PAGES, GMEM_STRATEGY_AUTO);
	for (int i = 0; i < 2; i++) {
		must_resolve(&lazy, 0, 4, GMEM_RESOLVE_POISON, NULL);
		assert_int_equal(counted(lazy.uffd).poisoned, 4);
	}
	assert_int_equal(touch(lazy.at), -SIGBUS);
	assert_int_equal(touch(again), -SIGBUS);
	end_way(&lazy);
}

/* --- pages in every state --------------------------------------------------------------------------------------------- */

/* Filled and mapped, filled only, given up when mapped and not, empty with a page of the file (a prefault's), empty. */
static void mixed_states(const struct way *way, enum gmem_resolve how, const char *after)
{
	struct lazy lazy = make_way(way);
	unsigned char *data = numbered(&lazy), *other = malloc(lazy.length);
	const unsigned char expected[] = { 1, 2, 0, 0, 99, 99, 7, 99 };

	memset(other, 99, lazy.length);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	must_resolve(&lazy, 2, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(gmem_populate(lazy.mem, lazy.page, lazy.page, data + lazy.page, NULL, NULL), 0);
	assert_int_equal(gmem_populate(lazy.mem, 6 * lazy.page, lazy.page, data + 6 * lazy.page, NULL, NULL), 0);
	assert_int_equal(gmem_discard(lazy.mem, 2 * lazy.page, 2 * lazy.page, NULL, NULL), 0);
	assert_map(lazy.mem, "FFDDEEFE");
	if (how == GMEM_RESOLVE_DATA) {
		must_resolve(&lazy, 0, PAGES, how, other);
		for (uint64_t i = 0; i < PAGES; i++)
			assert_page_of(&lazy, i, expected[i]);
	} else {
		must_resolve(&lazy, 0, PAGES, how, NULL);
		for (uint64_t i = 0; i < PAGES; i++)
			assert_page_of(&lazy, i, expected[i] == 99 ? 0 : expected[i]);
	}
	assert_map(lazy.mem, after);
	no_event(lazy.uffd);
	free(data);
	free(other);
	end_way(&lazy);
}

static void all_states_at_once(void **state)
{
	(void)state;
	mixed_states(&fill_memfd, GMEM_RESOLVE_DATA, "FFFFFFFF");
	mixed_states(&fill_memfd, GMEM_RESOLVE_ZERO, "FFFFFFFF");
}

static void all_states_at_once_by_copy(void **state)
{
	(void)state;
	want_small_pages();
	mixed_states(&copy_memfd, GMEM_RESOLVE_DATA, "FFFFFFFF");
	mixed_states(&copy_memfd, GMEM_RESOLVE_ZERO, "FFFFFFFF");
}

/* A prefault before: pages of zeros are mapped, of which nobody would hear. */
static void prefaulted(const struct way *way)
{
	struct lazy lazy = make_lazy(way->backing, way->pages);
	unsigned char *data = numbered(&lazy);
	struct toucher t;

	alarm(100);
	assert_int_equal(gmem_populate(lazy.mem, 0, lazy.page, data, NULL, NULL), 0);
	assert_int_equal(gmem_prefault(lazy.mem, 0, lazy.length, NULL, NULL), 0);
	assert_int_equal(lazy.at[lazy.page], 0);
	assert_int_equal(lazy.at[0], 1);
	watch_pages(&lazy, 0, way->pages, way->strategy);
	touch_begin(&t, lazy.at + lazy.page, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, lazy.page, lazy.page);
	must_resolve(&lazy, 1, 1, GMEM_RESOLVE_DATA, data + lazy.page);
	assert_int_equal(touch_end(&t), 2);
	assert_page_of(&lazy, 0, 1);
	free(data);
	end_way(&lazy);
}

static void a_prefault_before_leaves_no_zeros(void **state)
{
	(void)state;
	prefaulted(&fill_memfd);
	want_small_pages();
	prefaulted(&copy_memfd);
}

static void a_prefault_of_huge_pages_leaves_no_zeros(void **state)
{
	(void)state;
	want_huge_pages(HUGE_PAGES);
	prefaulted(&fill_huge);
}

/* Somebody frees a filled page by the fd, and tells nobody. */
static void punched(const struct way *way)
{
	struct lazy lazy = make_way(way);
	unsigned char *data = numbered(&lazy);
	struct toucher t;

	must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
	for (uint64_t i = 1; i < 3; i++) {
		punch_by_hand(&lazy, i);
		touch_begin(&t, lazy.at + i * lazy.page, READ);
		expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, i * lazy.page, lazy.page);
		if (i == 1)
			must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
		else
			must_resolve(&lazy, i, 1, GMEM_RESOLVE_PRESENT, NULL);
		assert_int_equal(touch_end(&t), 0);
		assert_page_of(&lazy, i, 0);
	}
	assert_page_of(&lazy, 0, 1);
	assert_page_of(&lazy, 3, 4);
	free(data);
	end_way(&lazy);
}

static void punched_by_hand(void **state)
{
	(void)state;
	punched(&fill_memfd);
	want_small_pages();
	punched(&copy_memfd);
}

static void huge_pages_punched_by_hand(void **state)
{
	(void)state;
	punched(&fill_huge);
}

/* --- what other calls do ---------------------------------------------------------------------------------------------- */

static void populate_wakes(void **state)
{
	struct lazy lazy = make_way(&fill_memfd);
	unsigned char *data = numbered(&lazy);
	struct toucher t;

	(void)state;
	touch_begin(&t, lazy.at + 2 * lazy.page, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 2 * lazy.page, lazy.page);
	assert_int_equal(gmem_populate(lazy.mem, 0, lazy.length, data, NULL, NULL), 0);
	/* it tries again: the file has the page now */
	assert_true(expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 2 * lazy.page, lazy.page).flags & GMEM_FAULT_MINOR);
	must_resolve(&lazy, 2, 1, GMEM_RESOLVE_PRESENT, NULL);
	assert_int_equal(touch_end(&t), 3);
	free(data);
	end_way(&lazy);
}

static void discarding(const struct way *way)
{
	struct gmem_discard_opts refetch = { .size = sizeof(refetch), .flags = GMEM_DISCARD_REFETCH };
	struct lazy lazy = make_way(way);
	unsigned char *data = numbered(&lazy);
	struct toucher t;

	must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
	assert_int_equal(gmem_discard(lazy.mem, 0, 2 * lazy.page, NULL, NULL), 0);
	assert_int_equal(gmem_discard(lazy.mem, 2 * lazy.page, lazy.page, NULL, &refetch), 0);
	for (uint64_t i = 0; i < 3; i++) {
		touch_begin(&t, lazy.at + i * lazy.page, READ);
		expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, i * lazy.page, lazy.page);
		must_resolve(&lazy, i, 1, GMEM_RESOLVE_DATA, data + i * lazy.page);
		assert_int_equal(touch_end(&t), i == 2 ? 3 : 0);
	}
	assert_page_of(&lazy, 3, 4);
	free(data);
	end_way(&lazy);
}

static void discarded_by_the_library(void **state)
{
	(void)state;
	discarding(&fill_memfd);
	want_small_pages();
	discarding(&copy_memfd);
}

static void huge_pages_discarded_by_the_library(void **state)
{
	(void)state;
	discarding(&fill_huge);
	discarding(&copy_huge);
}

#define UFFD GT_NEEDS_UFFD_MINOR
#define HUGE (GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M)

static const struct gt_test tests[] = {
	GT(answers, UFFD),
	GT(answers_by_copy, UFFD),
	GT(answers_on_huge_pages, HUGE),
	GT(answers_by_copy_on_huge_pages, HUGE),
	GT(wake_asks_again, UFFD),
	GT(empty_pages_are_not_present, UFFD),
	GT(poison_and_repair, UFFD),
	GT(poison_and_repair_by_copy, UFFD),
	GT(poison_and_repair_huge_pages, HUGE),
	GT(poison_counts_pages, UFFD),
	GT(all_states_at_once, UFFD),
	GT(all_states_at_once_by_copy, UFFD),
	GT(a_prefault_before_leaves_no_zeros, UFFD),
	GT(a_prefault_of_huge_pages_leaves_no_zeros, HUGE),
	GT(punched_by_hand, UFFD),
	GT(huge_pages_punched_by_hand, HUGE),
	GT(populate_wakes, UFFD),
	GT(discarded_by_the_library, UFFD),
	GT(huge_pages_discarded_by_the_library, HUGE),
};

GT_MAIN("fault_resolve", tests)
