/* SPDX-License-Identifier: MIT */
/* Layers of sources: the question goes down until somebody has the page. */
#include <pthread.h>
#include <string.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "source_int.h"
#include "source_pending.h"

#define LAYERS 64
#define STEP 4096	      /* a layer that has not got all of a range is asked by these */
#define LATE_BUFFER (256 << 10) /* for what a late -ENODATA makes the next layers be asked, at a time */

struct layer {
	struct gmemi_source_user user; /* first */
	struct overlay *overlay;
	struct gmem_source *source;
	uint32_t index, reserved;
};

struct overlay {
	struct gmem_source *self; /* no claim: it has one on the layers */
	pthread_mutex_t lock;
	struct gmemi_pendings pending; /* what a layer has been asked, and may deliver; tag = layer */
	uint32_t count;
	struct layer layers[];
};

/* A read on its way through the layers, in the order of offsets. */
struct question {
	struct overlay *overlay;
	uint64_t offset; /* that the buffer begins with */
	unsigned char *buffer;
	uint64_t flags;
	bool now;   /* nobody may wait */
	bool data;  /* something in the buffer is content; without it all so far is zeros, which are not written */
	bool later; /* something will be delivered: so is everything, when it is there */
};

static int walk(struct question *q, uint32_t index, uint64_t at, uint64_t length);

static unsigned char *place(const struct question *q, uint64_t at)
{
	return q->buffer + (at - q->offset);
}

static int hand_over(const struct question *q, uint64_t at, uint64_t length, int answer)
{
	const void *data = answer == GMEM_ANSWER_DATA ? place(q, at) : NULL;
	int r = gmemi_source_deliver(q->overlay->self, at, length, data, answer);

	if (r != -ENOTCONN)
		return r;
	gmemi_tolerated(); /* who asked by hand wanted no more than to ask */
	return 0;
}

/* What was found before the first part that comes later. */
static int turn_late(struct question *q, uint64_t at)
{
	q->later = true;
	if (at == q->offset)
		return 0;
	return hand_over(q, q->offset, at - q->offset, q->data ? GMEM_ANSWER_DATA : GMEM_ANSWER_ZERO);
}

static int found(struct question *q, uint64_t at, uint64_t length, int answer)
{
	if (answer == GMEM_ANSWER_LATER)
		return q->later ? 0 : turn_late(q, at);
	if (q->later)
		return hand_over(q, at, length, answer);
	if (answer == GMEM_ANSWER_DATA && !q->data) {
		memset(q->buffer, 0, at - q->offset);
		q->data = true;
	} else if (answer == GMEM_ANSWER_ZERO && q->data) {
		memset(place(q, at), 0, length);
	}
	return 0;
}

/* The note comes first: the delivery may come before the answer. */
static int ask_late(struct question *q, struct layer *layer, uint64_t at, uint64_t length)
{
	struct overlay *overlay = q->overlay;
	uint64_t id;
	int r;

	pthread_mutex_lock(&overlay->lock);
	r = gmemi_pendings_add(&overlay->pending, layer->index, at, length, &id);
	pthread_mutex_unlock(&overlay->lock);
	if (r < 0)
		return r;
	r = gmemi_source_read(layer->source, at, length, place(q, at), q->flags);
	if (r == GMEM_ANSWER_LATER)
		return r;
	pthread_mutex_lock(&overlay->lock);
	gmemi_pendings_forget(&overlay->pending, id);
	pthread_mutex_unlock(&overlay->lock);
	return r;
}

static int ask(struct question *q, uint32_t index, uint64_t at, uint64_t length)
{
	struct layer *layer = &q->overlay->layers[index];

	if (q->now)
		return gmemi_source_read_now(layer->source, at, length, place(q, at));
	if (layer->source->late)
		return ask_late(q, layer, at, length);
	return gmemi_source_read(layer->source, at, length, place(q, at), q->flags);
}

/* DATA: has to be asked. */
static int presence(const struct layer *layer, bool now, uint64_t at, uint64_t *length)
{
	const struct gmem_source *source = layer->source;

	if (source->kind && source->kind->covers)
		return source->kind->covers(source->user, at, length);
	return now ? GMEM_ANSWER_DATA : gmemi_source_extent(layer->source, at, length);
}

/* A layer that has not got all of it, and could not say so before. */
static int ask_by_steps(struct question *q, uint32_t index, uint64_t at, uint64_t length)
{
	uint64_t end = at + length, absent = at, step;
	int r = 0;

	for (; r >= 0 && at < end; at += step) {
		step = gmemi_min(end - at, STEP - at % STEP);
		r = ask(q, index, at, step);
		if (r == -ENODATA) {
			r = 0;
			continue;
		}
		if (r >= 0 && absent < at) {
			int below = walk(q, index + 1, absent, at - absent);

			r = below < 0 ? below : r;
		}
		r = r < 0 ? r : found(q, at, step, r);
		absent = at + step;
	}
	return r < 0 || absent == end ? r : walk(q, index + 1, absent, end - absent);
}

