/* SPDX-License-Identifier: MIT */
/* Every message has the same parts: header, prefix (how long the next three are), fixed part, items, text, and whatever a
 * later version put behind. What is in the fixed part and the items is in tables. */
#include "wire.h"

#include <string.h>

#include "err.h"
#include "wire_table.h"

/* --- bytes -------------------------------------------------------------------------------------------------------------- */

static uint64_t load(const unsigned char *from, uint32_t width)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < width; i++)
		value |= (uint64_t)from[i] << 8 * i;
	return value;
}

static void store(unsigned char *to, uint32_t width, uint64_t value)
{
	for (uint32_t i = 0; i < width; i++)
		to[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t field_of(const void *base, const struct gmemi_wire_field *field)
{
	uint64_t wide;
	uint32_t narrow;

	if (field->width == 8) {
		memcpy(&wide, (const unsigned char *)base + field->offset, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, (const unsigned char *)base + field->offset, sizeof(narrow));
	return narrow;
}

static void set_field(void *base, const struct gmemi_wire_field *field, uint64_t value)
{
	uint32_t narrow = (uint32_t)value;

	if (field->width == 8)
		memcpy((unsigned char *)base + field->offset, &value, sizeof(value));
	else
		memcpy((unsigned char *)base + field->offset, &narrow, sizeof(narrow));
}

static uint32_t width_of(const struct gmemi_wire_layout *layout)
{
	uint32_t width = 0;

	for (uint32_t i = 0; i < layout->count; i++)
		width += layout->fields[i].width;
	return width;
}

static bool in_bounds(const struct gmemi_wire_field *field, uint64_t value)
{
	return (value >= field->least && value <= field->most) || (field->or_none && value == GMEMI_WIRE_NONE);
}

static int take_fields(const struct gmemi_wire_layout *layout, const unsigned char *from, void *to)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct gmemi_wire_field *field = &layout->fields[i];
		uint64_t value = load(from, field->width);

		if (!in_bounds(field, value))
			return gmemi_refuse(-EPROTO, "%s has %s %llu", layout->name, field->name, (unsigned long long)value);
		set_field(to, field, value);
		from += field->width;
	}
	return 0;
}

static unsigned char *put_fields(const struct gmemi_wire_layout *layout, const void *from, unsigned char *to)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		store(to, layout->fields[i].width, field_of(from, &layout->fields[i]));
		to += layout->fields[i].width;
	}
	return to;
}

/* --- decoding ----------------------------------------------------------------------------------------------------------- */

struct parts {
	uint32_t fixed, item_size, item_count, text;
};

static int check_magic(const unsigned char *bytes, size_t have)
{
	unsigned char magic[4];

	store(magic, sizeof(magic), GMEMI_WIRE_MAGIC);
	if (memcmp(bytes, magic, have < sizeof(magic) ? have : sizeof(magic)) != 0)
		return gmemi_refuse(-EPROTO, "what comes is no message of this protocol");
	return 0;
}

int gmemi_wire_length(const unsigned char *bytes, size_t have, size_t *length)
{
	uint64_t body;
	int r = check_magic(bytes, have);

	if (r < 0 || have < GMEMI_WIRE_HEADER)
		return r;
	body = load(bytes + 4, 4);
	if (body < GMEMI_WIRE_PREFIX || body > GMEMI_WIRE_BODY)
		return gmemi_refuse(-EPROTO, "a message has a body of %llu bytes", (unsigned long long)body);
	if (load(bytes + 10, 2) > GMEMI_WIRE_FDS)
		return gmemi_refuse(-EPROTO, "a message names %u fds", (unsigned int)load(bytes + 10, 2));
	*length = GMEMI_WIRE_HEADER + (size_t)body;
	return 1;
}

/* The sum cannot wrap: each part has been looked at before. */
static int check_parts(const struct gmemi_wire_type_row *row, const struct parts *parts, uint64_t body)
{
	uint64_t sum;

	if (parts->fixed < width_of(&row->fixed) || parts->fixed > body)
		return gmemi_refuse(-EPROTO, "%s has a fixed part of %u bytes", row->fixed.name, parts->fixed);
	if (parts->item_count > body || parts->item_size > GMEMI_WIRE_ITEM ||
	    (row->item.count && parts->item_count && parts->item_size < width_of(&row->item)))
		return gmemi_refuse(-EPROTO, "%s has %u items of %u bytes", row->fixed.name, parts->item_count,
				    parts->item_size);
	if (parts->text > GMEMI_WIRE_TEXT)
		return gmemi_refuse(-EPROTO, "%s has a text of %u bytes", row->fixed.name, parts->text);
	sum = UINT64_C(0) + GMEMI_WIRE_PREFIX + parts->fixed + (uint64_t)parts->item_size * parts->item_count + parts->text;
	return sum <= body ? 0 : gmemi_refuse(-EPROTO, "%s is longer than its message", row->fixed.name);
}

static bool printable(char c)
{
	return c >= 0x20 && c <= 0x7e;
}

static int check_text(const struct gmemi_wire_type_row *row, const struct gmemi_wire *wire)
{
	for (uint32_t i = 0; i < wire->text_length; i++)
		if (!printable(wire->text[i]))
			return gmemi_refuse(-EPROTO, "%s has a text that is not to be printed", row->fixed.name);
	return 0;
}

