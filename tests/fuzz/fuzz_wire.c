/* SPDX-License-Identifier: MIT */
/* The library's own protocol, decoder and channel: whatever comes is decoded within its bytes, and what is decoded means the
 * same when it is encoded again, or it is refused. With libFuzzer, or alone: ROUNDS damaged conversations. */
#include "peer.h"

#include "wire.h"

static void decode_again(const struct gmemi_wire *wire, const void *items)
{
	static uint8_t bytes[GMEMI_WIRE_HEADER + GMEMI_WIRE_BODY];
	struct gmemi_wire copy = *wire, again;
	size_t size;

	copy.items = items;
	size = gmemi_wire_encode(&copy, bytes, sizeof(bytes));
	expect(size > 0 && gmemi_wire_decode(bytes, size, &again) == 1, "decoding what was encoded");
	expect(memcmp(&again.hello, &wire->hello, sizeof(wire->fault)) == 0, "the same fixed part");
	expect(again.text_length == wire->text_length && memcmp(again.text, wire->text, wire->text_length) == 0,
	       "the same text");
}

/* A message from memory of its own, so that a reader beyond the end is seen. */
static void decode(const uint8_t *data, size_t length)
{
	uint8_t *bytes = malloc(length);
	struct gmemi_wire wire;
	uint64_t item[16];
	int r;

	memcpy(bytes, data, length);
	r = gmemi_wire_decode(bytes, length, &wire);
	expect(r == 1 || r == 0 || r == -EPROTO, "gmemi_wire_decode");
	for (uint32_t i = 0; r == 1 && i < wire.item_count; i++)
		(void)gmemi_wire_item(&wire, i, item);
	if (r == 1 && !wire.item_count)
		decode_again(&wire, NULL);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 2, length;
	int r = 1;

	while (at < size && r == 1) {
		r = gmemi_wire_length(data + at, size - at, &length);
		expect(r == 1 || r == 0 || r == -EPROTO, "gmemi_wire_length");
		if (r != 1 || length > size - at)
			break;
		decode(data + at, length);
		at += length;
	}
	receive(data, size);
	return 0;
}

#ifdef ROUNDS
static size_t put(uint8_t *data, struct gmemi_wire *wire)
{
	return gmemi_wire_encode(wire, data, 1024);
}

/* Hello, then anything. */
static size_t make(uint8_t *data, unsigned int *seed)
{
	struct gmemi_wire_region region = { .memory = GMEMI_WIRE_NONE,
					    .strategy = GMEMI_WIRE_COPY,
					    .offset = 65536,
					    .length = 65536,
					    .hva = 65536,
					    .gpa = UINT64_MAX,
					    .page_size = 4096 };
	struct gmemi_wire hello = { .type = GMEMI_WIRE_HELLO, .hello = { .version_least = 1, .version_most = 1, .role = 1 } };
	size_t size = 2 + put(data + 2, &hello);

	data[0] = (uint8_t)rand_r(seed);
	data[1] = (uint8_t)rand_r(seed);
	for (int n = rand_r(seed) % 3; n >= 0; n--) {
		struct gmemi_wire wire = { .type = (uint16_t)(1 + rand_r(seed) % (GMEMI_WIRE_TYPES - 1)),
					   .fds = (uint16_t)(rand_r(seed) % 2) };

		wire.text = "a text";
		wire.text_length = (uint32_t)(rand_r(seed) % 7);
		for (size_t i = 0; i < sizeof(wire.fault); i += 4)
			((uint8_t *)&wire.hello)[i] = (uint8_t)(rand_r(seed) % 3);
		wire.items = &region;
		wire.item_count = wire.type == GMEMI_WIRE_REGIONS;
		size += put(data + size, &wire);
	}
	return size;
}

FUZZ_MAIN("messages from damaged bytes", make)
#endif
