/* SPDX-License-Identifier: MIT */
/* The JSON reader, the regions of Firecracker's handshake, and a channel that gets them: whatever comes, it is read the same in
 * whole and in parts, or refused with a documented code. With libFuzzer, or alone: ROUNDS damaged handshakes. */
#include "peer.h"

#include "firecracker.h"
#include "json.h"

static int scan(const uint8_t *data, size_t cut, size_t size, size_t *used)
{
	struct gmemi_json json = { 0 };
	size_t more;
	int r = gmemi_json_scan(&json, (const char *)data, cut, used);

	if (r != 0)
		return r;
	r = gmemi_json_scan(&json, (const char *)data + cut, size - cut, &more);
	*used = cut + more;
	return r;
}

static void read_regions(const uint8_t *data, size_t length)
{
	struct gmemi_fc_region *regions;
	char *text = malloc(length); /* its own, so that a reader beyond the end is seen */
	uint32_t count;
	bool guest;
	int r;

	memcpy(text, data, length);
	r = gmemi_fc_read(text, 64, &regions, &count, &guest);
	expect(r == 0 || r == -EPROTO, "gmemi_fc_read");
	if (r == 0) {
		expect(count > 0 && count <= 64, "the number of regions");
		free(regions);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t whole = 0, parts = 0;
	int r;

	if (size < 4)
		return 0;
	r = scan(data + 2, 0, size - 2, &whole);
	expect(r == 1 || r == 0 || r == -EPROTO, "gmemi_json_scan");
	expect(scan(data + 2, data[0] % (size - 2), size - 2, &parts) == r, "the same in parts");
	if (r == 1) {
		expect(whole == parts && whole <= size - 2, "where it ends");
		read_regions(data + 2, whole);
	}
	receive(data, size);
	return 0;
}

#ifdef ROUNDS
static size_t make(uint8_t *data, unsigned int *seed)
{
	struct gmemi_fc_region regions[3];
	size_t length, before = (size_t)rand_r(seed) % 3;
	char *text;

	for (uint64_t i = 0; i < 3; i++)
		regions[i] = (struct gmemi_fc_region){ .hva = (i + 1) << 20,
						       .length = UINT64_C(65536) << rand_r(seed) % 5,
						       .offset = i << 20,
						       .page_size = 4096,
						       .gpa = i << 20 };
	expect(gmemi_fc_write((enum gmemi_fc_form)(rand_r(seed) % 4), regions, 1 + (uint32_t)rand_r(seed) % 3, &text,
			      &length) == 0,
	       "gmemi_fc_write");
	data[0] = (uint8_t)rand_r(seed);
	data[1] = (uint8_t)rand_r(seed);
	memset(data + 2, ' ', before);
	memcpy(data + 2 + before, text, length);
	free(text);
	return 2 + before + length;
}

FUZZ_MAIN("handshakes from damaged bytes", make)
#endif
