/* SPDX-License-Identifier: MIT */
/* The library's own protocol, message by message: docs/guide/protocol.md. */
#include "channel.h"

#include <string.h>

#include "err.h"

/* A message, and the fds that came with it. */
struct arrived {
	struct gmemi_wire wire;
	const int *fds;
};

static int fd_at(const struct arrived *arrived, uint32_t place)
{
	return place == GMEMI_WIRE_NONE ? -1 : arrived->fds[place];
}

int gmemi_channel_say_hello(struct gmem_channel *channel)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO,
				   .hello = { .version_least = GMEMI_WIRE_VERSION, .version_most = GMEMI_WIRE_VERSION } };

	wire.hello.role = channel->sends ? GMEMI_WIRE_OWNER : GMEMI_WIRE_PAGER;
	wire.text = channel->identity;
	wire.text_length = (uint32_t)strnlen(channel->identity, GMEMI_IDENTITY);
	channel->hello_sent = true;
	return gmemi_channel_answer(channel, &wire);
}

static int take_hello(struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	const struct gmemi_wire_hello *hello = &wire->hello;

	if (channel->hello_come)
		return gmemi_refuse(-EPROTO, "HELLO comes twice");
	if (hello->role != (channel->sends ? GMEMI_WIRE_PAGER : GMEMI_WIRE_OWNER))
		return gmemi_refuse(-EPROTO, "the peer wants to be what this end is");
	if (hello->version_least > GMEMI_WIRE_VERSION || hello->version_most < GMEMI_WIRE_VERSION)
		return gmemi_refuse(-EPROTO, "the peer speaks the versions %u to %u, not %d", hello->version_least,
				    hello->version_most, GMEMI_WIRE_VERSION);
	channel->hello_come = true;
	channel->capabilities = hello->capabilities;
	memcpy(channel->peer_identity, wire->text, wire->text_length);
	channel->peer_identity[wire->text_length] = '\0';
	return channel->hello_sent ? 0 : gmemi_channel_say_hello(channel);
}

/* --- an endpoint -------------------------------------------------------------------------------------------------------- */

static int take_endpoint(struct gmem_channel *channel, struct gmem_vm *vm, const struct arrived *arrived)
{
	const struct gmemi_wire_endpoint *e = &arrived->wire.endpoint;
	struct gmemi_build *build = &channel->build;
	int r;

	if (build->uffd)
		return gmemi_refuse(-EPROTO, "an endpoint comes before the one before it is detached");
	if (e->regions > channel->max_regions || e->length > channel->max_length)
		return gmemi_refuse(-EPROTO, "the endpoint has %u regions and 0x%llx bytes: more than are allowed", e->regions,
				    (unsigned long long)e->length);
	if (e->memories > channel->max_memories)
		return gmemi_refuse(-EPROTO, "the endpoint has %u memories: more than are allowed", e->memories);
	r = gmemi_build_begin(build, vm, fd_at(arrived, e->uffd));
	build->endpoint = e->endpoint;
	build->memories_due = e->memories;
	build->regions_due = e->regions;
	return r;
}

/* Everything after ENDPOINT says which one it is about. */
static int check_endpoint(const struct gmem_channel *channel, uint32_t endpoint, const char *what)
{
	if (!channel->build.uffd || channel->build.endpoint != endpoint)
		return gmemi_refuse(-EPROTO, "%s is about endpoint %u, which has not come", what, endpoint);
	return 0;
}

static int take_memory(struct gmem_channel *channel, const struct arrived *arrived)
{
	const struct gmemi_wire_memory *m = &arrived->wire.memory;
	int r = check_endpoint(channel, m->endpoint, "MEMORY");

	return r < 0 ? r : gmemi_build_memory(channel, m, fd_at(arrived, m->file), fd_at(arrived, m->map));
}

static int take_regions(struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	int r = check_endpoint(channel, wire->regions.endpoint, "REGIONS");

	for (uint32_t i = 0; r == 0 && i < wire->item_count; i++) {
		struct gmemi_wire_region region;

		r = gmemi_wire_item(wire, i, &region);
		if (r == 0)
			r = gmemi_build_region(channel, &channel->build, &region);
	}
	return r;
}

static int take_remove(struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	int r = check_endpoint(channel, wire->end.endpoint, "REMOVE");

	for (uint32_t i = 0; r == 0 && i < wire->item_count; i++) {
		struct gmemi_wire_range range;

		r = gmemi_wire_item(wire, i, &range);
		if (r == 0)
			r = gmemi_build_remove(&channel->build, &range);
	}
	return r;
}

static int answer_ready(struct gmem_channel *channel)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_READY, .end = { .endpoint = channel->build.endpoint } };

	return gmemi_channel_answer(channel, &wire);
}

