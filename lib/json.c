/* SPDX-License-Identifier: MIT */
/* The scanner: one step for each byte. */
#include "json.h"

#include <string.h>

#include "err.h"

enum state {
	BEGIN, /* of the message */
	VALUE,
	VALUE_OR_END, /* behind [ */
	KEY,
	KEY_OR_END, /* behind { */
	COLON,
	AFTER, /* a value inside of something */
	STRING,
	ESCAPE,
	HEX,
	HALF_ESCAPE, /* behind a high surrogate: \ */
	HALF_U,      /* ... then u */
	UTF8,
	WORD,
	MINUS,
	ZERO, /* the first digit */
	DIGITS,
	POINT,
	FRACTION,
	EXPONENT,
	EXPONENT_SIGN,
	EXPONENT_DIGITS
};

static int refuse(const struct gmemi_json *json, const char *what)
{
	return gmemi_refuse(-EPROTO, "the JSON is wrong at byte %llu: %s", (unsigned long long)json->bytes, what);
}

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static void go(struct gmemi_json *json, enum state state)
{
	json->state = (uint8_t)state;
}

/* --- structure ---------------------------------------------------------------------------------------------------------- */

static int open_value(struct gmemi_json *json, unsigned char c)
{
	if (json->depth == GMEMI_JSON_DEPTH)
		return refuse(json, "it is nested too deep");
	json->objects &= ~(UINT32_C(1) << json->depth);
	if (c == '{')
		json->objects |= UINT32_C(1) << json->depth;
	json->depth++;
	go(json, c == '{' ? KEY_OR_END : VALUE_OR_END);
	return 0;
}

static bool in_object(const struct gmemi_json *json)
{
	return json->objects >> (json->depth - 1) & 1;
}

static int close_value(struct gmemi_json *json, unsigned char c)
{
	if (in_object(json) != (c == '}'))
		return refuse(json, "a bracket that closes what is not open");
	json->depth--;
	go(json, AFTER);
	return 0;
}

static void open_string(struct gmemi_json *json, bool key)
{
	json->in_key = key;
	go(json, STRING);
}

static int open_word(struct gmemi_json *json, const char *rest)
{
	json->word = rest;
	go(json, WORD);
	return 0;
}

static int begin(struct gmemi_json *json, unsigned char c)
{
	if (is_space(c))
		return 0;
	return c == '[' || c == '{' ? open_value(json, c) : refuse(json, "neither an array nor an object begins");
}

static int value(struct gmemi_json *json, unsigned char c)
{
	switch (c) {
	case '[':
	case '{':
		return open_value(json, c);
	case '"':
		open_string(json, false);
		return 0;
	case 't':
		return open_word(json, "rue");
	case 'f':
		return open_word(json, "alse");
	case 'n':
		return open_word(json, "ull");
	case '-':
		go(json, MINUS);
		return 0;
	default:
		break;
	}
	if (is_space(c))
		return 0;
	if (!is_digit(c))
		return refuse(json, "no value begins like that");
	go(json, c == '0' ? ZERO : DIGITS);
	return 0;
}

static int value_or_end(struct gmemi_json *json, unsigned char c)
{
	return c == ']' ? close_value(json, c) : value(json, c);
}

static int key(struct gmemi_json *json, unsigned char c)
{
	if (c == '"')
		open_string(json, true);
	else if (!is_space(c))
		return refuse(json, "a key is missing");
	return 0;
}

static int key_or_end(struct gmemi_json *json, unsigned char c)
{
	return c == '}' ? close_value(json, c) : key(json, c);
}

static int colon(struct gmemi_json *json, unsigned char c)
{
	if (c == ':')
		go(json, VALUE);
	else if (!is_space(c))
		return refuse(json, "a colon is missing");
	return 0;
}

static int after(struct gmemi_json *json, unsigned char c)
{
	if (c == ',')
		go(json, in_object(json) ? KEY : VALUE);
	else if (c == ']' || c == '}')
		return close_value(json, c);
	else if (!is_space(c))
		return refuse(json, "neither a comma nor a closing bracket follows");
	return 0;
}

/* --- strings ------------------------------------------------------------------------------------------------------------ */

/* The first byte of a character that takes several: how many more, and what the next one may be so that nothing is written
 * longer than it has to be, is a surrogate, or lies above U+10FFFF. */
static int open_character(struct gmemi_json *json, unsigned char c)
{
	json->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	json->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (c >= 0xc2 && c <= 0xdf)
		json->left = 1;
	else if (c >= 0xe0 && c <= 0xef)
		json->left = 2;
	else if (c >= 0xf0 && c <= 0xf4)
		json->left = 3;
	else
		return refuse(json, "this is no UTF-8");
	go(json, UTF8);
	return 0;
}

static int string(struct gmemi_json *json, unsigned char c)
{
	if (c < 0x20)
		return refuse(json, "a control character in a string");
	if (c >= 0x80)
		return open_character(json, c);
	if (c == '\\')
		go(json, ESCAPE);
	else if (c == '"')
		go(json, json->in_key ? COLON : AFTER);
	return 0;
}

static int character(struct gmemi_json *json, unsigned char c)
{
	if (c < json->low || c > json->high)
		return refuse(json, "this is no UTF-8");
	json->low = 0x80;
	json->high = 0xbf;
	if (--json->left == 0)
		go(json, STRING);
	return 0;
}

