/* SPDX-License-Identifier: MIT */
/* Pages that are given up for new content while their source is at work: whoever touches them gets the new one, and nobody waits
 * for an answer that will not come. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "handles.h"
#include "memories.h"
#include "served.h"

#define PAGES 64
#define AROUND 16
#define TOUCHERS 2
#define ROUNDS 1500
#define MANY (UINT64_C(6) << 20) /* bytes, of which a call of the library makes a third at once */
#define REMEMBERED 64 /* refetches that the library can tell from each other */

static void set_up(enum way way, answer_fn *answer)
{
	struct gmem_pager_create_opts opts = with_events(&events, 0);

	begin_served(way, PAGES, answer, take_event, 0);
	end_paging(&paging);
	opts.around_mode = GMEM_AROUND_FIXED;
	opts.around = AROUND * page();
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
}

static int refetch(uint64_t number, uint64_t count)
{
	const struct gmem_discard_opts opts = { .size = sizeof(opts), .flags = GMEM_DISCARD_REFETCH };

	return gmem_discard(paged.mem, number * page(), count * page(), NULL, &opts);
}

static void touch(struct toucher *toucher, uint64_t number)
{
	touch_page(toucher, number, content + number * page());
}

/* --- one after the other ------------------------------------------------------------------------------------------------ */

/* Two wait for pages of one question, and the first of them has come. */
static void deliver_one_of_two(enum way way, struct toucher *second)
{
	struct toucher first;

	set_up(way, answers_later);
	touch(&first, 4);
	wait_asked(&feeder, 1);
	assert_int_equal(question(&feeder, 0).length, AROUND * page());
	touch(second, 9);
	wait_pending(&paged, 2);
	assert_int_equal(deliver(&feeder, 4 * page(), page()), 0);
	assert_int_equal(touched(&first), 0);
}

static void delivered_and_given_up_before_the_rest(enum way way)
{
	struct toucher toucher, second;

	deliver_one_of_two(way, &second);
	assert_int_equal(refetch(4, 1), 0);
	memset(content + 4 * page(), 0x4e, page());
	touch(&toucher, 4);
	wait_asked(&feeder, 2);
	assert_int_equal(deliver(&feeder, 0, AROUND * page()), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(touched(&second), 0);
	assert_int_equal(events.failed, 0);
	end_served();
}
IN_EACH_WAY(delivered_and_given_up_before_the_rest)

/* Who comes to wait for another page of a question that is being answered in parts asks for nothing anew. */
static void not_asked_anew_without_need(enum way way)
{
	struct toucher toucher, second;

	deliver_one_of_two(way, &second);
	touch(&toucher, 5);
	wait_pending(&paged, 3);
	assert_int_equal(deliver(&feeder, 0, AROUND * page()), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(touched(&second), 0);
	assert_int_equal(asked(&feeder), 1);
	end_served();
}
IN_EACH_WAY(not_asked_anew_without_need)

static int delivers_and_gives_up(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)buffer;
	if (f->count > 1)
		return FEEDER_GIVES;
	assert_int_equal(deliver(f, offset, length), 0);
	assert_int_equal(refetch(4, 1), 0);
	return GMEM_ANSWER_LATER;
}

/* Delivered, and given up, before the source has said that it would. */
static void given_up_before_the_read_returns(enum way way)
{
	struct toucher toucher;

	set_up(way, delivers_and_gives_up);
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), 0);
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(events.failed, 0);
	assert_int_equal(uffd_info(&paged).source_errors, 0);
	end_served();
}
IN_EACH_WAY(given_up_before_the_read_returns)

static struct toucher joins;

static int is_joined(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)offset;
	(void)length;
	(void)buffer;
	if (f->count > 1)
		return FEEDER_GIVES;
	assert_int_equal(deliver(f, 4 * page(), page()), 0);
	assert_int_equal(refetch(4, 1), 0);
	touch(&joins, 4);
	wait_pending(&paged, 2);
	return GMEM_ANSWER_LATER;
}

