/* SPDX-License-Identifier: MIT */
/* Who hears of what a source delivers, and that nobody does any more who has left. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <gmem/source.h>

#include "err.h"
#include "patches.h"
#include "refusal.h"

static struct patches patches;
static const unsigned char page_of_data[PATCH] = { 1, 2, 3 };

static struct gmem_source *late_source(void)
{
	memset(&patches, 0, sizeof(patches));
	patches.late = true;
	return patchy_source(&patches);
}

static int deliver(struct gmem_source *source, uint64_t offset, uint64_t length, const void *data, int answer)
{
	spoil_sentence();
	return gmem_source_deliver(source, offset, length, data, answer);
}

static void bad_deliveries_are_refused(void **state)
{
	struct gmem_source *source = late_source();
	static struct listener listener;

	(void)state;
	listen_to(source, &listener);
	bad("gmem_source_deliver", deliver(NULL, 0, PATCH, page_of_data, 0), -EINVAL, "NULL");
	bad("gmem_source_deliver", deliver(source, 0, PATCH, NULL, 0), -EINVAL, "data is NULL");
	bad("gmem_source_deliver", deliver(source, 0, 0, page_of_data, 0), -EINVAL, "length");
	bad("gmem_source_deliver", deliver(source, UINT64_MAX - 1, 2, page_of_data, 0), -EINVAL, "wraps");
	bad("gmem_source_deliver", deliver(source, 0, PATCH, page_of_data, GMEM_ANSWER_LATER), -EINVAL, "2 cannot");
	bad("gmem_source_deliver", deliver(source, 0, PATCH, page_of_data, 3), -EINVAL, "3 cannot");
	bad("gmem_source_deliver", deliver(source, 0, PATCH, page_of_data, -4096), -EINVAL, "-4096 cannot");
	assert_int_equal(listener.deliveries, 0);
	gmemi_source_detach(source, &listener.user);
	bad("gmem_source_deliver", deliver(source, 0, PATCH, page_of_data, 0), -ENOTCONN, "nobody");
	gmem_source_destroy(source);
}

static void everybody_hears_of_it_and_the_first_failure_counts(void **state)
{
	struct gmem_source *source = late_source();
	static struct listener listeners[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		listen_to(source, &listeners[i]);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, GMEM_ANSWER_DATA), 0);
	assert_int_equal(deliver(source, PATCH, PATCH, page_of_data, GMEM_ANSWER_ZERO), 0);
	assert_int_equal(deliver(source, 2 * PATCH, PATCH, page_of_data, -EAGAIN), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(listeners[i].deliveries, 3);
		assert_int_equal(listeners[i].bytes[2], 3);
		assert_int_equal(listeners[i].bytes[PATCH], 0);
		assert_int_equal(listeners[i].bytes[2 * PATCH], -EAGAIN);
		assert_int_equal(listeners[i].bytes[3 * PATCH], NOTHING);
	}
	listeners[1].result = -ENOSPC;
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), -ENOSPC);
	listeners[1].result = -ENOTCONN; /* nobody behind it */
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	for (int i = 0; i < 3; i++)
		listeners[i].result = -ENOTCONN;
	bad("gmem_source_deliver", deliver(source, 0, PATCH, page_of_data, 0), -ENOTCONN, "nobody");
	assert_int_equal(listeners[0].deliveries + listeners[1].deliveries + listeners[2].deliveries, 18);
	gmemi_source_detach(source, &listeners[1].user);
	listeners[0].result = 0;
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	assert_int_equal(listeners[1].deliveries, 6);
	gmemi_source_detach(source, &listeners[0].user);
	gmemi_source_detach(source, &listeners[2].user);
	gmem_source_destroy(source);
}

/* Users who leave, or give up the source, while they are told */

static struct guest {
	struct gmemi_source_user user; /* first */
	struct gmem_source *source;
	struct guest *other;
	unsigned int told;
} guests[3];

static int leave(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct guest *guest = (struct guest *)user;

	(void)offset;
	(void)length;
	(void)data;
	(void)answer;
	guest->told++;
	if (guest->other)
		gmemi_source_detach(guest->source, &guest->other->user);
	memset(guest->other ? &guest->other->user : user, 0x5a, sizeof(*user)); /* it may be gone at once */
	return 0;
}

static void attach_guest(struct gmem_source *source, int i, struct guest *other)
{
	guests[i] = (struct guest){ .user.deliver = leave, .source = source, .other = other };
	gmemi_source_attach(source, &guests[i].user);
}

static void a_user_may_leave_while_it_is_told(void **state)
{
	struct gmem_source *source = late_source();

	(void)state;
	attach_guest(source, 0, &guests[0]);
	attach_guest(source, 1, &guests[1]);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	assert_int_equal(guests[0].told + guests[1].told, 2);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), -ENOTCONN);
	gmem_source_destroy(source);
}