static int ask_run(struct question *q, uint32_t index, uint64_t at, uint64_t length)
{
	int r = ask(q, index, at, length);

	if (r != -ENODATA)
		return r < 0 ? r : found(q, at, length, r);
	if (length <= STEP - at % STEP)
		return walk(q, index + 1, at, length);
	return ask_by_steps(q, index, at, length);
}

/* All of the range, from this layer on. */
static int walk(struct question *q, uint32_t index, uint64_t at, uint64_t length)
{
	int r = index < q->overlay->count ? 0 : -ENODATA;

	while (r >= 0 && length) {
		uint64_t run = length;

		r = presence(&q->overlay->layers[index], q->now, at, &run);
		if (r == -ENODATA)
			r = walk(q, index + 1, at, run);
		else if (r == GMEM_ANSWER_ZERO)
			r = found(q, at, run, r);
		else if (r == GMEM_ANSWER_DATA)
			r = ask_run(q, index, at, run);
		at += run;
		length -= run;
	}
	return r;
}

static int answer_to(struct question *q, uint64_t length)
{
	int r = walk(q, 0, q->offset, length);

	if (r < 0)
		return r;
	gmemi_tolerated(); /* of layers that have not got it */
	if (q->later)
		return GMEM_ANSWER_LATER;
	return q->data ? GMEM_ANSWER_DATA : GMEM_ANSWER_ZERO;
}

static int read_layers(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct question q = { .overlay = user, .offset = offset, .buffer = buffer, .flags = flags };

	return answer_to(&q, length);
}

static int read_layers_now(void *user, uint64_t offset, uint64_t length, void *buffer)
{
	struct question q = { .overlay = user, .offset = offset, .buffer = buffer, .now = true };

	return answer_to(&q, length);
}

/* Of the first layer that has something there. One that cannot tell says DATA, which is right: it has to be read. */
static int extent_of_layers(void *user, uint64_t offset, uint64_t *length)
{
	struct overlay *overlay = user;
	int r = -ENODATA;

	for (uint32_t i = 0; r == -ENODATA && i < overlay->count; i++)
		r = gmemi_source_extent(overlay->layers[i].source, offset, length);
	if (r >= 0)
		gmemi_tolerated();
	return r;
}

static void advise_from(struct overlay *overlay, uint32_t index, uint64_t at, uint64_t length)
{
	while (index < overlay->count && length) {
		struct layer *layer = &overlay->layers[index];
		bool knows = layer->source->kind || layer->source->ops.extent;
		uint64_t run = length;
		int r = presence(layer, false, at, &run);

		if (r == GMEM_ANSWER_DATA)
			gmemi_source_advise(layer->source, at, run);
		if (r < 0 || !knows)
			advise_from(overlay, index + 1, at, run);
		at += run;
		length -= run;
	}
}

/* Layers that cannot tell what they have are told, and so are those below. */
static void advise_layers(void *user, uint64_t offset, uint64_t length)
{
	advise_from(user, 0, offset, length);
	gmemi_tolerated();
}

/* --- what comes late -------------------------------------------------------------------------------------------------- */

/* The next part of what a layer delivers that it was asked for, which it is not any more then. 0 = there is none. */
static int take(struct layer *layer, uint64_t *at, uint64_t end, uint64_t most, uint64_t *length)
{
	struct overlay *overlay = layer->overlay;
	int r = 0;

	pthread_mutex_lock(&overlay->lock);
	if (gmemi_pendings_next(&overlay->pending, layer->index, *at, end, at, length)) {
		*length = gmemi_min(*length, most);
		r = gmemi_pendings_cut(&overlay->pending, layer->index, *at, *length);
		r = r < 0 ? r : 1;
	}
	pthread_mutex_unlock(&overlay->lock);
	return r;
}

/* So that it may be delivered again: by what cutting has left over, unless another thread has used that, and there is no
 * more. */
static void give_back(struct layer *layer, uint64_t at, uint64_t length)
{
	struct overlay *overlay = layer->overlay;

	pthread_mutex_lock(&overlay->lock);
	(void)gmemi_pendings_add(&overlay->pending, layer->index, at, length, NULL);
	pthread_mutex_unlock(&overlay->lock);
}

static int pass_on(struct layer *layer, uint64_t offset, uint64_t length, const unsigned char *data, int answer)
{
	uint64_t at = offset, end = offset + length, part;
	int r = take(layer, &at, end, length, &part);

	while (r > 0) {
		r = gmemi_source_deliver(layer->overlay->self, at, part, data ? data + (at - offset) : NULL, answer);
		if (r < 0) {
			give_back(layer, at, part);
			return r;
		}
		at += part;
		r = take(layer, &at, end, end - at, &part);
	}
	return r;
}

