/* SPDX-License-Identifier: MIT */
/* The JSON reader: what is passed and refused, with json-c as the second opinion, and what is read of what was passed. */
#include "gt.h"

#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "err.h"
#include "json.h"
#include "random.h"

#define MUTATIONS 20000
#define ROOM 4096

/* 1 = one whole value and nothing behind it, 0 = it is not whole, or something is behind it, else -EPROTO. */
static int scan(const char *text, size_t length)
{
	struct gmemi_json json = { 0 };
	size_t used;
	int r = gmemi_json_scan(&json, text, length, &used);

	if (r == 1)
		return used == length;
	if (r == 0)
		assert_int_equal(used, length);
	else
		assert_int_equal(r, -EPROTO);
	return r;
}

/* The same in two pieces, and byte by byte, says the same. */
static void assert_pieces_agree(const char *text, size_t length, int whole)
{
	struct gmemi_json json = { 0 };
	size_t used, i;
	int r = 0;

	for (i = 0; i < length && r == 0; i++)
		r = gmemi_json_scan(&json, text + i, 1, &used);
	if (r == 1)
		r = i == length;
	assert_int_equal(r, whole);
	for (size_t cut = 0; cut <= length; cut += 1 + length / 64) {
		json = (struct gmemi_json){ 0 };
		r = gmemi_json_scan(&json, text, cut, &used);
		if (r == 0)
			r = gmemi_json_scan(&json, text + cut, length - cut, &used), used += cut;
		if (r == 1)
			r = used == length;
		assert_int_equal(r, whole);
	}
}

static const char *const passed[] = {
	"[]",
	"{}",
	" [ ] ",
	"[0]",
	"[-0]",
	"[1,2]",
	"[1.5]",
	"[1e5]",
	"[1E+5]",
	"[1.25e-3]",
	"[true,false,null]",
	"[\"\"]",
	"[\"a\\\"b\\\\c\\/d\\b\\f\\n\\r\\t\"]",
	"[\"\\u0041\\u00e9\\u20ac\"]",
	"[\"\\ud83d\\ude00\"]",
	"[\"\xc3\xa9\"]",
	"[\"\xe2\x82\xac\"]",
	"[\"\xf0\x9f\x98\x80\"]",
	"{\"a\":1}",
	"{\"a\":{\"b\":[{}]},\"c\":\"d\"}",
	"\t\r\n{ \"a\" : 1 , \"b\" : 2 }",
	"[18446744073709551615]",
	"[18446744073709551616]",
	"[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
	"{\"a\":1,\"a\":2}",
	("[{\"base_host_virt_addr\":0,\"size\":1048576,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096},"
	 "{\"base_host_virt_addr\":1048576,\"size\":2097152,\"offset\":0,\"page_size\":2097152,\"page_size_kib\":2097152}]"),
};

static const char *const refused[] = {
	"]",
	"}",
	"0",
	"true",
	"\"a\"",
	"[,]",
	"[1,]",
	"[1 2]",
	"[01]",
	"[-]",
	"[+1]",
	"[.5]",
	"[1.]",
	"[1e]",
	"[1e+]",
	"[0x1]",
	"[tru]",
	"[True]",
	"[nul]",
	"[NaN]",
	"['a']",
	"[\"\\x41\"]",
	"[\"\\u12g4\"]",
	"[\"\\ud83d\"]",
	"[\"\\ude00\"]",
	"[\"\\ud83dx\"]",
	"[\"\\ud83d\\n\"]",
	"[\"\\ud83d\\u0041\"]",
	"[\"\x01\"]",
	"[\"\n\"]",
	"[\"\x80\"]",
	"[\"\xc0\x80\"]",
	"[\"\xc3\"]",
	"[\"\xe0\x80\x80\"]",
	"[\"\xed\xa0\x80\"]",
	"[\"\xf0\x80\x80\x80\"]",
	"[\"\xf4\x90\x80\x80\"]",
	"[\"\xff\"]",
	"{1:2}",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\":1,}",
	"{,}",
	"{\"a\" 1}",
	"{\"a\":1]",
	"[1}",
	"[/**/]",
	"\xef\xbb\xbf[]",
	"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
};

static void what_is_passed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
		size_t length = strlen(passed[i]);
		bool space_behind = passed[i][length - 1] == ' ';
		int r = scan(passed[i], length);

		if (r != !space_behind)
			fail_msg("%s: %d, %s", passed[i], r, gmem_last_error());
		assert_pieces_agree(passed[i], length, r);
		for (size_t cut = 0; cut + 1 + space_behind < length; cut++)
			assert_int_equal(scan(passed[i], cut), 0);
	}
}

static void what_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		gmemi_enter("test_call");
		if (scan(refused[i], strlen(refused[i])) != -EPROTO)
			fail_msg("%s was passed", refused[i]);
		assert_non_null(strstr(gmem_last_error(), "test_call: the JSON is wrong at byte "));
		assert_pieces_agree(refused[i], strlen(refused[i]), -EPROTO);
	}
	assert_int_equal(scan("[\"\0\"]", 5), -EPROTO);
	assert_int_equal(scan("[\0]", 3), -EPROTO);
}

