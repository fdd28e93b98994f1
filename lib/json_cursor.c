/* SPDX-License-Identifier: MIT */
/* The cursor: text here has been passed by the scanner, so every value ends, and before the text does. */
#include "json.h"

#include <string.h>

#include "err.h"

#define LONGEST_NAME 32 /* of a member that somebody knows */

static void skip_space(struct gmemi_json_cursor *cursor)
{
	while (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n' || *cursor->at == '\r')
		cursor->at++;
}

enum gmemi_json_kind gmemi_json_kind(struct gmemi_json_cursor *cursor)
{
	skip_space(cursor);
	switch (*cursor->at) {
	case '[':
		return GMEMI_JSON_ARRAY;
	case '{':
		return GMEMI_JSON_OBJECT;
	case '"':
		return GMEMI_JSON_STRING;
	case 't':
	case 'f':
		return GMEMI_JSON_BOOL;
	case 'n':
		return GMEMI_JSON_NULL;
	default:
		return GMEMI_JSON_NUMBER;
	}
}

void gmemi_json_enter(struct gmemi_json_cursor *cursor)
{
	skip_space(cursor);
	cursor->at++;
}

bool gmemi_json_more(struct gmemi_json_cursor *cursor)
{
	skip_space(cursor);
	if (*cursor->at == ',')
		cursor->at++;
	skip_space(cursor);
	if (*cursor->at != ']' && *cursor->at != '}')
		return true;
	cursor->at++;
	return false;
}

/* --- strings ------------------------------------------------------------------------------------------------------------ */

struct decoded {
	char *text;
	size_t room, length;
};

static void put(struct decoded *to, uint32_t byte)
{
	if (to->length < to->room)
		to->text[to->length] = (char)byte;
	to->length++;
}

static void put_character(struct decoded *to, uint32_t c)
{
	if (c < 0x80) {
		put(to, c);
		return;
	}
	if (c < 0x800) {
		put(to, 0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			put(to, 0xe0 | c >> 12);
		} else {
			put(to, 0xf0 | c >> 18);
			put(to, 0x80 | (c >> 12 & 0x3f));
		}
		put(to, 0x80 | (c >> 6 & 0x3f));
	}
	put(to, 0x80 | (c & 0x3f));
}

static uint32_t take_unit(struct gmemi_json_cursor *cursor)
{
	uint32_t unit = 0;

	for (int i = 0; i < 4; i++) {
		uint32_t c = (unsigned char)*cursor->at++;

		unit = unit << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return unit;
}

static void take_escape(struct gmemi_json_cursor *cursor, struct decoded *to)
{
	static const char names[] = "bfnrt", meant[] = "\b\f\n\r\t";
	char c = *cursor->at++;
	const char *name = memchr(names, c, sizeof(names) - 1);
	uint32_t unit;

	if (c != 'u') {
		put(to, (unsigned char)(name ? meant[name - names] : c));
		return;
	}
	unit = take_unit(cursor);
	if (unit >= 0xd800 && unit <= 0xdbff) {
		cursor->at += 2; /* \u */
		unit = 0x10000 + ((unit - 0xd800) << 10) + (take_unit(cursor) - 0xdc00);
	}
	put_character(to, unit);
}

size_t gmemi_json_string(struct gmemi_json_cursor *cursor, char *text, size_t room)
{
	struct decoded to = { .text = text, .room = room };

	skip_space(cursor);
	cursor->at++;
	while (*cursor->at != '"') {
		char c = *cursor->at++;

		if (c == '\\')
			take_escape(cursor, &to);
		else
			put(&to, (unsigned char)c);
	}
	cursor->at++;
	return to.length;
}

/* --- numbers and words -------------------------------------------------------------------------------------------------- */

static bool in_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '+' || c == '-' || c == '.';
}

static void skip_word(struct gmemi_json_cursor *cursor)
{
	while (in_word(*cursor->at))
		cursor->at++;
}

bool gmemi_json_u64(struct gmemi_json_cursor *cursor, uint64_t *value)
{
	uint64_t number = 0;
	bool fits = true;

	skip_space(cursor);
	for (; *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
		uint64_t digit = (uint64_t)(*cursor->at - '0');

		fits = fits && number <= (UINT64_MAX - digit) / 10;
		number = number * 10 + digit;
	}
	if (in_word(*cursor->at)) {
		skip_word(cursor);
		return false;
	}
	*value = number;
	return fits;
}

bool gmemi_json_bool(struct gmemi_json_cursor *cursor)
{
	bool value;

	skip_space(cursor);
	value = *cursor->at == 't';
	skip_word(cursor);
	return value;
}

static void skip_one(struct gmemi_json_cursor *cursor)
{
	if (gmemi_json_kind(cursor) == GMEMI_JSON_STRING)
		gmemi_json_string(cursor, NULL, 0);
	else
		skip_word(cursor);
}

void gmemi_json_skip(struct gmemi_json_cursor *cursor)
{
	uint32_t depth = 0;

	do {
		skip_space(cursor);
		if (*cursor->at == '[' || *cursor->at == '{') {
			depth++;
			cursor->at++;
		} else if (*cursor->at == ']' || *cursor->at == '}') {
			depth--;
			cursor->at++;
		} else if (*cursor->at == ',' || *cursor->at == ':') {
			cursor->at++;
		} else {
			skip_one(cursor);
		}
	} while (depth);
}

/* --- objects ------------------------------------------------------------------------------------------------------------ */

static uint32_t find(const struct gmemi_json_member *members, uint32_t count, const char *name, size_t length)
{
	uint32_t i = 0;

	while (i < count && (strnlen(members[i].name, LONGEST_NAME) != length || memcmp(members[i].name, name, length) != 0))
		i++;
	return i;
}

static int take_value(struct gmemi_json_cursor *cursor, const struct gmemi_json_member *member, uint64_t *value)
{
	if (gmemi_json_kind(cursor) != member->kind)
		return gmemi_refuse(-EPROTO, "\"%s\" is no %s", member->name,
				    member->kind == GMEMI_JSON_NUMBER ? "number" : "truth value");
	if (member->kind == GMEMI_JSON_BOOL)
		*value = gmemi_json_bool(cursor);
	else if (!gmemi_json_u64(cursor, value))
		return gmemi_refuse(-EPROTO, "\"%s\" is no integer from 0 to 2^64 - 1", member->name);
	return 0;
}

int gmemi_json_members(struct gmemi_json_cursor *cursor, const struct gmemi_json_member *members, uint32_t count,
		       uint64_t *values, uint32_t *seen)
{
	*seen = 0;
	gmemi_json_enter(cursor);
	while (gmemi_json_more(cursor)) {
		char name[LONGEST_NAME];
		size_t length = gmemi_json_string(cursor, name, sizeof(name));
		uint32_t i = length <= sizeof(name) ? find(members, count, name, length) : count;
		int r;

		skip_space(cursor);
		cursor->at++; /* : */
		if (i == count) {
			gmemi_json_skip(cursor);
			continue;
		}
		if (*seen >> i & 1)
			return gmemi_refuse(-EPROTO, "\"%s\" comes twice", members[i].name);
		r = take_value(cursor, &members[i], &values[i]);
		if (r < 0)
			return r;
		*seen |= UINT32_C(1) << i;
	}
	return 0;
}