/* Somebody comes for a page that was delivered, and given up, while the source has not said yet that it would be. */
static void joined_before_the_read_returns(enum way way)
{
	struct toucher toucher;

	set_up(way, is_joined);
	touch(&toucher, 9);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(touched(&joins), 0);
	assert_int_equal(asked(&feeder), 2);
	assert_int_equal(events.failed, 0);
	end_served();
}

static void joined_before_the_read_returns_by_a_thread(void **state)
{
	(void)state;
	joined_before_the_read_returns(OWN);
}

static void joined_before_the_read_returns_by_three_threads(void **state)
{
	(void)state;
	joined_before_the_read_returns(THREE_OWN);
}

static void *deliver_much(void *unused)
{
	(void)unused;
	(void)deliver(&feeder, 0, MANY);
	return NULL;
}

/* A delivery of much more than was asked for, and its first page is given up while the last is being made. */
static void given_up_while_the_rest_is_made(enum way way)
{
	struct gmem_pager_create_opts opts = with_events(&events, SECOND);
	struct toucher toucher, again;

	begin_served(way, MANY / page(), answers_later, take_event, 0);
	end_paging(&paging);
	paging = make_pager(way, &opts);
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
	for (unsigned int i = 1; i < 10; i += 2) {
		pthread_t thread;

		touch(&toucher, 4);
		wait_asked(&feeder, i);
		assert_int_equal(pthread_create(&thread, NULL, deliver_much, NULL), 0);
		assert_int_equal(touched(&toucher), 0);
		assert_int_equal(refetch(4, 1), 0);
		touch(&again, 4);
		wait_asked(&feeder, i + 1);
		pthread_join(thread, NULL);
		assert_int_equal(deliver(&feeder, 0, MANY), 0);
		assert_int_equal(touched(&again), 0);
		assert_int_equal(refetch(0, MANY / page()), 0);
	}
	assert_int_equal(events.failed, 0);
	end_served();
}
IN_EACH_WAY(given_up_while_the_rest_is_made)

/* --- while it is read --------------------------------------------------------------------------------------------------- */

static int grows_old(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	memcpy(buffer, f->content + offset, length);
	if (f->count == 1) {
		memset((unsigned char *)buffer + (4 * page() - offset), 0x0d, page());
		assert_int_equal(refetch(4, 1), 0);
	}
	return GMEM_ANSWER_DATA;
}

static void old_content_is_not_stored(enum way way)
{
	struct toucher toucher;

	set_up(way, grows_old);
	touch_page(&toucher, 4, content + 4 * page());
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(asked(&feeder), 2);
	end_served();
}
IN_EACH_WAY(old_content_is_not_stored)

static unsigned int elsewhere;

static int others_grow_old(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	memcpy(buffer, f->content + offset, length);
	for (unsigned int i = 0; f->count == 1 && i < elsewhere; i++)
		assert_int_equal(refetch(PAGES / 2 + i % 8, 1), 0);
	return GMEM_ANSWER_DATA;
}

static void check_elsewhere(enum way way, unsigned int count, unsigned int questions)
{
	struct toucher toucher;

	elsewhere = count;
	set_up(way, others_grow_old);
	touch(&toucher, 4);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(asked(&feeder), questions);
	end_served();
}

static void what_grows_old_elsewhere_does_not_matter(void **state)
{
	(void)state;
	check_elsewhere(OWN, REMEMBERED, 1);
}

/* More than can be remembered: asked again, to be sure. */
static void very_much_grows_old_elsewhere(void **state)
{
	(void)state;
	check_elsewhere(OWN, REMEMBERED + 1, 2);
}

/* --- all at once -------------------------------------------------------------------------------------------------------- */

static _Atomic uint64_t version[PAGES];