static void where_it_ends(void **state)
{
	static const char text[] = "[1] {\"a\":2}[3]x";
	struct gmemi_json json = { 0 };
	size_t used, at = 0;

	(void)state;
	assert_int_equal(gmemi_json_scan(&json, text, sizeof(text) - 1, &used), 1);
	assert_int_equal(used, 3);
	at += used;
	json = (struct gmemi_json){ 0 };
	assert_int_equal(gmemi_json_scan(&json, text + at, sizeof(text) - 1 - at, &used), 1);
	assert_int_equal(used, 8);
	at += used;
	json = (struct gmemi_json){ 0 };
	assert_int_equal(gmemi_json_scan(&json, text + at, sizeof(text) - 1 - at, &used), 1);
	at += used;
	json = (struct gmemi_json){ 0 };
	assert_int_equal(gmemi_json_scan(&json, text + at, 1, &used), -EPROTO);
}

/* --- the second opinion ------------------------------------------------------------------------------------------------- */

static bool json_c_passes(const char *text, size_t length)
{
	struct json_tokener *tokener = json_tokener_new_ex(GMEMI_JSON_DEPTH + 1);
	struct json_object *object;
	bool ok;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text, (int)length);
	ok = json_tokener_get_error(tokener) == json_tokener_success && json_tokener_get_parse_end(tokener) == length &&
	     (json_object_is_type(object, json_type_array) || json_object_is_type(object, json_type_object));
	json_object_put(object);
	json_tokener_free(tokener);
	return ok;
}

static bool has(const char *text, size_t length, const char *part)
{
	return memmem(text, length, part, strlen(part));
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A number that is none to RFC 8259: zeros before other digits, a point that has no digit on both sides. */
static bool odd_number(const char *text, size_t length, size_t i)
{
	bool before = i > 0 && is_digit(text[i - 1]), after = i + 1 < length && is_digit(text[i + 1]);

	if (text[i] == '.')
		return !before || !after;
	return text[i] == '0' && after && !before && (i == 0 || text[i - 1] != '.');
}

/* Its check looks at the shape of a character alone; libc's also at what it means. */
static bool is_utf8(const char *text, size_t length)
{
	iconv_t converter = iconv_open("WCHAR_T", "UTF-8");
	wchar_t wide[ROOM];
	char *from = (char *)(uintptr_t)text, *to = (char *)wide;
	size_t room = sizeof(wide);
	bool ok = iconv(converter, &from, &length, &to, &room) != (size_t)-1;

	iconv_close(converter);
	for (const wchar_t *c = wide; (char *)(uintptr_t)c < to; c++)
		ok = ok && *c <= 0x10ffff;
	return ok;
}

/* What json-c lets through where RFC 8259 does not: those, control characters, lone surrogates, NaN and Infinity. */
static bool json_c_is_lenient(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || odd_number(text, length, i))
			return true;
	if (!is_utf8(text, length))
		return true;
	return has(text, length, "\\ud") || has(text, length, "\\uD") || has(text, length, "NaN") ||
	       has(text, length, "Infinity");
}

static void compare(const char *text, size_t length, uint64_t *both)
{
	bool ours, theirs;

	while (length && text[length - 1] == ' ') /* json-c takes it along, where ours begins the next value with it */
		length--;
	ours = scan(text, length) == 1;
	theirs = json_c_passes(text, length);
	if (ours != theirs && !(theirs && (json_c_is_lenient(text, length) || strstr(gmem_last_error(), "too deep"))))
		fail_msg("%s, json-c %s: %.*s", ours ? "passed" : "refused", theirs ? "passed" : "refused", (int)length, text);
	*both += ours && theirs;
}

static void the_second_opinion_on_what_is_known(void **state)
{
	uint64_t both = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		compare(passed[i], strlen(passed[i]), &both);
	assert_int_equal(both, sizeof(passed) / sizeof(passed[0]));
	for (size_t i = 0; i + 1 < sizeof(refused) / sizeof(refused[0]);
	     i++) /* but the last: json-c counts depth differently */
		compare(refused[i], strlen(refused[i]), &both);
}

static size_t mutate(char *text, size_t length)
{
	static const char likely[] = "{}[]\",:0123456789.eE+-\\utruefalsn \x80\xbf\xc3\xe2\xf0";
	size_t at = next_random() % length;

	switch (next_random() % 4) {
	case 0:
		text[at] = likely[next_random() % (sizeof(likely) - 1)];
		return length;
	case 1:
		memmove(text + at, text + at + 1, length - at - 1);
		return length - 1;
	case 2:
		memmove(text + at + 1, text + at, length - at);
		text[at] = likely[next_random() % (sizeof(likely) - 1)];
		return length + 1;
	default:
		text[at] = (char)next_random();
		return length;
	}
}

