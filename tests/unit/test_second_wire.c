/* SPDX-License-Identifier: MIT */
/* Every message of the protocol, as the library writes and reads it and as the page that specifies it says: two readings of one
 * text. */
#include "gt.h"

#include <string.h>

#include "second_wire.h"
#include "wire.h"

static unsigned char ours[NOTE_MOST], theirs[NOTE_MOST];

static void assert_same_note(const struct note *a, const struct note *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->fds, b->fds);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->number, b->number);
	assert_int_equal(a->items, b->items);
	assert_string_equal(a->text, b->text);
	for (unsigned int i = 0; i < NOTE_VALUES; i++)
		assert_int_equal(a->part[i], b->part[i]);
	for (uint32_t i = 0; i < a->items; i++)
		for (unsigned int member = 0; member < NOTE_VALUES; member++)
			assert_int_equal(a->item[i][member], b->item[i][member]);
}

/* What the library reads out of our bytes. */
static void assert_library_reads(size_t length, const struct gmemi_wire *wire)
{
	const unsigned char *items = wire->items;
	uint32_t item_size = note_item_size(wire->type);
	unsigned char item[sizeof(struct gmemi_wire_region)];
	struct gmemi_wire read;
	size_t said;

	assert_int_equal(gmemi_wire_length(ours, length, &said), 1);
	assert_int_equal(said, length);
	assert_int_equal(gmemi_wire_decode(ours, length, &read), 1);
	assert_int_equal(read.type, wire->type);
	assert_int_equal(read.fds, wire->fds);
	assert_int_equal(read.flags, wire->flags);
	assert_int_equal(read.number, wire->number);
	assert_memory_equal(&read.hello, &wire->hello, note_part_size(wire->type));
	assert_int_equal(read.item_count, wire->item_count);
	for (uint32_t i = 0; i < wire->item_count; i++) {
		assert_int_equal(gmemi_wire_item(&read, i, item), 0);
		assert_memory_equal(item, items + i * item_size, item_size);
	}
	assert_int_equal(read.text_length, wire->text_length);
	if (wire->text_length)
		assert_memory_equal(read.text, wire->text, wire->text_length);
}

/* Both ways, and with what a later version may have behind each part. */
static void both_agree(struct gmemi_wire *wire, struct note *note)
{
	size_t length = gmemi_wire_encode(wire, theirs, sizeof(theirs)), said = 0;
	struct note read;

	assert_int_equal(length, gmemi_wire_size(wire));
	assert_int_equal(note_read(theirs, length, &read, &said), NOTE_KNOWN);
	assert_int_equal(said, length);
	assert_same_note(&read, note);
	assert_int_equal(note_read(theirs, length - 1, &read, &said), NOTE_SHORT);
	assert_int_equal(note_write(note, ours), length);
	assert_memory_equal(ours, theirs, length);
	for (uint32_t later = 0; later <= 24; later += 3) {
		note->later_part = note->later_item = note->later_body = later;
		assert_library_reads(note_write(note, ours), wire);
	}
}

/* A value of its own for each member that may have any, with every byte different; good for a length, too. */
static uint32_t word(unsigned int which)
{
	return 0x04030201u + 0x04040404u * which;
}

static uint64_t wide(unsigned int which)
{
	return UINT64_C(0x0807060504030201) + UINT64_C(0x0808080808080808) * which;
}

static void hello(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .number = 1, .text = "a ~!", .text_length = 4 };
	struct note note = { .type = 1, .number = 1, .part = { 1, 3, 2, 0, wide(1) }, .text = "a ~!" };

	(void)state;
	wire.hello = (struct gmemi_wire_hello){
		.version_least = 1, .version_most = 3, .role = GMEMI_WIRE_PAGER, .capabilities = wide(1)
	};
	both_agree(&wire, &note);
}

