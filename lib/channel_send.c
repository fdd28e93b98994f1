/* SPDX-License-Identifier: MIT */
/* Handing an endpoint of this process out. */
#include "channel.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "firecracker.h"

/* A peer that never stops sending does not keep the caller here. */
#define READS_PER_CALL 16

/* An endpoint as it is to be said. */
struct picture {
	struct gmem_channel *channel;
	struct gmem_uffd *uffd;
	uint32_t endpoint;
	struct gmem *memories[GMEMI_WIRE_MEMORIES]; /* of which it does not know yet: the last ones that are told */
	uint32_t first_memory, memory_count, region_count;
	struct gmemi_wire_region *regions;
	uint64_t length, watched; /* bytes that are said; of their regions */
};

/* --- what there is ------------------------------------------------------------------------------------------------------ */

static int memory_number(struct picture *picture, struct gmem *mem, uint32_t *number)
{
	struct gmem_channel *channel = picture->channel;
	uint32_t i = 0;

	*number = GMEMI_WIRE_NONE;
	if (!mem)
		return 0;
	while (i < channel->told_count && channel->told[i] != mem)
		i++;
	if (i == GMEMI_WIRE_MEMORIES)
		return gmemi_refuse(-EOPNOTSUPP, "the endpoint has watched more than %d memories", GMEMI_WIRE_MEMORIES);
	if (i == channel->told_count) {
		channel->told[channel->told_count++] = mem;
		picture->memories[picture->memory_count++] = mem;
	}
	*number = i;
	return 0;
}

static uint64_t shifted(uint64_t start, uint64_t by)
{
	return start == UINT64_MAX ? start : start + by;
}

static int add_view(struct picture *picture, const struct gmemi_view *view)
{
	struct gmemi_region *region = view->region;
	struct gmemi_wire_region *said = &picture->regions[picture->region_count++];
	uint64_t inside = view->offset - region->offset;

	*said = (struct gmemi_wire_region){
		.strategy = region->strategy == GMEM_STRATEGY_FILL ? GMEMI_WIRE_FILL : GMEMI_WIRE_COPY,
		.flags = region->protects ? GMEMI_WIRE_WRITE_PROTECT : 0,
		.offset = view->offset,
		.length = view->length,
		.hva = view->hva,
		.gpa = shifted(region->gpa, inside),
		.content = region->content + inside,
		.page_size = region->page_size,
	};
	picture->length += view->length;
	picture->watched += region->views == view ? region->length : 0;
	atomic_store(&region->copies, false); /* another process moves pages from now on */
	return memory_number(picture, region->watched->mem, &said->memory);
}

/* What a page of two mappings is, can be said of one of them only. */
static int check_mapped_once(const struct picture *picture)
{
	uint64_t length = picture->watched;

	if (picture->length != length)
		return gmemi_refuse(-EOPNOTSUPP, "memory is mapped more than once: 0x%llx bytes for 0x%llx of memory",
				    (unsigned long long)picture->length, (unsigned long long)length);
	return 0;
}

/* Of all there is, or of what the peer has not been told. The index lock is held. */
static int add_views(struct picture *picture, size_t most, bool all)
{
	const struct gmemi_table *views = &picture->uffd->views;
	int r = 0;

	for (size_t i = 0; r == 0 && i < views->count && i < most; i++) {
		const struct gmemi_view *view = views->items[i];

		if (all || !view->region->told)
			r = add_view(picture, view);
	}
	for (size_t i = 0; r == 0 && i < views->count; i++)
		((struct gmemi_view *)views->items[i])->region->told = true;
	return r;
}

static int look(struct picture *picture, bool all)
{
	struct gmem_uffd *uffd = picture->uffd;
	const struct gmemi_table *views = &uffd->views;
	size_t count;
	int r;

	gmemi_lock(&uffd->index_lock);
	count = views->count;
	gmemi_unlock(&uffd->index_lock); /* the register lock keeps it */
	if (count == 0 && !all)
		return 0; /* what was new has gone already */
	if (count == 0 || count >= UINT32_MAX)
		return gmemi_refuse(-EBADFD, "the endpoint watches nothing, or too much");
	picture->regions = gmemi_alloc(count, sizeof(*picture->regions));
	if (!picture->regions)
		return -ENOMEM;
	gmemi_lock(&uffd->index_lock);
	r = add_views(picture, count, all);
	gmemi_unlock(&uffd->index_lock);
	return r < 0 ? r : check_mapped_once(picture);
}