static void the_second_opinion_on_mutations(void **state)
{
	uint64_t both = 0;
	char text[ROOM];

	(void)state;
	sow();
	for (int i = 0; i < MUTATIONS; i++) {
		const char *from = passed[next_random() % (sizeof(passed) / sizeof(passed[0]))];
		size_t length = strlen(from);

		memcpy(text, from, length);
		for (uint64_t n = next_random() % 3; n < 3 && length; n++)
			length = mutate(text, length);
		compare(text, length, &both);
	}
	printf("  %d mutations, %llu are JSON to both\n", MUTATIONS, (unsigned long long)both);
	assert_true(both > MUTATIONS / 100);
	assert_true(both < MUTATIONS);
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static void strings_are_decoded(void **state)
{
	static const char text[] = "[\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00E9\\u20ac\\ud83d\\ude00\\u0000z\",\"\xc3\xa9\"]";
	static const char meant[] = "a\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0z";
	struct gmemi_json_cursor cursor = { text };
	char buffer[64];

	(void)state;
	assert_int_equal(scan(text, sizeof(text) - 1), 1);
	gmemi_json_enter(&cursor);
	assert_true(gmemi_json_more(&cursor));
	assert_int_equal(gmemi_json_string(&cursor, buffer, sizeof(buffer)), sizeof(meant) - 1);
	assert_memory_equal(buffer, meant, sizeof(meant) - 1);
	assert_true(gmemi_json_more(&cursor));
	assert_int_equal(gmemi_json_string(&cursor, buffer, 1), 2); /* as long as it is, whatever the room */
	assert_false(gmemi_json_more(&cursor));
}

static void numbers_are_exact(void **state)
{
	static const struct {
		const char *text;
		bool fits;
		uint64_t value;
	} rows[] = {
		{ "[0]", true, 0 },
		{ "[9007199254740993]", true, UINT64_C(9007199254740993) },
		{ "[18446744073709551615]", true, UINT64_MAX },
		{ "[18446744073709551616]", false, 0 },
		{ "[184467440737095516150]", false, 0 },
		{ "[-1]", false, 0 },
		{ "[-0]", false, 0 },
		{ "[1.0]", false, 0 },
		{ "[1e3]", false, 0 },
		{ "[1E+3]", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gmemi_json_cursor cursor = { rows[i].text };
		uint64_t value = 7;

		gmemi_json_enter(&cursor);
		assert_int_equal(gmemi_json_u64(&cursor, &value), rows[i].fits);
		if (rows[i].fits)
			assert_int_equal(value, rows[i].value);
		assert_false(gmemi_json_more(&cursor)); /* it is behind the number either way */
	}
}

static const struct gmemi_json_member known[] = { { "size", GMEMI_JSON_NUMBER }, { "on", GMEMI_JSON_BOOL } };

static int members(const char *text, uint64_t values[2], uint32_t *seen)
{
	struct gmemi_json_cursor cursor = { text };

	assert_int_equal(scan(text, strlen(text)), 1);
	gmemi_enter("test_call");
	return gmemi_json_members(&cursor, known, 2, values, seen);
}

static void members_in_any_order(void **state)
{
	uint64_t values[2] = { 7, 7 };
	uint32_t seen;

	(void)state;
	assert_int_equal(members("{}", values, &seen), 0);
	assert_int_equal(seen, 0);
	assert_int_equal(members("{\"x\":[{\"size\":[1,\"}\"]}],\"on\":true,\"y\":null,\"x\":-1.5e3,\"s\\u0069ze\":5}", values,
				 &seen),
			 0);
	assert_int_equal(seen, 3);
	assert_int_equal(values[0], 5);
	assert_int_equal(values[1], 1);
	assert_int_equal(members("{\"on\" : false , \"siz\":1,\"size \":2,\"sizes\":3}", values, &seen), 0);
	assert_int_equal(seen, 2);
	assert_int_equal(values[1], 0);
}

static void members_that_are_wrong(void **state)
{
	static const char *const wrong[][2] = {
		{ "{\"size\":1,\"size\":1}", "comes twice" }, { "{\"size\":\"1\"}", "is no number" },
		{ "{\"on\":1}", "is no truth value" },        { "{\"on\":null}", "is no truth value" },
		{ "{\"size\":-1}", "is no integer" },         { "{\"size\":1.5}", "is no integer" },
		{ "{\"size\":[1]}", "is no number" },
	};
	uint64_t values[2];
	uint32_t seen;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(members(wrong[i][0], values, &seen), -EPROTO);
		assert_non_null(strstr(gmem_last_error(), wrong[i][1]));
	}
}

static const struct gt_test tests[] = {
	GT(what_is_passed, GT_NEEDS_NOTHING),
	GT(what_is_refused, GT_NEEDS_NOTHING),
	GT(where_it_ends, GT_NEEDS_NOTHING),
	GT(the_second_opinion_on_what_is_known, GT_NEEDS_NOTHING),
	GT(the_second_opinion_on_mutations, GT_NEEDS_NOTHING),
	GT(strings_are_decoded, GT_NEEDS_NOTHING),
	GT(numbers_are_exact, GT_NEEDS_NOTHING),
	GT(members_in_any_order, GT_NEEDS_NOTHING),
	GT(members_that_are_wrong, GT_NEEDS_NOTHING),
};

GT_MAIN("json", tests)
