/* SPDX-License-Identifier: MIT */
/* The library's own protocol as bytes: what is written is read again, from any part of it nothing bad comes, what a later
 * version adds is passed over, and every member keeps its bounds. */
#include "gt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "random.h"
#include "wire.h"
#include "wire_table.h"

#define ROOM (GMEMI_WIRE_HEADER + GMEMI_WIRE_BODY)
#define ITEMS 5
#define FIXED (GMEMI_WIRE_HEADER + GMEMI_WIRE_PREFIX) /* where the fixed part begins */

static unsigned char bytes[ROOM + 1];

static uint32_t width_of(const struct gmemi_wire_layout *layout)
{
	uint32_t width = 0;

	for (uint32_t i = 0; i < layout->count; i++)
		width += layout->fields[i].width;
	return width;
}

static void put(unsigned char *to, uint32_t width, uint64_t value)
{
	for (uint32_t i = 0; i < width; i++)
		to[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *from, uint32_t width)
{
	uint64_t value = 0;

	for (uint32_t i = width; i > 0; i--)
		value = value << 8 | from[i - 1];
	return value;
}

static void set(void *base, const struct gmemi_wire_field *field, uint64_t value)
{
	uint32_t narrow = (uint32_t)value;

	memcpy((char *)base + field->offset, field->width == 8 ? (void *)&value : (void *)&narrow, field->width);
}

static uint64_t in_bounds(const struct gmemi_wire_field *field)
{
	uint64_t most = field->width == 4 && field->most > UINT32_MAX ? UINT32_MAX : field->most, room = most - field->least;

	if (field->fd)
		return next_random() % 2;
	return room == UINT64_MAX ? next_random() : field->least + next_random() % (room + 1);
}

static void fill(const struct gmemi_wire_layout *layout, void *base)
{
	for (uint32_t i = 0; i < layout->count; i++)
		set(base, &layout->fields[i], in_bounds(&layout->fields[i]));
}

struct made {
	struct gmemi_wire wire;
	uint64_t items[ITEMS * 16]; /* structs of at most 128 bytes */
	size_t length;
};

static const char text[] = "a text of the kind that is sent";

/* A message of this type with anything in it, encoded into `bytes`. */
static void make(struct made *made, uint16_t type)
{
	const struct gmemi_wire_type_row *row = gmemi_wire_row(type);

	memset(made, 0, sizeof(*made));
	made->wire = (struct gmemi_wire){ .type = type, .fds = 2, .flags = GMEMI_WIRE_ESSENTIAL, .number = next_random() };
	fill(&row->fixed, &made->wire.hello);
	for (uint32_t i = 0; i < ITEMS && row->item.count; i++)
		fill(&row->item, (char *)made->items + i * row->item_struct);
	made->wire.items = made->items;
	made->wire.item_count = row->item.count ? ITEMS : 0;
	made->wire.text = text;
	made->wire.text_length = sizeof(text) - 1;
	made->length = gmemi_wire_encode(&made->wire, bytes, ROOM);
	assert_int_equal(made->length, gmemi_wire_size(&made->wire));
}

static void assert_same_fields(const struct gmemi_wire_layout *layout, const void *one, const void *other)
{
	for (uint32_t i = 0; i < layout->count; i++)
		assert_memory_equal((const char *)one + layout->fields[i].offset,
				    (const char *)other + layout->fields[i].offset, layout->fields[i].width);
}

static void assert_decodes(const struct made *made, const unsigned char *from, size_t length)
{
	const struct gmemi_wire_type_row *row = gmemi_wire_row(made->wire.type);
	struct gmemi_wire wire;
	uint64_t item[16];
	size_t said;

	assert_int_equal(gmemi_wire_length(from, length, &said), 1);
	assert_int_equal(said, length);
	if (gmemi_wire_decode(from, length, &wire) != 1)
		fail_msg("%s", gmem_last_error());
	assert_int_equal(wire.type, made->wire.type);
	assert_int_equal(wire.fds, made->wire.fds);
	assert_int_equal(wire.flags, made->wire.flags);
	assert_int_equal(wire.number, made->wire.number);
	assert_same_fields(&row->fixed, &wire.hello, &made->wire.hello);
	assert_int_equal(wire.item_count, made->wire.item_count);
	for (uint32_t i = 0; i < wire.item_count; i++) {
		assert_int_equal(gmemi_wire_item(&wire, i, item), 0);
		assert_same_fields(&row->item, item, (const char *)made->items + i * row->item_struct);
	}
	assert_int_equal(wire.text_length, sizeof(text) - 1);
	assert_memory_equal(wire.text, text, sizeof(text) - 1);
}

#define EACH_TYPE(type) (uint16_t type = 1; type < GMEMI_WIRE_TYPES; type++)

static void what_is_written_is_read(void **state)
{
	struct made made;

	(void)state;
	sow();
	for (int round = 0; round < 100; round++)
		for
			EACH_TYPE(type)
			{
				make(&made, type);
				assert_decodes(&made, bytes, made.length);
			}
}

/* The same bytes on every machine: this is what the specification says. */
static void the_bytes_themselves(void **state)
{
	static const unsigned char expected[] = {
		'G', 'M', 'E', 'M', 42, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, /* header */
		24,  0,   0,   0,   0,  0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0,                         /* prefix */
		1,   0,   0,   0,   3,  0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 'v', 'm',
	};
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO, .number = 1, .text = "vm", .text_length = 2 };

	(void)state;
	wire.hello = (struct gmemi_wire_hello){
		.version_least = 1, .version_most = 3, .role = GMEMI_WIRE_OWNER, .capabilities = UINT64_C(0x0102030405060708)
	};
	assert_int_equal(gmemi_wire_encode(&wire, bytes, ROOM), sizeof(expected));
	assert_memory_equal(bytes, expected, sizeof(expected));
	assert_int_equal(gmemi_wire_encode(&wire, bytes, sizeof(expected) - 1), 0);
}