static int take_picture(struct gmem_channel *channel, struct gmem_uffd *uffd, uint32_t endpoint, bool all,
			struct picture *picture)
{
	int r;

	*picture =
		(struct picture){ .channel = channel, .uffd = uffd, .endpoint = endpoint, .first_memory = channel->told_count };
	pthread_mutex_lock(&uffd->register_lock);
	r = look(picture, all);
	pthread_mutex_unlock(&uffd->register_lock);
	return r;
}

/* --- the library's own protocol ----------------------------------------------------------------------------------------- */

int gmemi_channel_say(struct gmem_channel *channel, struct gmemi_wire *wire, const int *fds, uint64_t deadline)
{
	size_t size = gmemi_wire_size(wire);
	unsigned char *bytes = gmemi_alloc(size, 1);
	int r;

	if (!bytes)
		return -ENOMEM;
	r = gmemi_channel_drain(channel, deadline); /* what was posted before comes before */
	if (r == 0) {
		wire->number = ++channel->number;
		(void)gmemi_wire_encode(wire, bytes, size);
		r = gmemi_channel_send_all(channel, bytes, size, fds, wire->fds, deadline);
	}
	gmemi_free(bytes);
	return r;
}

static int send_endpoint(struct gmem_channel *channel, const struct picture *picture, uint64_t deadline)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ENDPOINT, .fds = 1, .flags = GMEMI_WIRE_ESSENTIAL };

	wire.endpoint = (struct gmemi_wire_endpoint){ .endpoint = picture->endpoint,
						      .memories = picture->memory_count,
						      .regions = picture->region_count,
						      .length = picture->length };
	channel->handed = true;
	return gmemi_channel_say(channel, &wire, &picture->uffd->fd, deadline);
}

static int send_memory(struct gmem_channel *channel, const struct picture *picture, uint32_t number, uint64_t deadline)
{
	struct gmem *mem = picture->memories[number];
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = 2, .flags = GMEMI_WIRE_ESSENTIAL };
	int fds[2] = { gmemi_memory_shared_fd(mem), gmemi_pagemap_fd(mem->map) };

	gmemi_memory_expose(mem);
	atomic_store(&mem->map_lent, true);
	wire.memory = (struct gmemi_wire_memory){ .endpoint = picture->endpoint,
						  .memory = picture->first_memory + number,
						  .file = 0,
						  .map = 1,
						  .length = mem->length,
						  .page_size = mem->page_size };
	return gmemi_channel_say(channel, &wire, fds, deadline);
}

static int send_regions(struct gmem_channel *channel, const struct picture *picture, uint64_t deadline)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_REGIONS,
				   .flags = GMEMI_WIRE_ESSENTIAL,
				   .regions = { .endpoint = picture->endpoint } };
	uint32_t most = gmemi_wire_items_per_message(GMEMI_WIRE_REGIONS);
	int r = 0;

	for (uint32_t at = 0; r == 0 && at < picture->region_count; at += most) {
		wire.items = picture->regions + at;
		wire.item_count = picture->region_count - at < most ? picture->region_count - at : most;
		r = gmemi_channel_say(channel, &wire, NULL, deadline);
	}
	return r;
}

static int send_all_of_it(struct gmem_channel *channel, const struct picture *picture, uint64_t deadline)
{
	struct gmemi_wire ready = { .type = GMEMI_WIRE_READY,
				    .flags = GMEMI_WIRE_ESSENTIAL,
				    .end = { .endpoint = picture->endpoint } };
	int r = send_endpoint(channel, picture, deadline);

	for (uint32_t i = 0; r == 0 && i < picture->memory_count; i++)
		r = send_memory(channel, picture, i, deadline);
	if (r == 0)
		r = send_regions(channel, picture, deadline);
	return r < 0 ? r : gmemi_channel_say(channel, &ready, NULL, deadline);
}

static int wait_for_bytes(struct gmem_channel *channel, uint64_t deadline)
{
	uint64_t now = gmemi_sys_now();
	int r = deadline <= now ? -ETIMEDOUT
				: gmemi_sys_wait_socket(channel->fd, false, deadline == UINT64_MAX ? deadline : deadline - now);

	if (r == -ETIMEDOUT)
		return gmemi_refuse(r, "the peer does not answer");
	return r < 0 ? gmemi_failed(r, "waiting for the peer", NULL) : 0;
}

