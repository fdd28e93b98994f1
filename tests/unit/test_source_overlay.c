/* SPDX-License-Identifier: MIT */
/* Overlays: against a model of bytes, whatever the layers are and whenever they answer. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>
#include <gmem/source.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "patches.h"
#include "random.h"
#include "refusal.h"

#define LAYERS 4

static struct patches patches[LAYERS];
static struct listener listener;

static void fill(struct patches *p, int byte)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < PATCHED; i++)
		p->data[i] = (unsigned char)(byte + i / PATCH % 50);
}

static void show(struct patches *p, int first, int count)
{
	for (int i = first; i < first + count; i++)
		p->has[i] = true;
}

static struct gmem_source *overlay_of(struct gmem_source **layers, uint32_t count)
{
	struct gmem_source *overlay;

	assert_int_equal(gmem_source_create_overlay(layers, count, &overlay), 0);
	return overlay;
}

/* Making and giving up */

static void bad_layers_are_refused(void **state)
{
	struct gmem_source *zero, *kept = (void *)7, *source = kept, *layers[65];

	(void)state;
	assert_int_equal(gmem_source_create_zero(&zero), 0);
	for (int i = 0; i < 65; i++)
		layers[i] = zero;
	bad("gmem_source_create_overlay", gmem_source_create_overlay(NULL, 1, &source), -EINVAL, "layers is NULL");
	bad("gmem_source_create_overlay", gmem_source_create_overlay(layers, 1, NULL), -EINVAL, "source is NULL");
	bad("gmem_source_create_overlay", gmem_source_create_overlay(layers, 0, &source), -EINVAL, "count");
	bad("gmem_source_create_overlay", gmem_source_create_overlay(layers, 65, &source), -EINVAL, "count");
	layers[3] = NULL;
	bad("gmem_source_create_overlay", gmem_source_create_overlay(layers, 64, &source), -EINVAL, "layers[3]");
	assert_ptr_equal(source, kept);
	layers[3] = zero;
	gmem_source_destroy(overlay_of(layers, 64));
	gmem_source_destroy(zero);
}

static void layers_live_as_long_as_the_overlay(void **state)
{
	struct gmem_source *layers[3], *overlay, *upper;

	(void)state;
	for (int i = 0; i < 2; i++) {
		fill(&patches[i], 10 * i);
		layers[i] = patchy_source(&patches[i]);
	}
	layers[2] = layers[0]; /* twice */
	overlay = overlay_of(layers, 3);
	upper = overlay_of(&overlay, 1);
	gmem_source_destroy(layers[0]);
	gmem_source_destroy(layers[1]);
	gmem_source_destroy(overlay);
	assert_int_equal(patches[0].released + patches[1].released, 0);
	gmem_source_destroy(upper);
	assert_int_equal(patches[0].released, 1);
	assert_int_equal(patches[1].released, 1);
}

/* What is read, against a model */

/* NOTHING where no layer has it. */
static int expected(uint32_t count, uint64_t at)
{
	for (uint32_t i = 0; i < count; i++)
		if (patches[i].has[at / PATCH])
			return patches[i].data[at];
	return NOTHING;
}

static void make_random_layers(struct gmem_source **layers, bool own_only, bool late)
{
	for (int i = 0; i < LAYERS; i++) {
		fill(&patches[i], 1 + 51 * i);
		for (int patch = 0; patch < PATCHES; patch++) {
			patches[i].has[patch] = next_random() % 3 == 0;
			if (next_random() % 4 == 0)
				memset(patches[i].data + patch * PATCH, 0, PATCH);
		}
		patches[i].tells_extents = next_random() % 2;
		patches[i].late = late && next_random() % 2;
		if (!own_only && i == 1) { /* memory up to somewhere */
			memset(patches[i].has, 0, sizeof(patches[i].has));
			show(&patches[i], 0, (int)(next_random() % PATCHES) + 1);
		}
		layers[i] = patchy_source(&patches[i]);
	}
}

static uint64_t shown(const struct patches *p)
{
	uint64_t count = 0;

	while (count < PATCHES && p->has[count])
		count++;
	return count * PATCH;
}

