/* SPDX-License-Identifier: MIT */
#include "patches.h"

#include <errno.h>
#include <string.h>

#include "gt.h"

static bool is_there(const struct patches *p, uint64_t offset, uint64_t length)
{
	for (uint64_t at = offset; at < offset + length; at++)
		if (at >= PATCHED || !p->has[at / PATCH])
			return false;
	return true;
}

static bool is_zero(const unsigned char *data, uint64_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static int read_patches(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct patches *p = user;

	p->reads++;
	p->demanded += flags == GMEM_READ_DEMAND;
	if (p->late) {
		p->asked[p->count].offset = offset;
		p->asked[p->count++].length = length;
		memset(buffer, 0xbd, length);
		return GMEM_ANSWER_LATER;
	}
	if (!is_there(p, offset, length)) {
		memset(buffer, 0xbd, length);
		return -ENODATA;
	}
	if (is_zero(p->data + offset, length))
		return GMEM_ANSWER_ZERO;
	memcpy(buffer, p->data + offset, length);
	return GMEM_ANSWER_DATA;
}

static int extent_of_patches(void *user, uint64_t offset, uint64_t *length)
{
	struct patches *p = user;
	bool there = is_there(p, offset, 1);
	uint64_t run = PATCH - offset % PATCH;

	while (run < *length && is_there(p, offset + run, 1) == there)
		run += PATCH;
	*length = run < *length ? run : *length;
	return there ? GMEM_ANSWER_DATA : -ENODATA;
}

static void advise_patches(void *user, uint64_t offset, uint64_t length)
{
	(void)offset;
	((struct patches *)user)->advised += length;
}

static void release_patches(void *user)
{
	((struct patches *)user)->released++;
}

struct gmem_source *patchy_source(struct patches *patches)
{
	struct gmem_source_ops ops = {
		.size = sizeof(ops),
		.read = read_patches,
		.extent = patches->tells_extents ? extent_of_patches : NULL,
		.release = release_patches,
		.advise = advise_patches,
	};
	struct gmem_source *source;

	assert_int_equal(gmem_source_create(&ops, patches, &source), 0);
	return source;
}

static void answer_patch(struct gmem_source *source, struct patches *p, uint64_t offset, uint64_t length)
{
	int answer = is_there(p, offset, 1) ? GMEM_ANSWER_DATA : -ENODATA;

	if (answer == GMEM_ANSWER_DATA && is_zero(p->data + offset, length))
		answer = GMEM_ANSWER_ZERO;
	assert_int_equal(gmem_source_deliver(source, offset, length, answer ? NULL : p->data + offset, answer), 0);
}

void answer_asked(struct gmem_source *source, struct patches *p)
{
	while (p->count) {
		uint64_t offset = p->asked[--p->count].offset, end = offset + p->asked[p->count].length;

		while (offset < end) {
			uint64_t part = PATCH - offset % PATCH;

			part = part < end - offset ? part : end - offset;
			answer_patch(source, p, offset, part);
			offset += part;
		}
	}
}

static int hear(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer)
{
	struct listener *listener = (struct listener *)user;

	listener->deliveries++;
	for (uint64_t at = offset; at < offset + length && at < PATCHED; at++)
		listener->bytes[at] = answer ? (answer == GMEM_ANSWER_ZERO ? 0 : answer) :
					       ((const unsigned char *)data)[at - offset];
	return listener->result;
}

void forget_delivered(struct listener *listener)
{
	listener->deliveries = 0;
	for (int i = 0; i < PATCHED; i++)
		listener->bytes[i] = NOTHING;
}

void listen_to(struct gmem_source *source, struct listener *listener)
{
	listener->user.deliver = hear;
	listener->result = 0;
	forget_delivered(listener);
	gmemi_source_attach(source, &listener->user);
}