/* fds are named by their place among those of the message. */
static int check_fds(const struct gmemi_wire_type_row *row, const struct gmemi_wire *wire)
{
	for (uint32_t i = 0; i < row->fixed.count; i++) {
		uint64_t value = row->fixed.fields[i].fd ? field_of(&wire->hello, &row->fixed.fields[i]) : GMEMI_WIRE_NONE;

		if (value != GMEMI_WIRE_NONE && value >= wire->fds)
			return gmemi_refuse(-EPROTO, "%s names fd %llu of %u", row->fixed.name, (unsigned long long)value,
					    wire->fds);
	}
	return 0;
}

static int decode_body(const struct gmemi_wire_type_row *row, const unsigned char *body, size_t length, struct gmemi_wire *wire)
{
	struct parts parts = { .fixed = (uint32_t)load(body, 4),
			       .item_size = (uint32_t)load(body + 4, 4),
			       .item_count = (uint32_t)load(body + 8, 4),
			       .text = (uint32_t)load(body + 12, 4) };
	int r = check_parts(row, &parts, length);

	if (r == 0)
		r = take_fields(&row->fixed, body + GMEMI_WIRE_PREFIX, &wire->hello);
	if (r < 0)
		return r;
	body += GMEMI_WIRE_PREFIX + parts.fixed;
	wire->items = body;
	wire->item_count = row->item.count ? parts.item_count : 0;
	wire->item_size = parts.item_size;
	wire->text = (const char *)body + (size_t)parts.item_size * parts.item_count;
	wire->text_length = parts.text;
	r = check_text(row, wire);
	return r < 0 ? r : check_fds(row, wire);
}

int gmemi_wire_decode(const unsigned char *bytes, size_t length, struct gmemi_wire *wire)
{
	const struct gmemi_wire_type_row *row;
	int r;

	memset(wire, 0, sizeof(*wire));
	wire->type = (uint16_t)load(bytes + 8, 2);
	wire->fds = (uint16_t)load(bytes + 10, 2);
	wire->flags = (uint32_t)load(bytes + 12, 4);
	wire->number = load(bytes + 16, 8);
	row = gmemi_wire_row(wire->type);
	if (!row && wire->flags & GMEMI_WIRE_ESSENTIAL)
		return gmemi_refuse(-EPROTO, "a message of type %u, which has to be understood, is not known", wire->type);
	if (!row)
		return 0;
	r = decode_body(row, bytes + GMEMI_WIRE_HEADER, length - GMEMI_WIRE_HEADER, wire);
	return r < 0 ? r : 1;
}

int gmemi_wire_item(const struct gmemi_wire *wire, uint32_t index, void *item)
{
	const struct gmemi_wire_type_row *row = gmemi_wire_row(wire->type);

	return take_fields(&row->item, (const unsigned char *)wire->items + (size_t)index * wire->item_size, item);
}

/* --- encoding ----------------------------------------------------------------------------------------------------------- */

static struct parts parts_of(const struct gmemi_wire_type_row *row, const struct gmemi_wire *wire)
{
	struct parts parts = { .fixed = width_of(&row->fixed), .item_size = width_of(&row->item) };
	uint32_t most = gmemi_wire_items_per_message((enum gmemi_wire_type)wire->type);

	parts.item_count = wire->item_count < most ? wire->item_count : most;
	parts.text = wire->text_length < GMEMI_WIRE_TEXT ? wire->text_length : GMEMI_WIRE_TEXT;
	return parts;
}

uint32_t gmemi_wire_items_per_message(enum gmemi_wire_type type)
{
	const struct gmemi_wire_type_row *row = gmemi_wire_row(type);
	uint32_t item = width_of(&row->item);

	return item ? (GMEMI_WIRE_BODY - GMEMI_WIRE_PREFIX - width_of(&row->fixed) - GMEMI_WIRE_TEXT) / item : 0;
}

size_t gmemi_wire_size(const struct gmemi_wire *wire)
{
	struct parts parts = parts_of(gmemi_wire_row(wire->type), wire);

	return GMEMI_WIRE_HEADER + GMEMI_WIRE_PREFIX + parts.fixed + (size_t)parts.item_size * parts.item_count + parts.text;
}

static unsigned char *put_head(const struct gmemi_wire *wire, const struct parts *parts, size_t size, unsigned char *to)
{
	store(to, 4, GMEMI_WIRE_MAGIC);
	store(to + 4, 4, size - GMEMI_WIRE_HEADER);
	store(to + 8, 2, wire->type);
	store(to + 10, 2, wire->fds);
	store(to + 12, 4, wire->flags);
	store(to + 16, 8, wire->number);
	store(to + 24, 4, parts->fixed);
	store(to + 28, 4, parts->item_size);
	store(to + 32, 4, parts->item_count);
	store(to + 36, 4, parts->text);
	return to + GMEMI_WIRE_HEADER + GMEMI_WIRE_PREFIX;
}

size_t gmemi_wire_encode(const struct gmemi_wire *wire, unsigned char *bytes, size_t room)
{
	const struct gmemi_wire_type_row *row = gmemi_wire_row(wire->type);
	struct parts parts = parts_of(row, wire);
	const unsigned char *item = wire->items;
	size_t size = gmemi_wire_size(wire);
	unsigned char *to = bytes;

	if (size > room)
		return 0;
	to = put_head(wire, &parts, size, to);
	to = put_fields(&row->fixed, &wire->hello, to);
	for (uint32_t i = 0; i < parts.item_count; i++, item += row->item_struct)
		to = put_fields(&row->item, item, to);
	for (uint32_t i = 0; i < parts.text; i++)
		*to++ = (unsigned char)(printable(wire->text[i]) ? wire->text[i] : '?');
	return size;
}