static void a_part_of_a_message_is_none(void **state)
{
	struct made made;
	size_t length;

	(void)state;
	sow();
	for
		EACH_TYPE(type)
		{
			make(&made, type);
			for (size_t have = 0; have < made.length; have++) {
				int r = gmemi_wire_length(bytes, have, &length);

				assert_int_equal(r, have >= GMEMI_WIRE_HEADER);
				if (r == 1)
					assert_int_equal(length, made.length);
			}
		}
}

/* Cut short, with a header that says so: from its own memory, so that a reader beyond the end is seen. */
static void a_message_that_was_cut_is_refused(void **state)
{
	struct made made;

	(void)state;
	sow();
	for
		EACH_TYPE(type)
		{
			make(&made, type);
			for (size_t length = GMEMI_WIRE_HEADER; length < made.length; length++) {
				unsigned char *cut = malloc(length);
				struct gmemi_wire wire;
				size_t said;

				memcpy(cut, bytes, length);
				put(cut + 4, 4, length - GMEMI_WIRE_HEADER);
				if (length < FIXED)
					assert_int_equal(gmemi_wire_length(cut, length, &said), -EPROTO);
				else
					assert_int_equal(gmemi_wire_decode(cut, length, &wire), -EPROTO);
				free(cut);
			}
		}
}

/* Puts `count` bytes in at `at`, and says so in the body's length. */
static size_t insert(size_t length, size_t at, size_t count)
{
	memmove(bytes + at + count, bytes + at, length - at);
	memset(bytes + at, 0xee, count);
	put(bytes + 4, 4, length + count - GMEMI_WIRE_HEADER);
	return length + count;
}