/* In place of two of the program's: memory, and a file with an extent for each patch. */
static void replace_by_own_kinds(struct gmem_source **layers)
{
	struct gmem_extent extents[PATCHES];
	int fd = file_of(patches[2].data, PATCHED);
	uint32_t count = 0;

	gmem_source_destroy(layers[1]);
	assert_int_equal(gmem_source_create_memory(patches[1].data, shown(&patches[1]), &layers[1]), 0);
	for (uint64_t i = 0; i < PATCHES; i++)
		if (patches[2].has[i])
			extents[count++] = (struct gmem_extent){ i * PATCH, PATCH, i * PATCH, fd, 0 };
	if (count) {
		gmem_source_destroy(layers[2]);
		assert_int_equal(gmem_source_create_file(extents, count, &layers[2]), 0);
	}
	close(fd);
}

static void answer_all(struct gmem_source **layers)
{
	for (int i = 0; i < LAYERS; i++) /* those below are asked by this */
		if (patches[i].late)
			answer_asked(layers[i], &patches[i]);
}

static void check_read(struct gmem_source *overlay, struct gmem_source **layers, uint32_t count, uint64_t offset,
		       uint64_t length)
{
	static unsigned char got[PATCHED];
	bool missing = false;
	int r;

	forget_delivered(&listener);
	memset(got, 0xcc, length);
	r = gmem_source_read(overlay, offset, length, got, 0);
	answer_all(layers);
	for (uint64_t at = offset; at < offset + length; at++) {
		int want = expected(count, at), have = r == GMEM_ANSWER_DATA ? got[at - offset] : 0;

		missing |= want == NOTHING;
		if (r == GMEM_ANSWER_LATER)
			have = listener.bytes[at] == -ENODATA ? NOTHING : listener.bytes[at];
		if (r >= 0 && (!missing || r == GMEM_ANSWER_LATER))
			assert_int_equal(have, want);
	}
	if (r != GMEM_ANSWER_LATER)
		assert_true(missing ? r == -ENODATA : r >= 0);
}

static void check_extent(struct gmem_source *overlay, uint32_t count, uint64_t offset, uint64_t most)
{
	uint64_t length = most;
	int r = gmemi_source_extent(overlay, offset, &length);

	assert_true(r == GMEM_ANSWER_DATA || r == GMEM_ANSWER_ZERO || r == -ENODATA);
	assert_true(length >= 1 && length <= most);
	for (uint64_t at = offset; r && at < offset + length; at++)
		assert_int_equal(expected(count, at), r == GMEM_ANSWER_ZERO ? 0 : NOTHING);
}

static void run_model(bool own_only, bool late, bool nested)
{
	for (int round = 0; round < 12; round++) {
		struct gmem_source *layers[LAYERS], *overlay, *inner, *both[2];

		make_random_layers(layers, own_only, late);
		if (!own_only)
			replace_by_own_kinds(layers);
		overlay = overlay_of(layers, LAYERS);
		if (nested) {
			gmem_source_destroy(overlay);
			inner = overlay_of(layers + 1, LAYERS - 1);
			both[0] = layers[0];
			both[1] = inner;
			overlay = overlay_of(both, 2);
			gmem_source_destroy(inner);
		}
		listen_to(overlay, &listener);
		for (int question = 0; question < 40; question++) {
			uint64_t offset = next_random() % PATCHED;
			uint64_t length = 1 + next_random() % (question % 2 ? PATCHED - offset : PATCH);

			length = length < PATCHED - offset ? length : PATCHED - offset;
			check_read(overlay, layers, LAYERS, offset, length);
			check_extent(overlay, LAYERS, offset, length);
		}
		gmemi_source_detach(overlay, &listener.user);
		gmem_source_destroy(overlay);
		for (int i = 0; i < LAYERS; i++)
			gmem_source_destroy(layers[i]);
	}
}

static void the_first_layer_that_has_it_answers(void **state)
{
	(void)state;
	sow();
	run_model(true, false, false);
	run_model(false, false, false);
	run_model(false, false, true);
}

static void the_same_when_layers_answer_later(void **state)
{
	(void)state;
	sow();
	run_model(true, true, false);
	run_model(true, true, true);
}