static void open_hex(struct gmemi_json *json)
{
	json->left = 4;
	json->unit = 0;
	go(json, HEX);
}

static int escape(struct gmemi_json *json, unsigned char c)
{
	if (c == 'u')
		open_hex(json);
	else if (memchr("\"\\/bfnrt", c, 8))
		go(json, STRING);
	else
		return refuse(json, "an unknown escape");
	return 0;
}

static uint32_t hex_digit(unsigned char c)
{
	if (is_digit(c))
		return c - UINT32_C(0x30);
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - UINT32_C(0x61) + 10 : 16;
}

static int close_hex(struct gmemi_json *json)
{
	bool high = json->unit >= 0xd800 && json->unit <= 0xdbff, low = json->unit >= 0xdc00 && json->unit <= 0xdfff;

	if (json->half != low)
		return refuse(json, "half of a surrogate pair");
	json->half = high;
	go(json, high ? HALF_ESCAPE : STRING);
	return 0;
}

static int hex(struct gmemi_json *json, unsigned char c)
{
	uint32_t digit = hex_digit(c);

	if (digit > 15)
		return refuse(json, "no hexadecimal digit");
	json->unit = json->unit << 4 | digit;
	return --json->left ? 0 : close_hex(json);
}

static int half_escape(struct gmemi_json *json, unsigned char c)
{
	if (c != '\\')
		return refuse(json, "half of a surrogate pair");
	go(json, HALF_U);
	return 0;
}

static int half_u(struct gmemi_json *json, unsigned char c)
{
	if (c != 'u')
		return refuse(json, "half of a surrogate pair");
	open_hex(json);
	return 0;
}

/* --- words and numbers -------------------------------------------------------------------------------------------------- */

static int word(struct gmemi_json *json, unsigned char c)
{
	if (c != (unsigned char)*json->word)
		return refuse(json, "no value begins like that");
	if (!*++json->word)
		go(json, AFTER);
	return 0;
}

/* A digit is needed here. */
static int need_digit(struct gmemi_json *json, unsigned char c, enum state next)
{
	if (!is_digit(c))
		return refuse(json, "a digit is missing");
	go(json, next);
	return 0;
}

/* A number ends before this byte. */
static int end_number(struct gmemi_json *json, unsigned char c)
{
	go(json, AFTER);
	return after(json, c);
}

static int behind_digits(struct gmemi_json *json, unsigned char c, bool fraction)
{
	if (c == '.' && !fraction)
		go(json, POINT);
	else if (c == 'e' || c == 'E')
		go(json, EXPONENT);
	else
		return end_number(json, c);
	return 0;
}

static int minus(struct gmemi_json *json, unsigned char c)
{
	return need_digit(json, c, c == '0' ? ZERO : DIGITS);
}

static int zero(struct gmemi_json *json, unsigned char c)
{
	return behind_digits(json, c, false);
}

static int digits(struct gmemi_json *json, unsigned char c)
{
	return is_digit(c) ? 0 : behind_digits(json, c, false);
}

static int point(struct gmemi_json *json, unsigned char c)
{
	return need_digit(json, c, FRACTION);
}

static int fraction(struct gmemi_json *json, unsigned char c)
{
	return is_digit(c) ? 0 : behind_digits(json, c, true);
}

static int exponent(struct gmemi_json *json, unsigned char c)
{
	if (c != '+' && c != '-')
		return need_digit(json, c, EXPONENT_DIGITS);
	go(json, EXPONENT_SIGN);
	return 0;
}

static int exponent_sign(struct gmemi_json *json, unsigned char c)
{
	return need_digit(json, c, EXPONENT_DIGITS);
}

static int exponent_digits(struct gmemi_json *json, unsigned char c)
{
	return is_digit(c) ? 0 : end_number(json, c);
}

/* --- all of it ---------------------------------------------------------------------------------------------------------- */

static int (*const steps[])(struct gmemi_json *json, unsigned char c) = {
	[BEGIN] = begin,
	[VALUE] = value,
	[VALUE_OR_END] = value_or_end,
	[KEY] = key,
	[KEY_OR_END] = key_or_end,
	[COLON] = colon,
	[AFTER] = after,
	[STRING] = string,
	[ESCAPE] = escape,
	[HEX] = hex,
	[HALF_ESCAPE] = half_escape,
	[HALF_U] = half_u,
	[UTF8] = character,
	[WORD] = word,
	[MINUS] = minus,
	[ZERO] = zero,
	[DIGITS] = digits,
	[POINT] = point,
	[FRACTION] = fraction,
	[EXPONENT] = exponent,
	[EXPONENT_SIGN] = exponent_sign,
	[EXPONENT_DIGITS] = exponent_digits,
};

int gmemi_json_scan(struct gmemi_json *json, const char *text, size_t length, size_t *used)
{
	for (size_t i = 0; i < length; i++) {
		int r = steps[json->state](json, (unsigned char)text[i]);

		if (r < 0)
			return r;
		json->bytes++;
		if (json->depth == 0 && json->state == AFTER) {
			*used = i + 1;
			return 1;
		}
	}
	*used = length;
	return 0;
}
