/* SPDX-License-Identifier: MIT */
/* Floor 1: a strict reader of JSON (RFC 8259) for messages of peers. The scanner takes bytes as they come and says where one
 * whole array or object ends; it allocates nothing and keeps no text. The cursor walks over text that the scanner has passed:
 * what it meets is well-formed. */
#ifndef GMEMI_JSON_H
#define GMEMI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEMI_JSON_DEPTH 16 /* arrays and objects in each other, at most */

/* A scanner; all zero = nothing seen yet. */
struct gmemi_json {
	uint64_t bytes;   /* seen so far */
	uint32_t objects; /* bit n: what is open at depth n is an object */
	uint32_t unit;    /* \u: the code unit so far */
	uint8_t depth, state;
	uint8_t left;      /* \u, UTF-8, words: bytes still to come */
	uint8_t low, high; /* UTF-8: what the next byte may be */
	bool in_key;       /* the string under way is a key */
	bool half;         /* a high surrogate waits for its other half */
	const char *word;  /* the rest of true, false or null */
};

/* The next bytes: 1 = *used of them end the value; 0 = all were taken and more is needed; -EPROTO with a sentence. Spaces
 * before the value are part of it. */
int gmemi_json_scan(struct gmemi_json *json, const char *text, size_t length, size_t *used);

/* Points into text that has been passed whole. */
struct gmemi_json_cursor {
	const char *at;
};

enum gmemi_json_kind {
	GMEMI_JSON_ARRAY,
	GMEMI_JSON_OBJECT,
	GMEMI_JSON_STRING,
	GMEMI_JSON_NUMBER,
	GMEMI_JSON_BOOL,
	GMEMI_JSON_NULL
};

enum gmemi_json_kind gmemi_json_kind(struct gmemi_json_cursor *cursor);
/* Into the array or object that it stands before. */
void gmemi_json_enter(struct gmemi_json_cursor *cursor);
/* Is there another element? If not, the array or object is left. */
bool gmemi_json_more(struct gmemi_json_cursor *cursor);
void gmemi_json_skip(struct gmemi_json_cursor *cursor);
/* Takes a string, decoded: its length in bytes, of which the first `room` are stored. */
size_t gmemi_json_string(struct gmemi_json_cursor *cursor, char *text, size_t room);
/* Takes a number: false = it is negative, has a fraction or an exponent, or does not fit. */
bool gmemi_json_u64(struct gmemi_json_cursor *cursor, uint64_t *value);
bool gmemi_json_bool(struct gmemi_json_cursor *cursor);

/* Members of an object that somebody knows, of these kinds: NUMBER (u64) or BOOL (0, 1). */
struct gmemi_json_member {
	const char *name;
	enum gmemi_json_kind kind;
};

/* Takes an object: values in the order of `members`, *seen has a bit for each that is there. Others are ignored. -EPROTO: one
 * that is known comes twice, or is of another kind. */
int gmemi_json_members(struct gmemi_json_cursor *cursor, const struct gmemi_json_member *members, uint32_t count,
		       uint64_t *values, uint32_t *seen);

#endif