static void a_layer_without_extents_is_not_asked_for_each_page_in_vain(void **state)
{
	struct gmem_source *layers[2], *overlay;
	static unsigned char got[PATCHED];

	(void)state;
	fill(&patches[0], 1);
	fill(&patches[1], 100);
	show(&patches[0], 3, 1);
	show(&patches[1], 0, PATCHES);
	for (int i = 0; i < 2; i++)
		layers[i] = patchy_source(&patches[i]);
	overlay = overlay_of(layers, 2);
	assert_int_equal(gmem_source_read(overlay, 0, PATCHED, got, GMEM_READ_DEMAND), GMEM_ANSWER_DATA);
	assert_int_equal(patches[0].reads, 1 + PATCHES);
	assert_int_equal(patches[1].reads, 2); /* before and behind the one page */
	assert_int_equal(patches[1].demanded, 2);
	assert_int_equal(gmem_source_read(overlay, 3 * PATCH + 5, 9, got, 0), GMEM_ANSWER_DATA);
	assert_int_equal(patches[1].reads, 2);
	for (int i = 0; i < 2; i++)
		gmem_source_destroy(layers[i]);
	gmem_source_destroy(overlay);
}

/* Without waiting */

static void what_no_layer_has_to_wait_for_is_there_now(void **state)
{
	struct gmem_source *layers[3], *overlay;
	static unsigned char got[PATCHED];

	(void)state;
	fill(&patches[0], 1);
	fill(&patches[1], 60);
	assert_int_equal(gmem_source_create_memory(patches[0].data, 2 * PATCH, &layers[0]), 0);
	layers[1] = patchy_source(&patches[1]);
	assert_int_equal(gmem_source_create_zero(&layers[2]), 0);
	overlay = overlay_of(layers, 3);
	assert_int_equal(gmemi_source_read_now(overlay, 5, 2 * PATCH - 5, got), GMEM_ANSWER_DATA);
	assert_memory_equal(got, patches[0].data + 5, 2 * PATCH - 5);
	assert_int_equal(gmemi_source_read_now(overlay, 5, 2 * PATCH, got), -EAGAIN);
	assert_int_equal(patches[1].reads, 0);
	gmem_source_destroy(overlay);
	gmem_source_destroy(layers[1]);
	layers[1] = layers[2];
	overlay = overlay_of(layers, 2);
	memset(got, 0xcc, sizeof(got));
	assert_int_equal(gmemi_source_read_now(overlay, PATCH, 3 * PATCH, got), GMEM_ANSWER_DATA);
	assert_memory_equal(got, patches[0].data + PATCH, PATCH);
	assert_int_equal(got[PATCH] | got[3 * PATCH - 1], 0);
	assert_int_equal(gmemi_source_read_now(overlay, 4 * PATCH, PATCH, got), GMEM_ANSWER_ZERO);
	gmem_source_destroy(overlay);
	overlay = overlay_of(layers, 1);
	assert_int_equal(gmemi_source_read_now(overlay, PATCH, 2 * PATCH, got), -ENODATA);
	gmem_source_destroy(overlay);
	gmem_source_destroy(layers[0]);
	gmem_source_destroy(layers[2]);
}

static void advice_goes_to_who_will_be_asked(void **state)
{
	struct gmem_source *layers[3], *overlay;

	(void)state;
	for (int i = 0; i < 3; i++) {
		fill(&patches[i], 1);
		patches[i].tells_extents = i != 1;
		layers[i] = patchy_source(&patches[i]);
	}
	show(&patches[0], 0, 4);
	show(&patches[2], 10, 4);
	overlay = overlay_of(layers, 3);
	gmemi_source_advise(overlay, 2 * PATCH, 18 * PATCH);
	assert_int_equal(patches[0].advised, 2 * PATCH);
	assert_int_equal(patches[1].advised, 16 * PATCH);
	assert_int_equal(patches[2].advised, 4 * PATCH);
	assert_int_equal(patches[0].reads + patches[1].reads + patches[2].reads, 0);
	gmem_source_destroy(overlay);
	for (int i = 0; i < 3; i++)
		gmem_source_destroy(layers[i]);
}

/* What is delivered */

