/* SPDX-License-Identifier: MIT */
/* Pagers, and what the program does to their memory meanwhile. */
#include "gt.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <gmem/populate.h>

#include "content.h"
#include "handles.h"
#include "served.h"

#define PAGES 256
#define LENGTH (PAGES * page())

static void set_up_with(enum way way, answer_fn *answer, gmem_pager_fn event)
{
	begin_served(way, PAGES, answer, event, 0);
}

static void set_up(enum way way)
{
	set_up_with(way, answers_later, take_event);
}

/* --- given up, or brought, by others --- */

static void discarded_while_it_is_asked_for(enum way way)
{
	struct toucher toucher;

	set_up(way);
	touch_page(&toucher, 5, NULL);
	wait_asked(&feeder, 1);
	assert_int_equal(gmem_discard(paged.mem, 5 * page(), page(), NULL, NULL), 0);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(gmem_discard(paged.mem, 6 * page(), page(), NULL, NULL), 0); /* behind it */
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	for (uint64_t i = 0; i < 2 * page(); i++)
		assert_int_equal(paged.at[5 * page() + i], 0);
	assert_int_equal(memcmp(paged.at, content, 5 * page()), 0);
	assert_adds_up(&paged);
	end_served();
}

/* The source never answers: whoever waits gets the zeros at the deadline at the latest, and no poison. */
static void discarded_and_not_had(enum way way, int (*answer)(struct feeder *, uint64_t, uint64_t, void *))
{
	struct gmem_pager_create_opts opts = with_events(&events, 200000000);
	struct toucher toucher;

	set_up_with(way, answer, take_event);
	end_paging(&paging);
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	touch_page(&toucher, 5, NULL);
	wait_asked(&feeder, 1);
	assert_int_equal(gmem_discard(paged.mem, 5 * page(), page(), NULL, NULL), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_adds_up(&paged);
	assert_int_equal(uffd_info(&paged).poisoned, 0);
	end_served();
}

static void discarded_and_never_answered(enum way way)
{
	discarded_and_not_had(way, answers_later);
	assert_int_equal(events.failed, 0);
}

static int always_fails(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)f;
	(void)offset;
	(void)length;
	(void)buffer;
	return -EIO;
}

static void discarded_and_failed(enum way way)
{
	discarded_and_not_had(way, always_fails);
}

static void removed_by_madvise(enum way way, int advice)
{
	struct toucher toucher;

	set_up(way);
	touch_page(&toucher, 5, NULL);
	wait_asked(&feeder, 1);
	assert_int_equal(madvise(paged.at + 5 * page(), page(), advice), 0);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(memcmp(paged.at, content, 5 * page()), 0);
	assert_int_equal(madvise(paged.at + 7 * page(), page(), advice), 0); /* of what is there */
	for (uint64_t i = 0; i < page(); i++)
		assert_int_equal(paged.at[7 * page() + i], 0);
	assert_int_equal(uffd_info(&paged).removed, 2 * page());
	assert_adds_up(&paged);
	end_served();
}

static void removed_while_it_is_asked_for(enum way way)
{
	removed_by_madvise(way, MADV_REMOVE);
}

static void not_needed_while_it_is_asked_for(enum way way)
{
	removed_by_madvise(way, MADV_DONTNEED);
}

#define REGIONS 40

static void *remove_the_regions(void *unused)
{
	(void)unused;
	return madvise(paged.at, REGIONS * page(), MADV_REMOVE) == 0 ? &paged : NULL;
}

static void watch_many_regions(void)
{
	void *at;

	paged = bare_memory(GMEM_BACKING_MEMFD, LENGTH);
	for (uint64_t i = 0; i < REGIONS; i++)
		assert_int_equal(gmem_uffd_register(paged.uffd, paged.mem, i * page(), page(), NULL), 0);
	assert_int_equal(gmem_uffd_register(paged.uffd, paged.mem, REGIONS * page(), LENGTH - REGIONS * page(), NULL), 0);
	assert_int_equal(gmem_map(paged.mem, 0, LENGTH, &at, NULL), 0);
	paged.at = at;
}