static void a_user_that_was_taken_off_the_list_is_not_told(void **state)
{
	struct gmem_source *source = late_source();

	(void)state;
	attach_guest(source, 0, &guests[1]); /* whichever comes first takes the other off */
	attach_guest(source, 1, &guests[0]);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	assert_int_equal(guests[0].told + guests[1].told, 1);
	gmemi_source_detach(source, guests[0].told ? &guests[0].user : &guests[1].user);
	gmem_source_destroy(source);
}

static int destroy_source(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct guest *guest = (struct guest *)user;

	(void)offset;
	(void)length;
	(void)data;
	(void)answer;
	gmemi_source_detach(guest->source, user);
	gmem_source_destroy(guest->source);
	guest->told++;
	return 0;
}

static void the_source_may_be_given_up_while_it_delivers(void **state)
{
	struct gmem_source *source = late_source();

	(void)state;
	guests[0] = (struct guest){ .user.deliver = destroy_source, .source = source };
	gmemi_source_attach(source, &guests[0].user);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	assert_int_equal(guests[0].told, 1);
	assert_int_equal(patches.released, 1);
}

/* An overlay whose last claim goes inside a delivery to it */
static void an_overlay_may_be_given_up_while_a_layer_delivers(void **state)
{
	struct gmem_source *source = late_source(), *overlay;

	(void)state;
	assert_int_equal(gmem_source_create_overlay(&source, 1, &overlay), 0);
	guests[0] = (struct guest){ .user.deliver = destroy_source, .source = overlay };
	gmemi_source_attach(overlay, &guests[0].user);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), 0);
	assert_int_equal(guests[0].told, 1);
	assert_int_equal(deliver(source, 0, PATCH, page_of_data, 0), -ENOTCONN);
	gmem_source_destroy(source);
	assert_int_equal(patches.released, 1);
}

/* Races */

#define THREADS 3
#define ROUNDS 2000

static struct {
	struct gmem_source *source;
	atomic_bool end;
	atomic_uint told, wrong;
} race;

static int count(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	(void)user;
	atomic_fetch_add(&race.told, 1);
	atomic_fetch_add(&race.wrong, offset != 7 || length != PATCH || data != page_of_data || answer != 0);
	return 0;
}

static void *deliver_on(void *unused)
{
	(void)unused;
	while (!atomic_load(&race.end)) {
		int r = gmem_source_deliver(race.source, 7, PATCH, page_of_data, 0);

		atomic_fetch_add(&race.wrong, r != 0 && r != -ENOTCONN);
	}
	return NULL;
}

/* Each user is gone when detach() has returned: its place is written over. */
static void *come_and_go(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS; i++) {
		struct gmemi_source_user user = { .deliver = count };

		gmemi_source_attach(race.source, &user);
		if (i % 16 == 0)
			atomic_fetch_add(&race.wrong, gmem_source_deliver(race.source, 7, PATCH, page_of_data, 0) != 0);
		gmemi_source_detach(race.source, &user);
		memset(&user, 0x5a, sizeof(user));
	}
	return NULL;
}

static void *overlays_come_and_go(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS / 8; i++) {
		struct gmemi_source_user user = { .deliver = count };
		struct gmem_source *layers[2] = { race.source, race.source }, *overlay;

		atomic_fetch_add(&race.wrong, gmem_source_create_overlay(layers, 2, &overlay) != 0);
		gmemi_source_attach(overlay, &user);
		gmemi_source_detach(overlay, &user);
		gmem_source_destroy(overlay);
	}
	return NULL;
}

static void run_race(void *(*other)(void *))
{
	pthread_t threads[THREADS], others[2];

	memset(&race, 0, sizeof(race));
	race.source = late_source();
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, deliver_on, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&others[i], NULL, other, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(others[i], NULL), 0);
	atomic_store(&race.end, true);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&race.wrong), 0);
	assert_int_equal(patches.released, 0);
	gmem_source_destroy(race.source);
	assert_int_equal(patches.released, 1);
}

static void users_come_and_go_while_others_deliver(void **state)
{
	(void)state;
	run_race(come_and_go);
	assert_true(atomic_load(&race.told) >= ROUNDS / 8);
}

static void overlays_come_and_go_while_layers_deliver(void **state)
{
	(void)state;
	run_race(overlays_come_and_go);
}

static const struct gt_test tests[] = {
	GT(bad_deliveries_are_refused, GT_NEEDS_NOTHING),
	GT(everybody_hears_of_it_and_the_first_failure_counts, GT_NEEDS_NOTHING),
	GT(a_user_may_leave_while_it_is_told, GT_NEEDS_NOTHING),
	GT(a_user_that_was_taken_off_the_list_is_not_told, GT_NEEDS_NOTHING),
	GT(the_source_may_be_given_up_while_it_delivers, GT_NEEDS_NOTHING),
	GT(an_overlay_may_be_given_up_while_a_layer_delivers, GT_NEEDS_NOTHING),
	GT(users_come_and_go_while_others_deliver, GT_NEEDS_NOTHING),
	GT(overlays_come_and_go_while_layers_deliver, GT_NEEDS_NOTHING),
};

GT_MAIN("source_deliver", tests)