static void only_the_first_layer_delivers_unasked(void **state)
{
	struct gmem_source *layers[2], *overlay;
	unsigned char got[PATCH];

	(void)state;
	for (int i = 0; i < 2; i++) {
		fill(&patches[i], 1 + 50 * i);
		patches[i].late = true;
		layers[i] = patchy_source(&patches[i]);
	}
	overlay = overlay_of(layers, 2);
	assert_int_equal(gmem_source_deliver(layers[0], 0, PATCH, patches[0].data, 0), -ENOTCONN);
	assert_int_equal(gmem_source_deliver(layers[1], 0, PATCH, patches[0].data, 0), 0);
	listen_to(overlay, &listener);
	assert_int_equal(gmem_source_deliver(layers[0], 0, PATCH, patches[0].data, 0), 0);
	assert_int_equal(listener.bytes[0], patches[0].data[0]);
	assert_int_equal(gmem_source_deliver(layers[1], PATCH, PATCH, patches[1].data, 0), 0);
	assert_int_equal(gmem_source_deliver(layers[0], PATCH, PATCH, NULL, -ENODATA), 0);
	assert_int_equal(gmem_source_deliver(layers[0], PATCH, PATCH, NULL, -EIO), 0);
	assert_int_equal(listener.deliveries, 1);
	assert_int_equal(patches[1].reads, 0);
	patches[0].late = patches[1].late = false;
	patches[1].has[1] = true;
	assert_int_equal(gmem_source_read(overlay, PATCH, PATCH, got, 0), GMEM_ANSWER_DATA); /* answered is not pending */
	assert_int_equal(gmem_source_deliver(layers[1], PATCH, PATCH, patches[1].data, 0), 0);
	assert_int_equal(listener.deliveries, 1);
	gmemi_source_detach(overlay, &listener.user);
	gmem_source_destroy(overlay);
	for (int i = 0; i < 2; i++)
		gmem_source_destroy(layers[i]);
}

static void errors_and_refused_deliveries_come_again(void **state)
{
	struct gmem_source *layers[2], *overlay;
	unsigned char got[2 * PATCH];

	(void)state;
	for (int i = 0; i < 2; i++) {
		fill(&patches[i], 1 + 50 * i);
		patches[i].late = i;
		layers[i] = patchy_source(&patches[i]);
	}
	overlay = overlay_of(layers, 2);
	listen_to(overlay, &listener);
	assert_int_equal(gmem_source_read(overlay, 0, 2 * PATCH, got, 0), GMEM_ANSWER_LATER);
	listener.result = -ENOSPC;
	assert_int_equal(gmem_source_deliver(layers[1], 0, PATCH, patches[1].data, 0), -ENOSPC);
	forget_delivered(&listener);
	listener.result = 0;
	assert_int_equal(gmem_source_deliver(layers[1], 0, PATCH, patches[1].data, 0), 0);
	assert_int_equal(listener.bytes[0], patches[1].data[0]);
	assert_int_equal(gmem_source_deliver(layers[1], 0, 2 * PATCH, NULL, -EAGAIN), 0);
	assert_int_equal(listener.bytes[0], patches[1].data[0]);
	assert_int_equal(listener.bytes[PATCH], -EAGAIN);
	assert_int_equal(gmem_source_read(overlay, PATCH, PATCH, got, 0), GMEM_ANSWER_LATER);
	assert_int_equal(gmem_source_deliver(layers[1], 0, 2 * PATCH, NULL, -EIO), 0);
	assert_int_equal(listener.bytes[PATCH], -EIO);
	gmemi_source_detach(overlay, &listener.user);
	gmem_source_destroy(overlay);
	for (int i = 0; i < 2; i++)
		gmem_source_destroy(layers[i]);
}

static const struct gt_test tests[] = {
	GT(bad_layers_are_refused, GT_NEEDS_NOTHING),
	GT(layers_live_as_long_as_the_overlay, GT_NEEDS_NOTHING),
	GT(the_first_layer_that_has_it_answers, GT_NEEDS_NOTHING),
	GT(the_same_when_layers_answer_later, GT_NEEDS_NOTHING),
	GT(a_layer_without_extents_is_not_asked_for_each_page_in_vain, GT_NEEDS_NOTHING),
	GT(what_no_layer_has_to_wait_for_is_there_now, GT_NEEDS_NOTHING),
	GT(advice_goes_to_who_will_be_asked, GT_NEEDS_NOTHING),
	GT(only_the_first_layer_delivers_unasked, GT_NEEDS_NOTHING),
	GT(errors_and_refused_deliveries_come_again, GT_NEEDS_NOTHING),
};

GT_MAIN("source_overlay", tests)