/* One event of the kernel is told in forty parts; a fault lies behind it, and then the source holds the thread up. */
static void removed_over_many_regions_and_a_fault_behind(enum way way)
{
	struct toucher first, toucher;
	pthread_t thread;
	void *removed;

	set_up_with(way, waits_until_open, take_event);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	end_paged(&paged);
	watch_many_regions();
	assert_int_equal(gmem_pager_add(paging.pager, paged.uffd, feeder.source, NULL), 0);
	touch_page(&first, 100, content + 100 * page());
	wait_asked(&feeder, 1); /* a thread is in the source, if the way has no other it is all */
	assert_int_equal(pthread_create(&thread, NULL, remove_the_regions, NULL), 0);
	touch_page(&toucher, 101, content + 101 * page());
	atomic_store(&feeder.open, true);
	assert_int_equal(touched(&first), 0);
	assert_int_equal(touched(&toucher), 0);
	pthread_join(thread, &removed);
	assert_non_null(removed);
	for (uint64_t i = 0; i < REGIONS * page(); i++)
		assert_int_equal(paged.at[i], 0);
	assert_int_equal(memcmp(paged.at + REGIONS * page(), content + REGIONS * page(), LENGTH - REGIONS * page()), 0);
	assert_int_equal(uffd_info(&paged).removed, REGIONS * page());
	assert_adds_up(&paged);
	end_served();
}

