/* SPDX-License-Identifier: MIT */
/* Pages that madvise() gives up: the event comes first, is marked for all regions at once, and zeros are what is read then. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "faults.h"
#include "handles.h"

#define PAGES 8

static unsigned char *sevens(const struct lazy *lazy)
{
	unsigned char *data = malloc(lazy->length);

	alarm(100);
	assert_non_null(data);
	memset(data, 7, lazy->length);
	return data;
}

static void end(struct lazy *lazy, unsigned char *data)
{
	free(data);
	end_lazy(lazy);
	alarm(0);
}

/* Touched, it asks, and whatever it is answered with, it reads zeros. */
static void assert_zeros_at(struct lazy *lazy, uint64_t page, const unsigned char *data)
{
	struct toucher t;

	touch_begin(&t, lazy->at + page * lazy->page, READ);
	expect_event(lazy->uffd, GMEM_FAULT_PAGE, lazy->mem, page * lazy->page, lazy->page);
	must_resolve(lazy, page, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch_end(&t), 0);
	assert_bytes(lazy->at + page * lazy->page, 0, lazy->page);
}

/* --- one region ------------------------------------------------------------------------------------------------------- */

/* Page 1 is mapped and filled, page 2 empty. */
static void given_up(uint32_t backing, enum gmem_strategy strategy, int advice)
{
	struct lazy lazy = make_watched(backing, 4, strategy);
	unsigned char *data = sevens(&lazy);
	struct toucher t;

	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch(lazy.at + lazy.page), 7);
	advise_begin(&t, lazy.at + lazy.page, 2 * lazy.page, advice);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, lazy.page, 2 * lazy.page);
	assert_int_equal(touch_end(&t), 0);
	assert_map(lazy.mem, "FDDE");
	assert_int_equal(counted(lazy.uffd).removed, 2 * lazy.page);
	assert_zeros_at(&lazy, 1, data);
	assert_zeros_at(&lazy, 2, data);
	must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch(lazy.at + lazy.page), 0);
	assert_int_equal(touch(lazy.at), 7);
	assert_int_equal(touch(lazy.at + 3 * lazy.page), 7);
	end(&lazy, data);
}

static void given_up_by_advice(void **state)
{
	(void)state;
	given_up(GMEM_BACKING_MEMFD, GMEM_STRATEGY_FILL, MADV_REMOVE);
	given_up(GMEM_BACKING_MEMFD, GMEM_STRATEGY_FILL, MADV_DONTNEED);
}

static void given_up_by_advice_with_copy(void **state)
{
	(void)state;
	want_small_pages();
	given_up(GMEM_BACKING_MEMFD, GMEM_STRATEGY_COPY, MADV_REMOVE);
}

/* What the file has is in use again without a fault: nothing that was written there may go, by whatever comes later. */
static void copies_stay_where_madvise_leaves_them(void **state)
{
	struct lazy lazy;
	unsigned char *data;
	struct toucher t;

	(void)state;
	want_small_pages();
	lazy = make_watched(GMEM_BACKING_MEMFD, 4, GMEM_STRATEGY_COPY);
	data = sevens(&lazy);
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_DATA, data);
	advise_begin(&t, lazy.at, 3 * lazy.page, MADV_DONTNEED);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 0, 3 * lazy.page);
	assert_int_equal(touch_end(&t), 0);
	lazy.at[0] = 9;
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(lazy.at[0], 9);
	lazy.at[lazy.page] = 8;
	must_resolve(&lazy, 2, 2, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch(lazy.at + 2 * lazy.page), 0);
	assert_map(lazy.mem, "FDFF");
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	assert_int_equal(lazy.at[0], 9);
	assert_int_equal(lazy.at[1], 7);
	assert_int_equal(lazy.at[lazy.page], 8);
	end(&lazy, data);
}