/* Until *answered: what comes meanwhile is taken. */
static int wait_for(struct gmem_channel *channel, const bool *answered, uint64_t deadline)
{
	while (!*answered) {
		int r = gmemi_channel_step(channel, NULL);

		if (r < 0 || *answered)
			return r < 0 ? r : 0;
		r = gmemi_channel_fill(channel);
		if (r == 0)
			return gmemi_refuse(-ENOTCONN, "the peer has closed its end");
		if (r == -EAGAIN)
			r = wait_for_bytes(channel, deadline);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_hello(struct gmem_channel *channel, uint64_t deadline)
{
	int r = gmemi_channel_say_hello(channel);

	if (r == 0)
		r = gmemi_channel_send_all(channel, channel->out, channel->out_have, NULL, 0, deadline);
	channel->out_have = 0;
	return r;
}

/* A peer that has refused has said why before it ended. */
static int hear_why(struct gmem_channel *channel, uint64_t deadline)
{
	const bool never = false;

	gmemi_tolerated();
	return wait_for(channel, &never, deadline);
}

static int send_native(struct gmem_channel *channel, const struct picture *picture, uint64_t deadline)
{
	int r = channel->hello_sent ? 0 : send_hello(channel, deadline);

	if (r == 0)
		r = wait_for(channel, &channel->hello_come, deadline);
	channel->taken = false;
	if (r == 0)
		r = send_all_of_it(channel, picture, deadline);
	if (r == -EPIPE || r == -ECONNRESET)
		return hear_why(channel, deadline);
	return r < 0 ? r : wait_for(channel, &channel->taken, deadline);
}

/* --- Firecracker's ------------------------------------------------------------------------------------------------------ */

static int send_json(struct gmem_channel *channel, const struct picture *picture, const struct gmemi_fc_region *regions,
		     uint64_t deadline)
{
	size_t length;
	char *text;
	int r = gmemi_fc_write(GMEMI_FC_PAGE_SIZE, regions, picture->region_count, &text, &length);

	if (r < 0)
		return r;
	channel->handed = true;
	r = gmemi_channel_send_all(channel, text, length, &picture->uffd->fd, 1, deadline);
	gmemi_free(text);
	return r;
}

/* Its peer hears of a page that the file has, and would wait for ever: it knows copying alone. */
static int send_firecracker(struct gmem_channel *channel, const struct picture *picture, uint64_t deadline)
{
	struct gmemi_fc_region *regions = gmemi_alloc(picture->region_count, sizeof(*regions));
	int r = 0;

	if (!regions)
		return -ENOMEM;
	for (uint32_t i = 0; r == 0 && i < picture->region_count; i++) {
		const struct gmemi_wire_region *from = &picture->regions[i];

		regions[i] = (struct gmemi_fc_region){
			.hva = from->hva, .length = from->length, .offset = from->content, .page_size = from->page_size
		};
		if (from->strategy != GMEMI_WIRE_COPY)
			r = gmemi_refuse(-EOPNOTSUPP, "the protocol of Firecracker is for regions with GMEM_STRATEGY_COPY");
	}
	if (r == 0)
		r = send_json(channel, picture, regions, deadline);
	gmemi_free(regions);
	return r;
}

static uint64_t time_limit(const struct gmem_channel *channel)
{
	uint64_t now = gmemi_sys_now();

	return channel->timeout_ns < UINT64_MAX - now ? now + channel->timeout_ns : UINT64_MAX;
}

static int send_picture(struct gmem_channel *channel, const struct picture *picture)
{
	uint64_t deadline = time_limit(channel);

	if (channel->protocol == GMEM_PROTOCOL_FIRECRACKER)
		return send_firecracker(channel, picture, deadline);
	channel->protocol = GMEM_PROTOCOL_NATIVE;
	return send_native(channel, picture, deadline);
}

/* What its peer has, it may let go without an answer by now: its word for that is still to come. */
static bool may_part(const struct gmem_channel *channel, int code)
{
	return channel->protocol == GMEM_PROTOCOL_NATIVE && channel->handed && (code == -ETIMEDOUT || code == -EINTR);
}

/* Behind a part of a message nothing can be said: it finds the end there, and says that it has. */
static int part(struct gmem_channel *channel, uint32_t endpoint, int code)
{
	struct gmemi_sentence why;

	gmemi_sentence_take(&why);
	if (channel->torn)
		(void)gmemi_sys_shutdown_sending(channel->fd);
	else if (gmemi_channel_say_detach(channel, endpoint) < 0)
		gmemi_tolerated();
	gmemi_sentence_give(&why);
	return code;
}

int gmemi_channel_send(struct gmem_channel *channel, struct gmem_uffd *uffd, uint32_t endpoint)
{
	struct picture picture;
	int r;

	if (channel->broken)
		return gmemi_refuse(channel->broken, "the channel has failed before, and is of no more use");
	if (channel->endpoints || channel->build.uffd || channel->handed)
		return gmemi_refuse(-EBADFD, "the channel has been used");
	channel->sends = true;
	r = take_picture(channel, uffd, endpoint, true, &picture);
	if (r == 0)
		r = send_picture(channel, &picture);
	gmemi_free(picture.regions);
	gmemi_channel_rest(channel);
	if (may_part(channel, r))
		return part(channel, endpoint, r);
	return r < 0 && r != -EBADFD && r != -EOPNOTSUPP ? gmemi_channel_break(channel, r) : r;
}

/* --- what changes after that -------------------------------------------------------------------------------------------- */

static int outcome(struct gmem_channel *channel, int r)
{
	return r < 0 ? gmemi_channel_break(channel, r) : r;
}

int gmemi_channel_say_added(struct gmem_channel *channel, struct gmem_uffd *uffd, uint32_t endpoint)
{
	struct picture picture;
	uint64_t deadline = time_limit(channel);
	int r = take_picture(channel, uffd, endpoint, false, &picture);

	for (uint32_t i = 0; r == 0 && i < picture.memory_count; i++)
		r = send_memory(channel, &picture, i, deadline);
	if (r == 0)
		r = send_regions(channel, &picture, deadline);
	gmemi_free(picture.regions);
	return outcome(channel, r);
}

bool gmemi_channel_was_told(const struct gmem_channel *channel, const struct gmem *mem, uint32_t *number)
{
	uint32_t i = 0;

	while (i < channel->told_count && channel->told[i] != mem)
		i++;
	*number = i;
	return i < channel->told_count;
}

int gmemi_channel_say_removed(struct gmem_channel *channel, uint32_t endpoint, const struct gmem *mem, uint64_t offset,
			      uint64_t length, bool last)
{
	struct gmemi_wire_range range = { .memory = GMEMI_WIRE_NONE, .offset = offset, .length = length };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_REMOVE,
				   .flags = GMEMI_WIRE_ESSENTIAL,
				   .end = { .endpoint = endpoint },
				   .items = &range,
				   .item_count = 1 };

	if (mem && !gmemi_channel_was_told(channel, mem, &range.memory))
		return 0; /* it was not told of any of it */
	if (mem && last)
		channel->told[range.memory] = NULL; /* it may end; another one, at its address, is not the same */
	return outcome(channel, gmemi_channel_say(channel, &wire, NULL, time_limit(channel)));
}

int gmemi_channel_say_detach(struct gmem_channel *channel, uint32_t endpoint)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_DETACH, .end = { .endpoint = endpoint } };
	int r = gmemi_channel_answer(channel, &wire);

	return outcome(channel, r < 0 ? r : gmemi_channel_flush(channel));
}

bool gmemi_channel_has_refused(const struct gmem_channel *channel)
{
	return channel->refused && !channel->taken;
}

/* Firecracker's peer has nothing to say. READY comes here when it is late. */
static int take_arrived(struct gmem_channel *channel)
{
	int r = 1;

	while (r == 1 && channel->protocol == GMEM_PROTOCOL_NATIVE)
		r = gmemi_channel_step(channel, NULL);
	if (channel->protocol == GMEM_PROTOCOL_NATIVE)
		return r;
	return channel->in_have || channel->fd_count ? gmemi_refuse(-EPROTO, "the peer answers, in a protocol without answers")
						     : 0;
}

int gmemi_channel_attend(struct gmem_channel *channel)
{
	int r = 1;

	for (int reads = 0; r > 0 && reads < READS_PER_CALL; reads++) {
		r = take_arrived(channel);
		if (r >= 0)
			r = gmemi_channel_fill(channel);
		channel->ended = r == 0;
		if (r == 0)
			r = gmemi_refuse(-ENOTCONN, "the peer has closed its end");
	}
	if (r == -EAGAIN || r > 0)
		r = gmemi_channel_flush(channel);
	gmemi_channel_rest(channel);
	return outcome(channel, r);
}
