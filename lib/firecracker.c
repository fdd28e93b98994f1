/* SPDX-License-Identifier: MIT */
#include "firecracker.h"

#include <stdio.h>

#include "alloc.h"
#include "err.h"
#include "json.h"

typedef unsigned long long ull;

enum member { HVA, SIZE, OFFSET, PAGE_SIZE, PAGE_SIZE_KIB, GPA, GUEST_MEMFD, MEMBERS };

static const struct gmemi_json_member members[MEMBERS] = {
	[HVA] = { "base_host_virt_addr", GMEMI_JSON_NUMBER },
	[SIZE] = { "size", GMEMI_JSON_NUMBER },
	[OFFSET] = { "offset", GMEMI_JSON_NUMBER },
	[PAGE_SIZE] = { "page_size", GMEMI_JSON_NUMBER },
	[PAGE_SIZE_KIB] = { "page_size_kib", GMEMI_JSON_NUMBER },
	[GPA] = { "gpa_start", GMEMI_JSON_NUMBER },
	[GUEST_MEMFD] = { "is_guest_memfd", GMEMI_JSON_BOOL },
};

#define BIT(member) (UINT32_C(1) << (member))
#define NEEDED (BIT(HVA) | BIT(SIZE) | BIT(OFFSET))

static int check_missing(uint32_t seen, uint32_t index)
{
	for (uint32_t i = 0; i < MEMBERS; i++)
		if (NEEDED & ~seen & BIT(i))
			return gmemi_refuse(-EPROTO, "region %u has no \"%s\"", index, members[i].name);
	return 0;
}

static int read_region(struct gmemi_json_cursor *cursor, uint32_t index, struct gmemi_fc_region *region, bool *guest)
{
	uint64_t values[MEMBERS] = { [GPA] = UINT64_MAX };
	uint32_t seen;
	int r;

	if (gmemi_json_kind(cursor) != GMEMI_JSON_OBJECT)
		return gmemi_refuse(-EPROTO, "region %u is no object", index);
	r = gmemi_json_members(cursor, members, MEMBERS, values, &seen);
	if (r == 0)
		r = check_missing(seen, index);
	if (r < 0)
		return r;
	if (seen & BIT(PAGE_SIZE) && seen & BIT(PAGE_SIZE_KIB) && values[PAGE_SIZE] != values[PAGE_SIZE_KIB])
		return gmemi_refuse(-EPROTO, "region %u: \"page_size\" %llu and \"page_size_kib\" %llu, both bytes, differ",
				    index, (ull)values[PAGE_SIZE], (ull)values[PAGE_SIZE_KIB]);
	*region = (struct gmemi_fc_region){
		.hva = values[HVA],
		.length = values[SIZE],
		.offset = values[OFFSET],
		.page_size = values[seen & BIT(PAGE_SIZE) ? PAGE_SIZE : PAGE_SIZE_KIB],
		.gpa = values[GPA],
		.guest_memfd = values[GUEST_MEMFD],
	};
	*guest = *guest || seen & (BIT(GPA) | BIT(GUEST_MEMFD));
	return 0;
}

static uint64_t count_elements(struct gmemi_json_cursor cursor)
{
	uint64_t count = 0;

	for (gmemi_json_enter(&cursor); gmemi_json_more(&cursor); count++)
		gmemi_json_skip(&cursor);
	return count;
}

static int check_shape(struct gmemi_json_cursor *cursor, uint32_t most, uint64_t *count)
{
	if (gmemi_json_kind(cursor) != GMEMI_JSON_ARRAY)
		return gmemi_refuse(-EPROTO, "the message is no array of regions");
	*count = count_elements(*cursor);
	if (*count == 0)
		return gmemi_refuse(-EPROTO, "the message has no region");
	if (*count > most)
		return gmemi_refuse(-EPROTO, "the message has %llu regions, more than %u", (ull)*count, most);
	return 0;
}

int gmemi_fc_read(const char *text, uint32_t most, struct gmemi_fc_region **result, uint32_t *result_count, bool *guest)
{
	struct gmemi_json_cursor cursor = { text };
	struct gmemi_fc_region *regions;
	uint64_t count = 0;
	int r = check_shape(&cursor, most, &count);

	if (r < 0)
		return r;
	regions = gmemi_alloc(count, sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	*guest = false;
	gmemi_json_enter(&cursor);
	for (uint32_t i = 0; r == 0 && gmemi_json_more(&cursor); i++)
		r = read_region(&cursor, i, &regions[i], guest);
	if (r < 0) {
		gmemi_free(regions);
		return r;
	}
	*result = regions;
	*result_count = (uint32_t)count;
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

static int put_region(enum gmemi_fc_form form, const struct gmemi_fc_region *r, char *text, size_t room)
{
	static const char begin[] = "{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu";
	int used = snprintf(text, room, begin, (ull)r->hva, (ull)r->length, (ull)r->offset);

	text += used;
	room -= (size_t)used;
	switch (form) {
	case GMEMI_FC_FIRST:
		return used + snprintf(text, room, "}");
	case GMEMI_FC_KIB:
		return used + snprintf(text, room, ",\"page_size_kib\":%llu}", (ull)r->page_size);
	case GMEMI_FC_PAGE_SIZE:
		return used + snprintf(text, room, ",\"page_size\":%llu,\"page_size_kib\":%llu}", (ull)r->page_size,
				       (ull)r->page_size);
	default:
		return used + snprintf(text, room, ",\"gpa_start\":%llu,\"page_size\":%llu,\"is_guest_memfd\":%s}", (ull)r->gpa,
				       (ull)r->page_size, r->guest_memfd ? "true" : "false");
	}
}

int gmemi_fc_write(enum gmemi_fc_form form, const struct gmemi_fc_region *regions, uint32_t count, char **result,
		   size_t *length)
{
	char *text = gmemi_alloc(count + UINT64_C(1), GMEMI_FC_LONGEST);
	size_t at = 0;

	if (!text)
		return -ENOMEM;
	text[at++] = '[';
	for (uint32_t i = 0; i < count; i++) {
		if (i)
			text[at++] = ',';
		at += (size_t)put_region(form, &regions[i], text + at, GMEMI_FC_LONGEST);
	}
	text[at++] = ']';
	*result = text;
	*length = at;
	return 0;
}