static void huge_pages_given_up_by_advice(void **state)
{
	(void)state;
	want_huge_pages(4);
	given_up(GMEM_BACKING_HUGETLB, GMEM_STRATEGY_FILL, MADV_REMOVE);
	given_up(GMEM_BACKING_HUGETLB, GMEM_STRATEGY_COPY, MADV_REMOVE);
}

/* The madvise() is under way until its event is read. */
static void it_waits_for_the_reader(void **state)
{
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_AUTO);
	unsigned char *data = sevens(&lazy);
	struct toucher t;
	uint64_t done = 77;

	(void)state;
	advise_begin(&t, lazy.at, 2 * lazy.page, MADV_REMOVE);
	/* Nothing can be mapped meanwhile, which is how it is known that the event is there. */
	while (gmem_uffd_resolve(lazy.uffd, lazy.mem, 4 * lazy.page, lazy.page, GMEM_RESOLVE_DATA, data, &done) == 0)
		assert_int_equal(gmem_discard(lazy.mem, 4 * lazy.page, lazy.page, NULL, NULL), 0);
	assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.page, GMEM_RESOLVE_DATA, data, &done), -EAGAIN);
	assert_int_equal(done, 0);
	assert_true(counted(lazy.uffd).retries > 0);
	assert_false(atomic_load(&t.done));
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 0, 2 * lazy.page);
	assert_int_equal(touch_end(&t), 0);
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_DATA, data); /* the content is what it is too late for */
	assert_bytes(lazy.at, 0, 2 * lazy.page);
	end(&lazy, data);
}

static void a_part_of_a_huge_page_stays_what_it_was(void **state)
{
	struct lazy lazy;
	unsigned char *data;
	struct toucher t;

	(void)state;
	want_huge_pages(4);
	lazy = make_watched(GMEM_BACKING_HUGETLB, 4, GMEM_STRATEGY_AUTO);
	data = sevens(&lazy);
	must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
	advise_begin(&t, lazy.at + page(), 2 * lazy.page, MADV_REMOVE);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, lazy.page, lazy.page);
	assert_int_equal(touch_end(&t), 0);
	assert_map(lazy.mem, "FDFF");
	assert_bytes(lazy.at, 7, page());
	assert_bytes(lazy.at + page(), 0, lazy.page - page());
	assert_bytes(lazy.at + 2 * lazy.page, 0, page());
	assert_bytes(lazy.at + 2 * lazy.page + page(), 7, lazy.page - page());
	advise_begin(&t, lazy.at + page(), page(), MADV_REMOVE); /* no page of it: nothing is told */
	while (!atomic_load(&t.done))
		no_event(lazy.uffd);
	assert_int_equal(touch_end(&t), 0);
	assert_map(lazy.mem, "FDFF");
	end(&lazy, data);
}

/* --- the order of fault and removal ----------------------------------------------------------------------------------- */

static void fault_then_removal(enum gmem_strategy strategy, int advice)
{
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, strategy);
	unsigned char *data = sevens(&lazy);
	struct toucher t, remover;

	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	advise_begin(&remover, lazy.at, lazy.page, advice);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 0, lazy.page);
	assert_int_equal(touch_end(&remover), 0);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch_end(&t), 0);
	assert_bytes(lazy.at, 0, lazy.page);
	end(&lazy, data);
}

/* The content comes between the madvise() and its event. */
static void content_between(enum gmem_strategy strategy, int advice)
{
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, strategy);
	unsigned char *data = sevens(&lazy);
	struct toucher t, remover;
	int r;

	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	advise_begin(&remover, lazy.at, lazy.page, advice);
	r = resolve_pages(&lazy, 0, 1, GMEM_RESOLVE_DATA, data); /* whichever comes first */
	assert_true(r == 0 || r == -EAGAIN);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 0, lazy.page);
	assert_int_equal(touch_end(&remover), 0);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	assert_true(touch_end(&t) == 0 || (r == 0 && t.result == 7));
	assert_bytes(lazy.at, 0, lazy.page);
	end(&lazy, data);
}

