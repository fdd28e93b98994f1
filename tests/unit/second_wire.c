/* SPDX-License-Identifier: MIT */
#include "second_wire.h"

#include <stdbool.h>
#include <string.h>

#define MAGIC 0x4d454d47u
#define PREFIX 16u
#define MOST_ITEM_SIZE 4096u
#define LATER_BYTE 0xe5

/* A digit a member: its bytes. */
static const struct {
	const char *part, *item;
} layouts[NOTE_TYPES] = {
	[NOTE_HELLO] = { "44448", "" },
	[NOTE_ENDPOINT] = { "444488", "" },
	[NOTE_MEMORY] = { "444488", "" },
	[NOTE_REGIONS] = { "44", "4444888888" },
	[NOTE_READY] = { "44", "" },
	[NOTE_REMOVE] = { "44", "4488" },
	[NOTE_HEARTBEAT] = { "8", "" },
	[NOTE_FAULT] = { "448888844", "" },
	[NOTE_FAULT_DONE] = { "88844", "" },
	[NOTE_ASK_STATISTICS] = { "44", "" },
	[NOTE_STATISTICS] = { "44", "448" },
	[NOTE_DETACH] = { "44", "" },
	[NOTE_RELEASE] = { "448", "" },
	[NOTE_ERROR] = { "448", "" },
};

static bool is_known(unsigned int type)
{
	return type >= NOTE_HELLO && type < NOTE_TYPES;
}

static uint32_t size_of(const char *layout)
{
	uint32_t size = 0;

	for (; *layout; layout++)
		size += (uint32_t)(*layout - '0');
	return size;
}

uint32_t note_part_size(unsigned int type)
{
	return is_known(type) ? size_of(layouts[type].part) : 0;
}

uint32_t note_item_size(unsigned int type)
{
	return is_known(type) ? size_of(layouts[type].item) : 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static uint64_t get(const unsigned char *bytes, unsigned int size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | bytes[size];
	return value;
}

static void get_all(const unsigned char *bytes, const char *layout, uint64_t *values)
{
	for (; *layout; layout++) {
		*values++ = get(bytes, (unsigned int)(*layout - '0'));
		bytes += *layout - '0';
	}
}

struct sizes {
	uint64_t part, item, items, text;
};

static struct sizes get_sizes(const unsigned char *body)
{
	return (struct sizes){ get(body, 4), get(body + 4, 4), get(body + 8, 4), get(body + 12, 4) };
}

static bool sizes_hold(const struct sizes *sizes, unsigned int type, uint64_t body)
{
	uint32_t item = note_item_size(type);

	if (sizes->item > MOST_ITEM_SIZE || sizes->text > NOTE_TEXT || sizes->part < note_part_size(type))
		return false;
	if (item && sizes->items && sizes->item < item)
		return false;
	return PREFIX + sizes->part + sizes->item * sizes->items + sizes->text <= body;
}

static bool get_text(const unsigned char *bytes, uint64_t length, char *text)
{
	memcpy(text, bytes, length);
	text[length] = '\0';
	for (uint64_t i = 0; i < length; i++)
		if (bytes[i] < 0x20 || bytes[i] > 0x7e)
			return false;
	return true;
}

static enum note_kind get_body(const unsigned char *body, uint64_t length, struct note *note)
{
	struct sizes sizes = get_sizes(body);
	const unsigned char *items = body + PREFIX + sizes.part;

	if (!sizes_hold(&sizes, note->type, length))
		return NOTE_BROKEN;
	get_all(body + PREFIX, layouts[note->type].part, note->part);
	if (note_item_size(note->type)) {
		if (sizes.items > NOTE_ITEMS)
			return NOTE_BROKEN;
		note->items = (uint32_t)sizes.items;
		for (uint64_t i = 0; i < sizes.items; i++)
			get_all(items + i * sizes.item, layouts[note->type].item, note->item[i]);
	}
	return get_text(items + sizes.item * sizes.items, sizes.text, note->text) ? NOTE_KNOWN : NOTE_BROKEN;
}

enum note_kind note_read(const unsigned char *bytes, size_t have, struct note *note, size_t *length)
{
	uint64_t body;

	if (have < NOTE_HEADER)
		return NOTE_SHORT;
	memset(note, 0, sizeof(*note));
	body = get(bytes + 4, 4);
	note->type = (uint16_t)get(bytes + 8, 2);
	note->fds = (uint16_t)get(bytes + 10, 2);
	note->flags = (uint32_t)get(bytes + 12, 4);
	note->number = get(bytes + 16, 8);
	if (get(bytes, 4) != MAGIC || body < PREFIX || body > NOTE_BODY || note->fds > NOTE_FDS)
		return NOTE_BROKEN;
	if (have < NOTE_HEADER + body)
		return NOTE_SHORT;
	*length = NOTE_HEADER + body;
	if (is_known(note->type))
		return get_body(bytes + NOTE_HEADER, body, note);
	return note->flags & NOTE_ESSENTIAL ? NOTE_BROKEN : NOTE_LATER;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

static unsigned char *put(unsigned char *to, uint64_t value, unsigned int size)
{
	for (; size--; value >>= 8)
		*to++ = (unsigned char)value;
	return to;
}

static unsigned char *put_all(unsigned char *to, const char *layout, const uint64_t *values, uint32_t later)
{
	for (; *layout; layout++)
		to = put(to, *values++, (unsigned int)(*layout - '0'));
	memset(to, LATER_BYTE, later);
	return to + later;
}

static unsigned char *put_body(unsigned char *to, const struct note *note)
{
	const char *part = layouts[note->type].part, *item = layouts[note->type].item;
	size_t text = strlen(note->text);

	to = put(to, size_of(part) + note->later_part, 4);
	to = put(to, note->items ? size_of(item) + note->later_item : 0, 4);
	to = put(to, note->items, 4);
	to = put(to, text, 4);
	to = put_all(to, part, note->part, note->later_part);
	for (uint32_t i = 0; i < note->items; i++)
		to = put_all(to, item, note->item[i], note->later_item);
	memcpy(to, note->text, text);
	return to + text;
}

size_t note_write(const struct note *note, unsigned char *bytes)
{
	unsigned char *end = bytes + NOTE_HEADER, *to;

	if (is_known(note->type))
		end = put_body(end, note);
	memset(end, LATER_BYTE, note->later_body);
	end += note->later_body;
	to = put(bytes, MAGIC, 4);
	to = put(to, (uint64_t)(end - bytes) - NOTE_HEADER, 4);
	to = put(to, note->type, 2);
	to = put(to, note->fds, 2);
	to = put(to, note->flags, 4);
	put(to, note->number, 8);
	return (size_t)(end - bytes);
}