static void what_later_versions_add_is_passed_over(void **state)
{
	struct made made;

	(void)state;
	sow();
	for
		EACH_TYPE(type)
		{
			const struct gmemi_wire_type_row *row = gmemi_wire_row(type);

			for (uint32_t more = 1; more <= 40; more++) {
				size_t length, item = width_of(&row->item);

				make(&made, type);
				length = insert(made.length, made.length, more); /* behind everything */
				put(bytes + 24, 4, width_of(&row->fixed) + more);
				length = insert(length, FIXED + width_of(&row->fixed), more); /* behind the fixed part */
				put(bytes + 28, 4, item + more);
				for (uint32_t i = 0; i < made.wire.item_count; i++) /* behind each item */
					length = insert(length, FIXED + width_of(&row->fixed) + more + i * (item + more) + item,
							more);
				assert_decodes(&made, bytes, length);
			}
		}
}

static void unknown_messages(void **state)
{
	struct gmemi_wire wire;
	struct made made;

	(void)state;
	sow();
	make(&made, GMEMI_WIRE_FAULT);
	for (uint32_t type = GMEMI_WIRE_TYPES; type <= UINT16_MAX; type += 97) {
		put(bytes + 8, 2, type);
		put(bytes + 12, 4, 2);
		assert_int_equal(gmemi_wire_decode(bytes, made.length, &wire), 0);
		assert_int_equal(wire.type, type);
		assert_int_equal(wire.fds, 2);
		put(bytes + 12, 4, 3);
		assert_int_equal(gmemi_wire_decode(bytes, made.length, &wire), -EPROTO);
	}
	put(bytes + 8, 2, 0);
	put(bytes + 12, 4, 0);
	assert_int_equal(gmemi_wire_decode(bytes, made.length, &wire), 0);
}

/* --- bounds ------------------------------------------------------------------------------------------------------------- */

/* The message with another value in a field: 1, or -EPROTO with the field's name. */
static int with(const struct made *made, size_t at, const struct gmemi_wire_field *field, uint64_t value, bool item)
{
	uint64_t before = get(bytes + at, field->width), out[16];
	struct gmemi_wire wire;
	int r;

	put(bytes + at, field->width, value);
	gmemi_enter("test_call");
	r = gmemi_wire_decode(bytes, made->length, &wire);
	if (item && r == 1)
		r = gmemi_wire_item(&wire, 0, out) < 0 ? -EPROTO : 1;
	if (r < 0 && !field->fd)
		assert_non_null(strstr(gmem_last_error(), field->name));
	put(bytes + at, field->width, before);
	return r;
}

static void check_bounds(const struct made *made, const struct gmemi_wire_layout *layout, size_t at, bool item)
{
	for (uint32_t i = 0; i < layout->count; at += layout->fields[i++].width) {
		const struct gmemi_wire_field *field = &layout->fields[i];
		uint64_t top = field->width == 4 ? UINT32_MAX : UINT64_MAX, most = field->most < top ? field->most : top;

		if (field->fd)
			most = made->wire.fds - 1u;
		assert_int_equal(with(made, at, field, field->least, item), 1);
		assert_int_equal(with(made, at, field, most, item), 1);
		if (field->least)
			assert_int_equal(with(made, at, field, field->least - 1, item), -EPROTO);
		if (most < top)
			assert_int_equal(with(made, at, field, most + 1, item), -EPROTO);
		if (most < top)
			assert_int_equal(with(made, at, field, top, item), field->or_none ? 1 : -EPROTO);
	}
}

static void every_member_keeps_its_bounds(void **state)
{
	struct made made;

	(void)state;
	sow();
	for
		EACH_TYPE(type)
		{
			const struct gmemi_wire_type_row *row = gmemi_wire_row(type);

			make(&made, type);
			check_bounds(&made, &row->fixed, FIXED, false);
			if (made.wire.item_count)
				check_bounds(&made, &row->item, FIXED + width_of(&row->fixed), true);
		}
}

static int decode_with(const struct made *made, size_t at, uint32_t width, uint64_t value)
{
	uint64_t before = get(bytes + at, width);
	struct gmemi_wire wire;
	size_t length;
	int r;

	put(bytes + at, width, value);
	r = gmemi_wire_length(bytes, made->length, &length);
	if (r == 1 && length == made->length)
		r = gmemi_wire_decode(bytes, made->length, &wire);
	put(bytes + at, width, before);
	return r;
}