static void populated_while_it_is_asked_for(enum way way)
{
	unsigned char *other = buffer(2 * page(), 0x77);
	struct toucher toucher;

	set_up(way);
	touch_page(&toucher, 5, other);
	wait_asked(&feeder, 1);
	assert_int_equal(gmem_populate(paged.mem, 5 * page(), 2 * page(), other, NULL, NULL), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(memcmp(paged.at + 5 * page(), other, 2 * page()), 0);
	assert_int_equal(memcmp(paged.at + 7 * page(), content + 7 * page(), LENGTH - 7 * page()), 0);
	assert_adds_up(&paged);
	end_served();
	free(other);
}

static void unregistered_while_it_is_asked_for(enum way way)
{
	struct toucher toucher;

	set_up(way);
	touch_page(&toucher, 5, NULL);
	wait_asked(&feeder, 1);
	assert_int_equal(gmem_uffd_unregister(paged.uffd, paged.mem, 0, LENGTH), -EBUSY);
	assert_int_equal(gmem_discard(paged.mem, 0, LENGTH, NULL, NULL), 0);
	assert_int_equal(gmem_uffd_unregister(paged.uffd, paged.mem, 0, LENGTH), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	end_served();
}

static void destroyed_while_it_is_asked_for(enum way way)
{
	struct paged other = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_FILL);
	struct toucher touchers[20];

	set_up(way); /* a deadline of ten seconds: nothing of this waits for it */
	serve(&paging, &other, feeder.source, 0, 0);
	for (uint64_t i = 0; i < 20; i++)
		touch_page(&touchers[i], i, NULL);
	wait_pending(&paged, 20);
	gmem_destroy(paged.mem);
	paged.mem = NULL;
	for (int i = 0; i < 20; i++)
		assert_int_equal(touched(&touchers[i]), -EFAULT);
	touch_in_pager(&touchers[0], other.at, page(), content);
	wait_pending(&other, 1);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(touched(&touchers[0]), 0);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	assert_int_equal(uffd_info(&paged).pending, 0);
	assert_int_equal(events.failed, 0);
	end_served();
	end_paged(&other);
}

IN_EACH_WAY(discarded_while_it_is_asked_for)
IN_EACH_WAY(discarded_and_never_answered)
IN_EACH_WAY(discarded_and_failed)
IN_EACH_WAY(removed_while_it_is_asked_for)
IN_EACH_WAY(not_needed_while_it_is_asked_for)
IN_EACH_WAY(removed_over_many_regions_and_a_fault_behind)
IN_EACH_WAY(populated_while_it_is_asked_for)
IN_EACH_WAY(unregistered_while_it_is_asked_for)
IN_EACH_WAY(destroyed_while_it_is_asked_for)

static void *give_up_a_page(void *arg)
{
	return (void *)(intptr_t)madvise((unsigned char *)arg, page(), MADV_REMOVE);
}

/* Whoever gives up pages waits until that has been read, and meanwhile no page can be mapped: the only thread is in the source. */
static void the_address_space_changes(enum way way)
{
	struct pollfd fd = { .events = POLLIN };
	struct toucher toucher;
	pthread_t thread;
	void *result;

	set_up_with(way, waits_until_open, take_event);
	fd.fd = gmem_uffd_get_fd(paged.uffd);
	touch_page(&toucher, 5, content + 5 * page());
	wait_asked(&feeder, 1);
	assert_int_equal(pthread_create(&thread, NULL, give_up_a_page, paged.at + 9 * page()), 0);
	assert_int_equal(poll(&fd, 1, 20000), 1);
	atomic_store(&feeder.open, true);
	assert_int_equal(touched(&toucher), 0);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(paged.at[9 * page()], 0);
	assert_true(uffd_info(&paged).retries > 0);
	assert_adds_up(&paged);
	end_served();
}

static void the_address_space_changes_under_a_lent_thread(void **state)
{
	(void)state;
	the_address_space_changes(LENT);
}

static void the_address_space_changes_under_an_event_loop(void **state)
{
	(void)state;
	the_address_space_changes(POLLED);
}

/* --- many --- */

#define MANY 150 /* above GMEMI_REQUESTS */

static void more_wait_than_there_are_requests(enum way way)
{
	static struct toucher touchers[MANY];
	struct question q;

	set_up(way);
	for (uint64_t i = 0; i < MANY; i++)
		touch_page(&touchers[i], i, content + i * page());
	for (int i = 0; i < MANY && next_question(&feeder, &q); i++) {
		if (i == 0)
			wait_asked(&feeder, 128);
		assert_int_equal(deliver(&feeder, q.offset, q.length), 0);
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(touched(&touchers[i]), 0);
	assert_int_equal(asked(&feeder), MANY);
	assert_adds_up(&paged);
	end_served();
}

IN_EACH_WAY(more_wait_than_there_are_requests)

/* Zeros that nobody needs are not made: who comes while they are being left out must not be forgotten. */
#define ROUNDS 300
#define COMERS 4

static pthread_barrier_t barrier;

static void *come(void *arg)
{
	uintptr_t number = (uintptr_t)arg;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		sum += *(volatile unsigned char *)(paged.at + (number * 61 + i) * 2 % PAGES * page());
		pthread_barrier_wait(&barrier);
	}
	return (void *)(uintptr_t)sum;
}

static void those_who_come_while_zeros_are_left_out(void **state)
{
	struct gmem_pager_create_opts opts = { .size = sizeof(opts), .around_mode = GMEM_AROUND_FIXED, .around = 2 << 20 };
	struct gmem_discard_opts again = { .size = sizeof(again), .flags = GMEM_DISCARD_REFETCH };
	pthread_t threads[COMERS];
	void *sum;

	(void)state;
	set_up_with(OWN, NULL, take_event);
	for (uint64_t i = 0; i < PAGES; i += 2) /* between pages that take their time */
		memset(content + i * page(), 0, page());
	end_paging(&paging);
	paging = make_pager(THREE_OWN, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, COMERS + 1), 0);
	for (uintptr_t i = 0; i < COMERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come, (void *)i), 0);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(gmem_discard(paged.mem, 0, LENGTH, NULL, &again), 0);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	for (int i = 0; i < COMERS; i++) {
		pthread_join(threads[i], &sum);
		assert_null(sum);
	}
	pthread_barrier_destroy(&barrier);
	assert_adds_up(&paged);
	end_served();
}

static const struct gt_test tests[] = {
	EACH_WAY(discarded_while_it_is_asked_for, NEEDS_PAGING),
	EACH_WAY(discarded_and_never_answered, NEEDS_PAGING),
	EACH_WAY(discarded_and_failed, NEEDS_PAGING),
	EACH_WAY(removed_while_it_is_asked_for, NEEDS_PAGING),
	EACH_WAY(not_needed_while_it_is_asked_for, NEEDS_PAGING),
	EACH_WAY(removed_over_many_regions_and_a_fault_behind, NEEDS_PAGING),
	EACH_WAY(populated_while_it_is_asked_for, NEEDS_PAGING),
	EACH_WAY(unregistered_while_it_is_asked_for, NEEDS_PAGING),
	EACH_WAY(destroyed_while_it_is_asked_for, NEEDS_PAGING),
	GT(the_address_space_changes_under_a_lent_thread, NEEDS_PAGING),
	GT(the_address_space_changes_under_an_event_loop, NEEDS_PAGING),
	EACH_WAY(more_wait_than_there_are_requests, NEEDS_PAGING),
	GT(those_who_come_while_zeros_are_left_out, NEEDS_PAGING),
};

GT_MAIN("pager_edges", tests)