int gmemi_channel_accept(struct gmem_channel *channel)
{
	int r = channel->protocol == GMEM_PROTOCOL_NATIVE ? answer_ready(channel) : 0;

	return r < 0 ? r : gmemi_channel_flush(channel);
}

int gmemi_channel_say_release(struct gmem_channel *channel, uint32_t endpoint, int code, uint64_t pending)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_RELEASE };
	int r;

	wire.release =
		(struct gmemi_wire_release){ .endpoint = endpoint, .code = gmemi_channel_code(code), .pending = pending };
	r = gmemi_channel_answer(channel, &wire);
	return r < 0 ? r : gmemi_channel_flush(channel);
}

/* Of the owner: the endpoint is whole. Of the pager: it has been taken. */
static int take_ready(struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	const struct gmemi_build *build = &channel->build;
	int r;

	if (channel->sends) {
		channel->taken = true;
		return 1;
	}
	r = check_endpoint(channel, wire->end.endpoint, "READY");
	if (r < 0)
		return r;
	if (build->ready)
		return gmemi_refuse(-EPROTO, "READY comes twice");
	if (build->memory_count != build->memories_due || build->region_count != build->regions_due)
		return gmemi_refuse(-EPROTO, "%u memories and %u regions came, not %u and %u", build->memory_count,
				    build->region_count, build->memories_due, build->regions_due);
	r = channel->puts_off ? 0 : answer_ready(channel);
	return r < 0 ? r : 1;
}

/* --- the rest ----------------------------------------------------------------------------------------------------------- */

static int take_error(const struct gmemi_wire *wire)
{
	return gmemi_refuse(-EPROTO, "the peer refuses (%u): %.*s", wire->error.code, (int)wire->text_length, wire->text);
}

static int pass_on(struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	int r = channel->notify ? channel->notify(channel->notify_user, channel, wire) : 0;

	if (r == 0 && wire->type == GMEMI_WIRE_ERROR) {
		channel->refused = true;
		r = take_error(wire);
	}
	if (r == 0 && wire->type == GMEMI_WIRE_DETACH && !channel->sends) {
		r = check_endpoint(channel, wire->end.endpoint, "DETACH");
		if (r == 0)
			gmemi_build_end(&channel->build);
	}
	return r;
}

static int check_order(const struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	bool owners = wire->type == GMEMI_WIRE_ENDPOINT || wire->type == GMEMI_WIRE_MEMORY ||
		      wire->type == GMEMI_WIRE_REGIONS || wire->type == GMEMI_WIRE_REMOVE;

	if (!channel->hello_come && wire->type != GMEMI_WIRE_HELLO && wire->type != GMEMI_WIRE_ERROR)
		return gmemi_refuse(-EPROTO, "a message of type %u comes before HELLO", wire->type);
	if (owners && channel->sends)
		return gmemi_refuse(-EPROTO, "the pager sends a message of type %u, which is the owner's", wire->type);
	return 0;
}

static int handle(struct gmem_channel *channel, struct gmem_vm *vm, const struct arrived *arrived)
{
	const struct gmemi_wire *wire = &arrived->wire;
	int r = check_order(channel, wire);

	if (r < 0)
		return r;
	switch (wire->type) {
	case GMEMI_WIRE_HELLO:
		return take_hello(channel, wire);
	case GMEMI_WIRE_ENDPOINT:
		return take_endpoint(channel, vm, arrived);
	case GMEMI_WIRE_MEMORY:
		return take_memory(channel, arrived);
	case GMEMI_WIRE_REGIONS:
		return take_regions(channel, wire);
	case GMEMI_WIRE_READY:
		return take_ready(channel, wire);
	case GMEMI_WIRE_REMOVE:
		return take_remove(channel, wire);
	default:
		return pass_on(channel, wire);
	}
}

int gmemi_channel_native(struct gmem_channel *channel, struct gmem_vm *vm)
{
	struct arrived arrived;
	int fds[GMEMI_WIRE_FDS], r;
	size_t length;

	r = gmemi_wire_length(channel->in, channel->in_have, &length);
	if (r <= 0 || channel->in_have < length)
		return r < 0 ? r : 0;
	r = gmemi_wire_decode(channel->in, length, &arrived.wire);
	if (r < 0)
		return r;
	if (arrived.wire.fds > channel->fd_count)
		return gmemi_refuse(-EPROTO, "a message names %u fds, %u came", arrived.wire.fds, channel->fd_count);
	arrived.fds = fds;
	gmemi_channel_take_fds(channel, fds, arrived.wire.fds);
	if (r > 0)
		r = handle(channel, vm, &arrived);
	gmemi_close_fds(fds, arrived.wire.fds);
	if (r < 0)
		return r;
	gmemi_channel_consume(channel, length);
	return r == 1 ? 1 : 2;
}