/* The bytes that the page shows. */
static void hello_of_the_page(void **state)
{
	static const unsigned char page[] = {
		0x47, 0x4d, 0x45, 0x4d, 0x2a, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x18, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x76, 0x6d,
	};
	struct note note = { .type = 1, .number = 1, .part = { 1, 3, 1, 0, UINT64_C(0x0102030405060708) }, .text = "vm" };

	(void)state;
	assert_int_equal(note_write(&note, ours), sizeof(page));
	assert_memory_equal(ours, page, sizeof(page));
}

static void endpoint(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ENDPOINT, .fds = 1, .number = wide(2) };
	struct note note = { .type = 2, .fds = 1, .number = wide(2), .part = { word(0), 0, 64, 70, wide(3), wide(4) } };

	(void)state;
	wire.endpoint = (struct gmemi_wire_endpoint){
		.endpoint = word(0), .uffd = 0, .memories = 64, .regions = 70, .features = wide(3), .length = wide(4)
	};
	both_agree(&wire, &note);
}

static void memory(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = 2, .number = 3 };
	struct note note = { .type = 3, .fds = 2, .number = 3, .part = { word(0), 63, 1, 0, 0x7000, 0x1000 } };

	(void)state;
	wire.memory = (struct gmemi_wire_memory){
		.endpoint = word(0), .memory = 63, .file = 1, .map = 0, .length = 0x7000, .page_size = 0x1000
	};
	both_agree(&wire, &note);
	wire.fds = note.fds = 1;
	wire.memory.file = 0;
	wire.memory.map = UINT32_MAX;
	note.part[MEMORY_FILE] = 0;
	note.part[MEMORY_MAP] = NONE;
	note.later_part = note.later_item = note.later_body = 0;
	both_agree(&wire, &note);
}

static void regions(void **state)
{
	struct gmemi_wire_region items[2] = {
		{ 7, GMEMI_WIRE_FILL, 1, 0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x1000 },
		{ UINT32_MAX, GMEMI_WIRE_COPY, 0, 0, wide(1), wide(2), wide(3), UINT64_MAX, wide(4), 0x40000000 },
	};
	struct gmemi_wire wire = { .type = GMEMI_WIRE_REGIONS, .number = 4, .items = items, .item_count = 2 };
	struct note note = {
		.type = 4,
		.number = 4,
		.part = { word(0), 0 },
		.items = 2,
		.item = { { 7, 1, 1, 0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x1000 },
			  { NONE, 2, 0, 0, wide(1), wide(2), wide(3), NO_ADDRESS, wide(4), 0x40000000 } },
	};

	(void)state;
	wire.regions.endpoint = word(0);
	both_agree(&wire, &note);
}

static void remove_ranges(void **state)
{
	struct gmemi_wire_range items[2] = { { 7, 0, wide(1), wide(2) }, { UINT32_MAX, 0, wide(3), wide(4) } };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_REMOVE, .number = 6, .items = items, .item_count = 2 };
	struct note note = {
		.type = 6,
		.number = 6,
		.part = { word(0), 0 },
		.items = 2,
		.item = { { 7, 0, wide(1), wide(2) }, { NONE, 0, wide(3), wide(4) } },
	};

	(void)state;
	wire.end.endpoint = word(0);
	both_agree(&wire, &note);
}

/* READY, ASK_STATISTICS, DETACH: an endpoint and nothing else. */
static void of_an_endpoint(void **state)
{
	static const uint16_t types[] = { GMEMI_WIRE_READY, GMEMI_WIRE_ASK_STATISTICS, GMEMI_WIRE_DETACH };
	static const uint16_t numbers[] = { 5, 10, 12 };

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct gmemi_wire wire = { .type = types[i], .number = wide(i), .end = { .endpoint = word(i) } };
		struct note note = { .type = numbers[i], .number = wide(i), .part = { word(i), 0 } };

		both_agree(&wire, &note);
	}
}

