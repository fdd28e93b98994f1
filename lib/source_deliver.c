/* SPDX-License-Identifier: MIT */
/* Who is told of what a source delivers. Each delivery goes along the list with a mark of its own, which those who leave the
 * list look after: so nothing is locked while a user is told. */
#include "err.h"
#include "source_int.h"
#include "sys.h"

struct gmemi_delivery {
	struct gmemi_delivery *link;
	struct gmemi_source_user *now, *next; /* is being told; will be */
	const void *thread;
};

static _Thread_local char here; /* its address tells threads apart */

void gmemi_source_attach(struct gmem_source *source, struct gmemi_source_user *user)
{
	gmemi_lock(&source->lock);
	user->next = source->users;
	source->users = user;
	gmemi_unlock(&source->lock);
}

static void leave_list(struct gmem_source *source, struct gmemi_source_user *user)
{
	struct gmemi_source_user **link = &source->users;

	while (*link != user)
		link = &(*link)->next;
	*link = user->next;
	for (struct gmemi_delivery *d = source->deliveries; d; d = d->link)
		if (d->next == user)
			d->next = user->next;
}

static bool being_told(const struct gmem_source *source, const struct gmemi_source_user *user)
{
	for (const struct gmemi_delivery *d = source->deliveries; d; d = d->link)
		if (d->now == user && d->thread != &here)
			return true;
	return false;
}

void gmemi_source_detach(struct gmem_source *source, struct gmemi_source_user *user)
{
	gmemi_lock(&source->lock);
	leave_list(source, user);
	source->detaching++;
	while (being_told(source, user)) {
		uint32_t seen = atomic_load(&source->delivered);

		gmemi_unlock(&source->lock);
		(void)gmemi_sys_wait(&source->delivered, seen, UINT64_MAX); /* whatever it says: it is looked again */
		gmemi_lock(&source->lock);
	}
	source->detaching--;
	gmemi_unlock(&source->lock);
}

static void begin(struct gmem_source *source, struct gmemi_delivery *delivery)
{
	delivery->thread = &here;
	gmemi_lock(&source->lock);
	delivery->next = source->users;
	delivery->link = source->deliveries;
	source->deliveries = delivery;
	gmemi_unlock(&source->lock);
}

/* The one to be told next, NULL = all have been. Who was told last is free to leave. */
static struct gmemi_source_user *next_user(struct gmem_source *source, struct gmemi_delivery *delivery)
{
	struct gmemi_source_user *user;
	bool awaited;

	gmemi_lock(&source->lock);
	awaited = delivery->now && source->detaching;
	user = delivery->now = delivery->next;
	delivery->next = user ? user->next : NULL;
	atomic_fetch_add(&source->delivered, 1);
	gmemi_unlock(&source->lock);
	if (awaited)
		gmemi_sys_wake(&source->delivered);
	return user;
}

static void end(struct gmem_source *source, struct gmemi_delivery *delivery)
{
	struct gmemi_delivery **link = &source->deliveries;

	gmemi_lock(&source->lock);
	while (*link != delivery)
		link = &(*link)->link;
	*link = delivery->link;
	gmemi_unlock(&source->lock);
}

int gmemi_source_deliver(struct gmem_source *source, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct gmemi_delivery delivery = { .link = NULL };
	struct gmemi_sentence sentence;
	struct gmemi_source_user *user;
	int result = -ENOTCONN; /* of all so far */

	begin(source, &delivery);
	while ((user = next_user(source, &delivery))) {
		int r = user->deliver(user, offset, length, data, answer);

		if (r < 0 && r != -ENOTCONN && (result == 0 || result == -ENOTCONN)) {
			gmemi_sentence_take(&sentence);
			result = r;
		} else if (r == 0 && result == -ENOTCONN) {
			result = 0;
		}
	}
	end(source, &delivery);
	if (result == -ENOTCONN)
		return gmemi_refuse(result, "nobody uses the source, yet or any more");
	if (result < 0)
		gmemi_sentence_give(&sentence);
	return result;
}
