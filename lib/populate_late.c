/* SPDX-License-Identifier: MIT */
#include "populate_late.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "source.h"
#include "sys.h"

enum tag { ASKED, ASK_AGAIN };

struct gmemi_late {
	struct gmemi_source_user user; /* first */
	struct gmem_source *source;
	pthread_mutex_t lock; /* of what follows, and of what is wanted; not held while the source is asked */
	struct gmemi_wanted *wanted;
	int stopped; /* by which failure */
};

/* --- what is delivered ------------------------------------------------------------------------------------------------ */

static int store(struct gmemi_wanted *wanted, uint64_t offset, uint64_t length, const unsigned char *data)
{
	unsigned char *to = wanted->buffer + (offset - wanted->offset);
	int r = gmemi_pendings_cut(&wanted->missing, GMEMI_ANY_TAG, offset, length);

	if (r < 0)
		return r;
	if (data)
		memcpy(to, data, (size_t)length);
	else
		memset(to, 0, (size_t)length);
	return 0;
}

static int mark(struct gmemi_wanted *wanted, uint64_t offset, uint64_t length, enum tag from, enum tag to)
{
	int r = gmemi_pendings_cut(&wanted->missing, from, offset, length);

	return r < 0 ? r : gmemi_pendings_add(&wanted->missing, to, offset, length, NULL);
}

static int ask_all_again(struct gmemi_wanted *wanted, uint64_t offset, uint64_t length)
{
	uint64_t at = offset, end = offset + length;
	int r = 0;

	while (r == 0 && gmemi_pendings_next(&wanted->missing, ASKED, at, end, &at, &length)) {
		r = mark(wanted, at, length, ASKED, ASK_AGAIN);
		at += length;
	}
	return r;
}

/* The first counts. */
static void fail(struct gmemi_wanted *wanted, uint64_t offset, uint64_t length, int code)
{
	if (!wanted->failure && gmemi_pendings_next(&wanted->missing, GMEMI_ANY_TAG, offset, offset + length, &offset, &length))
		wanted->failure = code;
}

static void wake(struct gmemi_wanted *wanted)
{
	atomic_fetch_add(&wanted->deliveries, 1);
	gmemi_sys_wake(&wanted->deliveries);
}

/* The part that was asked for. */
static int take(struct gmemi_wanted *wanted, uint64_t offset, uint64_t length, const unsigned char *data, int answer)
{
	uint64_t first = offset > wanted->offset ? offset : wanted->offset;
	uint64_t part = gmemi_min(offset + length, wanted->offset + wanted->length) - first;
	int r = 0;

	if (answer >= 0)
		r = store(wanted, first, part, data ? data + (first - offset) : NULL);
	else if (answer == -EAGAIN)
		r = ask_all_again(wanted, first, part);
	else
		fail(wanted, first, part, answer);
	if (!wanted->missing.first || answer < 0)
		wake(wanted);
	return r;
}

static int deliver(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct gmemi_late *late = (struct gmemi_late *)user;
	int r = 0;

	pthread_mutex_lock(&late->lock);
	for (struct gmemi_wanted *w = late->wanted; r == 0 && w; w = w->next)
		if (gmemi_range_overlaps(w->offset, w->length, offset, length))
			r = take(w, offset, length, data, answer);
	pthread_mutex_unlock(&late->lock);
	return r;
}

/* --- what is waited for ----------------------------------------------------------------------------------------------- */

int gmemi_late_begin(struct gmem_source *source, struct gmemi_late **late)
{
	struct gmemi_late *made = gmemi_alloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->user.deliver = deliver;
	made->source = source;
	pthread_mutex_init(&made->lock, NULL);
	gmemi_source_attach(source, &made->user);
	*late = made;
	return 0;
}

void gmemi_late_end(struct gmemi_late *late)
{
	if (!late)
		return;
	gmemi_source_detach(late->source, &late->user);
	pthread_mutex_destroy(&late->lock);
	gmemi_free(late);
}