static void fault_and_removal_in_any_order(void **state)
{
	static const int advices[] = { MADV_REMOVE, MADV_DONTNEED };

	(void)state;
	want_small_pages();
	for (int i = 0; i < 40; i++) {
		if ((i & 3) == 3) /* that leaves pages that are there */
			continue;
		fault_then_removal(i & 2 ? GMEM_STRATEGY_COPY : GMEM_STRATEGY_FILL, advices[i & 1]);
		content_between(i & 2 ? GMEM_STRATEGY_COPY : GMEM_STRATEGY_FILL, advices[i & 1]);
	}
}

struct filler {
	struct lazy *lazy;
	const unsigned char *data;
	int result;
};

static void *fill_page_0(void *arg)
{
	struct filler *filler = arg;

	filler->result = gmem_uffd_resolve(filler->lazy->uffd, filler->lazy->mem, 0, filler->lazy->page, GMEM_RESOLVE_DATA,
					   filler->data, NULL);
	return NULL;
}

/* The content is on its way while the page is given up: it is read from a page that somebody has to serve first. */
static void given_up_while_it_is_filled(void **state)
{
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_FILL);
	struct lazy slow = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_FILL);
	struct filler filler = { .lazy = &lazy, .data = slow.at };
	unsigned char *data = sevens(&lazy);
	struct toucher t, remover;
	pthread_t thread;

	(void)state;
	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	assert_int_equal(pthread_create(&thread, NULL, fill_page_0, &filler), 0);
	expect_event(slow.uffd, GMEM_FAULT_PAGE, slow.mem, 0, lazy.page);
	advise_begin(&remover, lazy.at, lazy.page, MADV_REMOVE);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 0, lazy.page);
	assert_int_equal(touch_end(&remover), 0);
	must_resolve(&slow, 0, 1, GMEM_RESOLVE_DATA, data);
	pthread_join(thread, NULL);
	assert_int_equal(filler.result, 0);
	assert_int_equal(touch_end(&t), 0);
	assert_bytes(lazy.at, 0, lazy.page);
	assert_map(lazy.mem, "FEEEEEEE");
	end_lazy(&slow);
	end(&lazy, data);
}

/* --- several regions -------------------------------------------------------------------------------------------------- */

/* All of it is known with the first part told: what is filled in the meantime is zeros. */
static void over_several_regions_told_one_by_one(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	unsigned char *data = sevens(&lazy);
	struct toucher t;
	int r;

	(void)state;
	watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO);
	watch_pages(&lazy, 2, 1, GMEM_STRATEGY_AUTO);
	watch_pages(&lazy, 3, 4, GMEM_STRATEGY_AUTO);
	must_resolve(&lazy, 0, 5, GMEM_RESOLVE_DATA, data);
	advise_begin(&t, lazy.at + lazy.page, 5 * lazy.page, MADV_REMOVE);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, lazy.page, lazy.page);
	assert_map(lazy.mem, "FDDDDDEE");
	r = resolve_pages(&lazy, 3, 4, GMEM_RESOLVE_DATA, data); /* the kernel may not be ready */
	assert_true(r == 0 || r == -EAGAIN);
	assert_int_equal(touch_end(&t), 0);
	must_resolve(&lazy, 3, 4, GMEM_RESOLVE_DATA, data);
	lazy.at[4 * lazy.page] = 9; /* and what is written there now stays, whenever the rest is told */
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 2 * lazy.page, lazy.page);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 3 * lazy.page, 3 * lazy.page);
	no_event(lazy.uffd);
	assert_map(lazy.mem, "FDDFFFFE");
	assert_bytes(lazy.at + 3 * lazy.page, 0, lazy.page);
	assert_int_equal(lazy.at[4 * lazy.page], 9);
	assert_int_equal(counted(lazy.uffd).removed, 5 * lazy.page);
	end(&lazy, data);
}