/* What is not asked for is nobody's gap: the first layer covers all others. */
static int pass_all_on(struct layer *layer, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct overlay *overlay = layer->overlay;
	int r;

	pthread_mutex_lock(&overlay->lock);
	r = gmemi_pendings_cut(&overlay->pending, layer->index, offset, length);
	pthread_mutex_unlock(&overlay->lock);
	return r < 0 ? r : gmemi_source_deliver(overlay->self, offset, length, data, answer);
}

/* Somebody has been waiting for this layer in vain, perhaps for a page that a guest stands still for. */
static int ask_next(struct layer *layer, uint64_t at, uint64_t length, void *buffer)
{
	struct question q = {
		.overlay = layer->overlay, .offset = at, .buffer = buffer, .flags = GMEM_READ_DEMAND, .later = true
	};
	int r = walk(&q, layer->index + 1, at, length);

	return r < 0 ? hand_over(&q, at, length, r) : 0;
}

static int look_below(struct layer *layer, uint64_t offset, uint64_t length)
{
	uint64_t at = offset, end = offset + length, part;
	void *buffer = gmemi_alloc(1, (size_t)gmemi_min(length, LATE_BUFFER));
	int r = buffer ? take(layer, &at, end, LATE_BUFFER, &part) : -ENOMEM;

	while (r > 0) {
		r = ask_next(layer, at, part, buffer);
		at += part;
		if (r == 0)
			r = take(layer, &at, end, LATE_BUFFER, &part);
	}
	gmemi_free(buffer);
	return r;
}

static int deliver(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct layer *layer = (struct layer *)user;
	struct gmem_source *self = layer->overlay->self;
	int r;

	if (!gmemi_source_try_claim(self))
		return -ENOTCONN;
	if (answer == -ENODATA)
		r = look_below(layer, offset, length);
	else if (layer->index == 0 && answer >= 0)
		r = pass_all_on(layer, offset, length, data, answer);
	else
		r = pass_on(layer, offset, length, data, answer);
	gmemi_source_release(self); /* perhaps the last: the layer may be gone now */
	return r;
}

/* --- making ----------------------------------------------------------------------------------------------------------- */

static void release_layers(void *user)
{
	struct overlay *overlay = user;

	for (uint32_t i = 0; i < overlay->count; i++) {
		gmemi_source_detach(overlay->layers[i].source, &overlay->layers[i].user);
		gmemi_source_release(overlay->layers[i].source);
	}
	gmemi_pendings_end(&overlay->pending);
	pthread_mutex_destroy(&overlay->lock);
	gmemi_free(overlay);
}

/* Returns whether any of them is late. */
static bool put_layers(struct overlay *overlay, struct gmem_source *const *layers, uint32_t count)
{
	bool late = false;

	for (uint32_t i = 0; i < count; i++) {
		overlay->layers[i] = (struct layer){
			.user.deliver = deliver, .overlay = overlay, .source = layers[i], .index = i
		};
		late |= layers[i]->late;
	}
	pthread_mutex_init(&overlay->lock, NULL);
	overlay->count = count;
	return late;
}

static int make(struct overlay *overlay, struct gmem_source *const *layers, uint32_t count)
{
	static const struct gmem_source_ops ops = {
		.read = read_layers, .extent = extent_of_layers, .release = release_layers, .advise = advise_layers
	};
	static const struct gmemi_source_kind kind = { .read_now = read_layers_now };
	bool late = put_layers(overlay, layers, count);
	int r = gmemi_source_make(&ops, &kind, overlay, late, &overlay->self);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++) {
		(void)gmemi_source_claim(layers[i]);
		gmemi_source_attach(layers[i], &overlay->layers[i].user);
	}
	return 0;
}

static int check_layers(struct gmem_source *const *layers, uint32_t count, struct gmem_source *const *source)
{
	if (!layers || !source)
		return gmemi_refuse(-EINVAL, "%s is NULL", layers ? "source" : "layers");
	if (!count || count > LAYERS)
		return gmemi_refuse(-EINVAL, "count %u is not 1 to %d", count, LAYERS);
	for (uint32_t i = 0; i < count; i++)
		if (!layers[i])
			return gmemi_refuse(-EINVAL, "layers[%u] is NULL", i);
	return 0;
}

int gmem_source_create_overlay(struct gmem_source *const *layers, uint32_t count, struct gmem_source **source)
{
	struct overlay *overlay;
	int r;

	GMEMI_CALL();
	r = check_layers(layers, count, source);
	if (r < 0)
		return r;
	overlay = gmemi_alloc(1, sizeof(*overlay) + count * sizeof(overlay->layers[0]));
	if (!overlay)
		return -ENOMEM;
	r = make(overlay, layers, count);
	if (r < 0) {
		pthread_mutex_destroy(&overlay->lock);
		gmemi_free(overlay);
		return r;
	}
	*source = overlay->self;
	return 0;
}