static void heartbeat(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HEARTBEAT, .number = 9, .heartbeat = { .interval_ns = wide(5) } };
	struct note note = { .type = 7, .number = 9, .part = { wide(5) } };

	(void)state;
	both_agree(&wire, &note);
}

static void fault(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_FAULT, .number = 10 };
	struct note note = {
		.type = 8,
		.number = 10,
		.part = { word(0), 3, wide(0), wide(1), wide(2), wide(3), 1, word(1), 0 },
	};

	(void)state;
	wire.fault = (struct gmemi_wire_fault){
		.endpoint = word(0),
		.memory = 3,
		.cookie = wide(0),
		.offset = wide(1),
		.length = wide(2),
		.gpa = wide(3),
		.flags = 1,
		.vcpu = word(1),
	};
	both_agree(&wire, &note);
}

static void fault_done(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_FAULT_DONE, .number = 11 };
	struct note note = { .type = 9, .number = 11, .part = { wide(0), wide(1), wide(2), 8, 0 } };

	(void)state;
	wire.fault_done = (struct gmemi_wire_fault_done){
		.cookie = wide(0), .offset = wide(1), .length = wide(2), .code = GMEMI_WIRE_FAILED
	};
	both_agree(&wire, &note);
}

static void statistics(void **state)
{
	struct gmemi_wire_statistic items[3] = { { 1, 0, wide(0) }, { 6, 0, wide(1) }, { word(2), 0, wide(2) } };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_STATISTICS, .number = 12, .items = items, .item_count = 3 };
	struct note note = {
		.type = 11,
		.number = 12,
		.part = { word(0), 0 },
		.items = 3,
		.item = { { 1, 0, wide(0) }, { 6, 0, wide(1) }, { word(2), 0, wide(2) } },
	};

	(void)state;
	wire.end.endpoint = word(0);
	both_agree(&wire, &note);
}

static void release(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_RELEASE, .number = 13 };
	struct note note = { .type = 13, .number = 13, .part = { word(0), 6, wide(1) } };

	(void)state;
	wire.release = (struct gmemi_wire_release){ .endpoint = word(0), .code = GMEMI_WIRE_GONE, .pending = wide(1) };
	both_agree(&wire, &note);
}

static void errors(void **state)
{
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ERROR, .number = 14, .text = "No.", .text_length = 3 };
	struct note note = { .type = 14, .number = 14, .text = "No." };

	(void)state;
	for (uint32_t code = GMEMI_WIRE_BROKEN; code <= GMEMI_WIRE_FAILED; code++) {
		wire.error = (struct gmemi_wire_error){ .code = code, .about = wide(code) };
		note.part[ERROR_CODE] = code;
		note.part[ERROR_ABOUT] = wide(code);
		note.later_part = note.later_item = note.later_body = 0;
		both_agree(&wire, &note);
	}
}

/* Of a type that nobody knows only the header is looked at, whatever the body is. */
static void unknown(void **state)
{
	static const uint16_t types[] = { 0, 15, 16, 32, 48, 64, 0x7fff, 0x8000, 0xffff };
	struct note note = { .fds = 3, .number = 5, .later_body = 77 };
	struct gmemi_wire wire;

	(void)state;
	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		note.type = types[i];
		assert_int_equal(gmemi_wire_decode(ours, note_write(&note, ours), &wire), 0);
		assert_int_equal(wire.type, types[i]);
		assert_int_equal(wire.fds, 3);
		assert_int_equal(wire.number, 5);
	}
}

static const struct gt_test tests[] = {
	GT(hello, 0),
	GT(hello_of_the_page, 0),
	GT(endpoint, 0),
	GT(memory, 0),
	GT(regions, 0),
	GT(remove_ranges, 0),
	GT(of_an_endpoint, 0),
	GT(heartbeat, 0),
	GT(fault, 0),
	GT(fault_done, 0),
	GT(statistics, 0),
	GT(release, 0),
	GT(errors, 0),
	GT(unknown, 0),
};

GT_MAIN("second_wire", tests)