/* Two memories side by side at one reservation. */
static void over_two_memories(void **state)
{
	struct gmem_create_opts need = { .size = sizeof(need), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	unsigned char *data = sevens(&lazy), *at;
	struct gmem *other;
	void *address;
	struct toucher t;

	(void)state;
	at = mmap(NULL, 2 * lazy.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_int_equal(gmem_create(lazy.vm, lazy.length, &other, &need), 0);
	opts.address = at;
	assert_int_equal(gmem_map(lazy.mem, 0, lazy.length, &address, &opts), 0);
	opts.address = at + lazy.length;
	assert_int_equal(gmem_map(other, 0, lazy.length, &address, &opts), 0);
	watch_pages(&lazy, 0, PAGES, GMEM_STRATEGY_AUTO);
	assert_int_equal(gmem_uffd_register(lazy.uffd, other, 0, lazy.length, NULL), 0);
	advise_begin(&t, at + 6 * lazy.page, 4 * lazy.page, MADV_DONTNEED);
	/* The kernel tells it mapping by mapping. */
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 6 * lazy.page, 2 * lazy.page);
	expect_event(lazy.uffd, GMEM_FAULT_REMOVED, other, 0, 2 * lazy.page);
	assert_int_equal(touch_end(&t), 0);
	assert_map(lazy.mem, "EEEEEEDD");
	assert_map(other, "DDEEEEEE");
	gmem_destroy(other);
	end(&lazy, data);
	munmap(at, 2 * PAGES * page());
}

/* Many readers at once, and many who resolve: nobody is kept out. */
struct crowd {
	struct lazy *lazy;
	const unsigned char *data;
	atomic_bool stop;
	atomic_int failed;
};

static void *resolve_all_the_time(void *arg)
{
	struct crowd *crowd = arg;

	while (!atomic_load(&crowd->stop)) {
		int r = gmem_uffd_resolve(crowd->lazy->uffd, crowd->lazy->mem, 0, 4 * crowd->lazy->page, GMEM_RESOLVE_DATA, crowd->data, NULL);

		if (r && r != -EAGAIN)
			atomic_store(&crowd->failed, r);
	}
	return NULL;
}

static void a_reader_among_many_who_resolve(void **state)
{
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_AUTO);
	struct crowd crowd = { .lazy = &lazy, .data = sevens(&lazy) };
	pthread_t threads[4];
	struct toucher t;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, resolve_all_the_time, &crowd), 0);
	for (int i = 0; i < 200; i++) {
		advise_begin(&t, lazy.at + 5 * lazy.page, lazy.page, MADV_REMOVE);
		expect_event(lazy.uffd, GMEM_FAULT_REMOVED, lazy.mem, 5 * lazy.page, lazy.page);
		assert_int_equal(touch_end(&t), 0);
	}
	atomic_store(&crowd.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&crowd.failed), 0);
	end(&lazy, (unsigned char *)(uintptr_t)crowd.data);
}

static const struct gt_test tests[] = {
	GT(given_up_by_advice, GT_NEEDS_UFFD_MINOR),
	GT(given_up_by_advice_with_copy, GT_NEEDS_UFFD_MINOR),
	GT(copies_stay_where_madvise_leaves_them, GT_NEEDS_UFFD_MINOR),
	GT(huge_pages_given_up_by_advice, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(it_waits_for_the_reader, GT_NEEDS_UFFD_MINOR),
	GT(a_part_of_a_huge_page_stays_what_it_was, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(fault_and_removal_in_any_order, GT_NEEDS_UFFD_MINOR),
	GT(given_up_while_it_is_filled, GT_NEEDS_UFFD_MINOR),
	GT(over_several_regions_told_one_by_one, GT_NEEDS_UFFD_MINOR),
	GT(over_two_memories, GT_NEEDS_UFFD_MINOR),
	GT(a_reader_among_many_who_resolve, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_events", tests)