/* Before the source is asked, which may deliver before it answers. */
static int expect(struct gmemi_late *late, struct gmemi_wanted *wanted, uint64_t offset, uint64_t length)
{
	int r = gmemi_pendings_add(&wanted->missing, ASKED, offset, length, NULL);

	if (r < 0)
		return r;
	wanted->offset = offset;
	wanted->length = length;
	wanted->failure = 0;
	pthread_mutex_lock(&late->lock);
	wanted->next = late->wanted;
	late->wanted = wanted;
	pthread_mutex_unlock(&late->lock);
	return 0;
}

static void stop_all(struct gmemi_late *late, int code)
{
	late->stopped = code;
	for (struct gmemi_wanted *w = late->wanted; w; w = w->next)
		wake(w);
}

static void forget(struct gmemi_late *late, struct gmemi_wanted *wanted, int r)
{
	struct gmemi_wanted **link = &late->wanted;

	pthread_mutex_lock(&late->lock);
	while (*link != wanted)
		link = &(*link)->next;
	*link = wanted->next;
	gmemi_pendings_clear(&wanted->missing);
	if (r < 0 && !late->stopped)
		stop_all(late, r);
	pthread_mutex_unlock(&late->lock);
}

/* What comes by the answer counts as delivered, unless the delivery was faster. */
static int ask_again(struct gmemi_late *late, struct gmemi_wanted *wanted, uint64_t offset, uint64_t length,
		     unsigned char *buffer)
{
	unsigned char *part = buffer + (offset - wanted->offset);
	int r = mark(wanted, offset, length, ASK_AGAIN, ASKED);

	if (r < 0)
		return r;
	pthread_mutex_unlock(&late->lock);
	r = gmemi_source_read(late->source, offset, length, part, 0);
	pthread_mutex_lock(&late->lock);
	if (r < 0 || r == GMEM_ANSWER_LATER)
		return r < 0 ? r : 0;
	return store(wanted, offset, length, r == GMEM_ANSWER_DATA ? part : NULL);
}

static int sleep_until_delivered(struct gmemi_late *late, struct gmemi_wanted *wanted)
{
	uint32_t seen = atomic_load(&wanted->deliveries);
	int r;

	pthread_mutex_unlock(&late->lock);
	r = gmemi_sys_wait(&wanted->deliveries, seen, UINT64_MAX);
	pthread_mutex_lock(&late->lock);
	return r < 0 && r != -EAGAIN ? gmemi_failed(r, "waiting for the source", NULL) : 0;
}

/* With the lock. */
static int wait_for_all(struct gmemi_late *late, struct gmemi_wanted *wanted, unsigned char *buffer)
{
	uint64_t offset, length, end = wanted->offset + wanted->length;
	int r = 0;

	while (r == 0 && wanted->missing.first) {
		if (wanted->failure)
			return gmemi_refuse(wanted->failure, "the source failed later");
		if (late->stopped)
			return gmemi_refuse(late->stopped, "another thread of the call stopped, so this waits no more");
		if (gmemi_pendings_next(&wanted->missing, ASK_AGAIN, wanted->offset, end, &offset, &length))
			r = ask_again(late, wanted, offset, length, buffer);
		else
			r = sleep_until_delivered(late, wanted);
	}
	if (wanted->missing.first)
		return r;
	gmemi_tolerated(); /* the signal came too late */
	return GMEM_ANSWER_LATER;
}

int gmemi_late_read(struct gmemi_late *late, struct gmemi_wanted *wanted, uint64_t offset, uint64_t length,
		    unsigned char *buffer)
{
	int r = expect(late, wanted, offset, length);

	if (r < 0)
		return r;
	r = gmemi_source_read(late->source, offset, length, buffer, 0);
	if (r == GMEM_ANSWER_LATER) {
		pthread_mutex_lock(&late->lock);
		r = wait_for_all(late, wanted, buffer);
		pthread_mutex_unlock(&late->lock);
	}
	forget(late, wanted, r);
	return r;
}