static void sizes_keep_their_bounds(void **state)
{
	struct made made;

	(void)state;
	sow();
	make(&made, GMEMI_WIRE_REGIONS);
	assert_int_equal(decode_with(&made, 0, 4, 0x4d454d48), -EPROTO);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(decode_with(&made, i, 1, 0), -EPROTO);
	assert_int_equal(decode_with(&made, 4, 4, GMEMI_WIRE_PREFIX - 1), -EPROTO);
	assert_int_equal(decode_with(&made, 4, 4, GMEMI_WIRE_PREFIX), 1); /* the length of another message */
	assert_int_equal(decode_with(&made, 4, 4, GMEMI_WIRE_BODY), 1);
	assert_int_equal(decode_with(&made, 4, 4, GMEMI_WIRE_BODY + 1), -EPROTO);
	assert_int_equal(decode_with(&made, 4, 4, UINT32_MAX), -EPROTO);
	assert_int_equal(decode_with(&made, 10, 2, GMEMI_WIRE_FDS), 1);
	assert_int_equal(decode_with(&made, 10, 2, GMEMI_WIRE_FDS + 1), -EPROTO);
	for (uint32_t part = 0; part < 4; part++) {
		assert_int_equal(decode_with(&made, 24 + 4 * part, 4, UINT32_MAX), -EPROTO);
		assert_int_equal(decode_with(&made, 24 + 4 * part, 4, UINT32_MAX / 2 + 1), -EPROTO);
		assert_int_equal(decode_with(&made, 24 + 4 * part, 4, get(bytes + 24 + 4 * part, 4) + 1), -EPROTO);
	}
	assert_int_equal(decode_with(&made, 28, 4, 63), -EPROTO);
	assert_int_equal(decode_with(&made, made.length - 1, 1, '\n'), -EPROTO);
	assert_int_equal(decode_with(&made, made.length - 1, 1, 0x7f), -EPROTO);
	assert_int_equal(decode_with(&made, made.length - 1, 1, 0x80), -EPROTO);
	assert_int_equal(decode_with(&made, made.length - 1, 1, '~'), 1);
}

static void what_is_too_much_is_cut(void **state)
{
	static struct gmemi_wire_region many[2000];
	struct gmemi_wire wire = { .type = GMEMI_WIRE_REGIONS, .items = many, .item_count = 2000 }, read;
	uint32_t most = gmemi_wire_items_per_message(GMEMI_WIRE_REGIONS);
	char sentence[GMEMI_WIRE_TEXT + 2];
	size_t length;

	(void)state;
	memset(sentence, 'x', sizeof(sentence));
	sentence[3] = '\n';
	wire.text = sentence;
	wire.text_length = sizeof(sentence);
	length = gmemi_wire_encode(&wire, bytes, ROOM);
	assert_in_range(length, 1, ROOM);
	assert_int_equal(gmemi_wire_decode(bytes, length, &read), 1);
	assert_int_equal(read.item_count, most);
	assert_in_range(most, 500, 2000);
	assert_int_equal(read.text_length, GMEMI_WIRE_TEXT);
	assert_memory_equal(read.text, "xxx?xxx", 7);
	assert_int_equal(gmemi_wire_items_per_message(GMEMI_WIRE_HELLO), 0);
}

static const struct gt_test tests[] = {
	GT(what_is_written_is_read, GT_NEEDS_NOTHING),
	GT(the_bytes_themselves, GT_NEEDS_NOTHING),
	GT(a_part_of_a_message_is_none, GT_NEEDS_NOTHING),
	GT(a_message_that_was_cut_is_refused, GT_NEEDS_NOTHING),
	GT(what_later_versions_add_is_passed_over, GT_NEEDS_NOTHING),
	GT(unknown_messages, GT_NEEDS_NOTHING),
	GT(every_member_keeps_its_bounds, GT_NEEDS_NOTHING),
	GT(sizes_keep_their_bounds, GT_NEEDS_NOTHING),
	GT(what_is_too_much_is_cut, GT_NEEDS_NOTHING),
};

GT_MAIN("wire", tests)