static int gives_versions(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)f;
	for (uint64_t at = 0; at < length; at += page())
		for (uint64_t i = 0; i < page(); i += sizeof(uint64_t)) {
			uint64_t v = atomic_load(&version[(offset + at) / page()]);

			memcpy((unsigned char *)buffer + at + i, &v, sizeof(v));
		}
	return GMEM_ANSWER_DATA;
}

static void *deliver_all(void *unused)
{
	struct question q;

	(void)unused;
	while (next_question(&feeder, &q) && q.length)
		if (deliver(&feeder, q.offset, q.length) < 0)
			return "a delivery is refused";
	return NULL;
}

/* There is nothing more. */
static void ask_for_nothing(void)
{
	pthread_mutex_lock(&feeder.lock);
	feeder.asked[feeder.count++ % QUESTIONS] = (struct question){ .length = 0 };
	pthread_cond_signal(&feeder.more);
	pthread_mutex_unlock(&feeder.lock);
}

struct user {
	pthread_t thread;
	uint64_t first; /* of every TOUCHERS pages its own */
	bool versions;
	uint64_t wrong;
};

/* What was touched is given up at once, while its neighbours are still being made; and then all around it. */
static void *use(void *arg)
{
	struct user *user = arg;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t number = i * 2654435761u % (PAGES / TOUCHERS) * TOUCHERS + user->first;
		const volatile uint64_t *word = (const volatile uint64_t *)(paged.at + number * page());
		uint64_t v = *word;

		if (user->versions && v != atomic_load(&version[number]))
			user->wrong++;
		if (user->versions)
			atomic_fetch_add(&version[number], 1);
		if (refetch(number, 1) < 0 || (user->versions && word[7] != atomic_load(&version[number])))
			user->wrong++;
		v = *word;
		if (refetch(number / 4 * 4, 4) < 0)
			user->wrong++;
	}
	return NULL;
}

static void use_all(bool versions)
{
	struct user users[TOUCHERS];

	for (uint64_t i = 0; i < TOUCHERS; i++) {
		users[i] = (struct user){ .first = i, .versions = versions };
		assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
	}
	for (uint64_t i = 0; i < TOUCHERS; i++) {
		pthread_join(users[i].thread, NULL);
		assert_int_equal(users[i].wrong, 0);
	}
	assert_int_equal(events.failed, 0);
}

static void every_touch_sees_the_last_content(enum way way)
{
	set_up(way, gives_versions);
	use_all(true);
	end_served();
}
IN_EACH_WAY(every_touch_sees_the_last_content)

static void no_touch_is_forgotten(enum way way)
{
	pthread_t thread;
	void *what;

	set_up(way, answers_later);
	assert_int_equal(pthread_create(&thread, NULL, deliver_all, NULL), 0);
	use_all(false);
	ask_for_nothing();
	pthread_join(thread, &what);
	assert_null(what);
	end_served();
}
IN_EACH_WAY(no_touch_is_forgotten)

static const struct gt_test tests[] = {
	EACH_WAY(delivered_and_given_up_before_the_rest, NEEDS_PAGING),
	EACH_WAY(not_asked_anew_without_need, NEEDS_PAGING),
	EACH_WAY(given_up_before_the_read_returns, NEEDS_PAGING),
	GT(joined_before_the_read_returns_by_a_thread, NEEDS_PAGING), /* another takes its place while it waits in the source */
	GT(joined_before_the_read_returns_by_three_threads, NEEDS_PAGING),
	EACH_WAY(given_up_while_the_rest_is_made, NEEDS_PAGING),
	EACH_WAY(old_content_is_not_stored, NEEDS_PAGING),
	GT(what_grows_old_elsewhere_does_not_matter, NEEDS_PAGING),
	GT(very_much_grows_old_elsewhere, NEEDS_PAGING),
	EACH_WAY(every_touch_sees_the_last_content, NEEDS_PAGING),
	EACH_WAY(no_touch_is_forgotten, NEEDS_PAGING),
};

GT_MAIN("pager_refetch", tests)
