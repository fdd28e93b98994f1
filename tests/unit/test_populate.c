/* SPDX-License-Identifier: MIT */
/* Populating from a buffer: every byte right, none else touched, zeros left out, and the account exact. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "handles.h"
#include "random.h"

#define LENGTH ((uint64_t)16 << 20)

static struct gmem_vm *vm;
static struct gmem *mem;

static void set_up(uint64_t length)
{
	make_vmless(&vm, &mem, length, NULL);
}

static void tear_down(void)
{
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void assert_presence(const char *pages)
{
	int fd = gmem_get_fd(mem, GMEM_FD_MEMORY);

	for (uint64_t i = 0; pages[i]; i++) {
		off_t at = (off_t)(i * page());
		char is = lseek(fd, at, SEEK_DATA) == at ? 'X' : '-';

		if (is != pages[i])
			fail_msg("page %llu: %c, of %s", (unsigned long long)i, is, pages);
	}
}

static int populate(uint64_t offset, uint64_t length, const void *data, uint64_t flags, enum gmem_mechanism mechanism)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = flags, .mechanism = mechanism };
	uint64_t done = 77;
	int r = gmem_populate(mem, offset, length, data, &done, &opts);

	assert_true(r < 0 || done == length);
	return r;
}

/* Content */

static void fill_random(unsigned char *data, uint64_t length)
{
	switch (next_random() % 4) {
	case 0:
		memset(data, 0, length);
		break;
	case 1: /* pages of zeros between others, not where those of the memory are */
		for (uint64_t i = 0; i < length; i++)
			data[i] = i / 4096 % 3 ? 0 : (unsigned char)next_random();
		break;
	case 2:
		memset(data, 0, length);
		data[next_random() % length] = 1;
		break;
	default:
		memset(data, (int)(1 + next_random() % 255), length);
	}
}

/* As often a few bytes as megabytes, at odd places as often as at pages. */
static uint64_t random_number(uint64_t most)
{
	uint64_t number = next_random() & ((UINT64_C(1) << (next_random() % 24)) - 1);

	if (next_random() % 4 == 0)
		number &= ~UINT64_C(4095);
	return number < most ? number : most;
}

/* Returns how much it dealt with. */
static uint64_t random_step(unsigned char *model, unsigned char *data)
{
	static const uint64_t chunks[] = { 0, 65536, 1u << 20, 65536 * 7 };
	static const enum gmem_mechanism mechanisms[] = { 0, GMEM_MECH_WRITE, GMEM_MECH_MAPPING };
	struct gmem_populate_opts opts = { .size = sizeof(opts),
					   .flags = next_random() % 3 ? 0 : GMEM_POPULATE_KEEP_ZEROS,
					   .chunk = chunks[next_random() % 4],
					   .mechanism = mechanisms[next_random() % 3] };
	uint64_t offset = random_number(LENGTH - 1), length = 1 + random_number(LENGTH - offset - 1), done = 77;

	if (next_random() % 8 == 0)
		offset = LENGTH - length;
	fill_random(data, length);
	assert_int_equal(gmem_populate(mem, offset, length, data, &done, &opts), 0);
	assert_int_equal(done, length);
	memcpy(model + offset, data, length);
	return length;
}

static void random_ranges_agree_with_a_model(void **state)
{
	unsigned char *model = buffer(LENGTH, 0), *data = buffer(LENGTH, 0);
	uint64_t sum = 0;

	(void)state;
	sow();
	set_up(LENGTH);
	for (unsigned int step = 0; step < 120; step++) {
		sum += random_step(model, data);
		if (step % 10 == 9)
			assert_content(mem, model, LENGTH);
	}
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, sum);
	tear_down();
	free(model);
	free(data);
}

static void a_range_in_the_middle_of_pages_is_all_that_changes(void **state)
{
	unsigned char *model = buffer(8 * page(), 'a'), *data = buffer(8 * page(), 'b');

	(void)state;
	for (unsigned int way = 0; way < 2; way++) {
		set_up(8 * page());
		memset(model, 'a', 8 * page());
		assert_int_equal(populate(0, 8 * page(), model, 0, 0), 0);
		assert_int_equal(populate(page() - 1, 3 * page() + 2, data, 0, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE), 0);
		memset(model + page() - 1, 'b', 3 * page() + 2);
		assert_int_equal(populate(6 * page() + 100, 1, data, 0, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE), 0);
		model[6 * page() + 100] = 'b';
		assert_content(mem, model, 8 * page());
		tear_down();
	}
	free(model);
	free(data);
}

static void content_goes_through_the_callers_own_mappings_too(void **state)
{
	unsigned char *model = buffer(8 * page(), 0), *data = buffer(6 * page(), 'm');
	void *address;

	(void)state;
	set_up(8 * page());
	assert_int_equal(gmem_map(mem, page(), 2 * page(), &address, NULL), 0);
	assert_int_equal(gmem_map(mem, 4 * page(), page(), &address, NULL), 0);
	assert_int_equal(populate(page() + 7, 6 * page(), data, 0, GMEM_MECH_MAPPING), 0);
	memset(model + page() + 7, 'm', 6 * page());
	assert_content(mem, model, 8 * page());
	tear_down();
	free(model);
	free(data);
}

static void the_end_of_the_longest_memory_is_populated(void **state)
{
	const uint64_t end = UINT64_C(1) << 62;
	unsigned char is[6] = "";

	(void)state;
	set_up(end);
	assert_int_equal(populate(end - 5, 5, "hello", 0, GMEM_MECH_MAPPING), 0);
	assert_int_equal(populate(end - 3, 2, "LP", 0, GMEM_MECH_WRITE), 0);
	assert_int_equal(pread(gmem_get_fd(mem, GMEM_FD_MEMORY), is, 5, (off_t)(end - 5)), 5);
	assert_string_equal(is, "heLPo");
	tear_down();
}

/* Zeros */

/* One page for each character: '.' zeros, other: itself. */
static void populate_pages(const char *pages, uint64_t flags, enum gmem_mechanism mechanism)
{
	uint64_t count = strlen(pages);
	unsigned char *data = buffer(count * page(), 0);

	for (uint64_t i = 0; i < count; i++)
		data[i * page() + i] = pages[i] == '.' ? 0 : (unsigned char)pages[i];
	assert_int_equal(populate(0, count * page(), data, flags, mechanism), 0);
	assert_content(mem, data, count * page());
	free(data);
}

static void assert_account(uint64_t populated_pages, uint64_t skipped_pages)
{
	assert_int_equal(info_of(mem).populated, populated_pages * page());
	assert_int_equal(info_of(mem).skipped, skipped_pages * page());
}

static void pages_of_zeros_stay_absent(void **state)
{
	(void)state;
	want_small_pages();
	for (unsigned int way = 0; way < 2; way++) {
		set_up(LENGTH);
		populate_pages("..ab..c.d...", 0, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE);
		assert_presence("--XX--X-X---");
		assert_account(4, 8);
		assert_int_equal(info_of(mem).populate_mechanism, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE);
		tear_down();
	}
}

static void pages_that_are_there_are_overwritten_with_zeros(void **state)
{
	(void)state;
	want_small_pages();
	for (unsigned int way = 0; way < 2; way++) {
		set_up(LENGTH);
		populate_pages("abc...de", 0, 0);
		populate_pages("......y.", 0, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE);
		assert_presence("XXX---XX");
		assert_account(5 + 5, 3 + 3);
		tear_down();
	}
}

static void zeros_are_kept_when_asked_for(void **state)
{
	(void)state;
	want_small_pages();
	for (unsigned int way = 0; way < 2; way++) {
		set_up(LENGTH);
		populate_pages("..a.b...", GMEM_POPULATE_KEEP_ZEROS, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE);
		assert_presence("XXXXXXXX-");
		assert_account(8, 0);
		tear_down();
	}
}

static void a_page_with_one_byte_is_not_zeros(void **state)
{
	const uint64_t places[] = { 0, 1, 7, 8, 63, 64, page() / 2, page() - 8, page() - 2, page() - 1 };
	unsigned char *data = buffer(page(), 0);

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		set_up(page()); /* absent: what was taken for zeros would be left out */
		data[places[i]] = 1;
		assert_int_equal(populate(0, page(), data, 0, 0), 0);
		assert_content(mem, data, page());
		data[places[i]] = 0;
		tear_down();
	}
	free(data);
}

/* Mechanisms */

static void a_memfd_is_written(void **state)
{
	(void)state;
	set_up(LENGTH);
	assert_int_equal(info_of(mem).populate_mechanism, GMEM_MECH_NONE);
	populate_pages("a", 0, 0);
	assert_int_equal(info_of(mem).populate_mechanism, GMEM_MECH_WRITE);
	tear_down();
}

static void both_ways_make_the_same_content(void **state)
{
	unsigned char *data = buffer(LENGTH / 4, 0);

	(void)state;
	sow();
	for (uint64_t i = 0; i < LENGTH / 4; i++)
		data[i] = i / 4096 % 3 ? (unsigned char)(next_random() >> 9) : 0;
	for (unsigned int way = 0; way < 2; way++) {
		unsigned char *model = buffer(LENGTH / 2, 0);

		set_up(LENGTH / 2);
		assert_int_equal(populate(12345, LENGTH / 4, data, 0, way ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE), 0);
		memcpy(model + 12345, data, LENGTH / 4);
		assert_content(mem, model, LENGTH / 2);
		tear_down();
		free(model);
	}
	free(data);
}

/* Threads: neighbours share pages. */

struct share {
	const unsigned char *data;
	uint64_t offset, length;
	enum gmem_mechanism mechanism;
	int result;
};

static void *populate_share(void *arg)
{
	struct share *share = arg;

	for (unsigned int i = 0; i < 3 && share->result == 0; i++) {
		struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = 65536, .mechanism = share->mechanism };

		share->result = gmem_populate(mem, share->offset, share->length, share->data + share->offset, NULL, &opts);
	}
	return NULL;
}

static void threads_populate_ranges_side_by_side(void **state)
{
	const uint64_t length = LENGTH / 4, share = length / 4 - 1;
	unsigned char *data = buffer(length, 0);
	struct share shares[4];
	pthread_t threads[4];

	(void)state;
	set_up(length);
	for (uint64_t i = 0; i < length; i++)
		data[i] = i / 8192 % 2 ? (unsigned char)(i * 7 + i / 4096) : 0;
	for (unsigned int i = 0; i < 4; i++) {
		shares[i] = (struct share){ data, i * share, i < 3 ? share : length - 3 * share,
					    i % 2 ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, populate_share, &shares[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL) | shares[i].result, 0);
	assert_content(mem, data, length);
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, 3 * length);
	tear_down();
	free(data);
}

static const struct gt_test tests[] = {
	GT(random_ranges_agree_with_a_model, GT_NEEDS_NOTHING),
	GT(a_range_in_the_middle_of_pages_is_all_that_changes, GT_NEEDS_NOTHING),
	GT(content_goes_through_the_callers_own_mappings_too, GT_NEEDS_NOTHING),
	GT(the_end_of_the_longest_memory_is_populated, GT_NEEDS_NOTHING),
	GT(pages_of_zeros_stay_absent, GT_NEEDS_NOTHING),
	GT(pages_that_are_there_are_overwritten_with_zeros, GT_NEEDS_NOTHING),
	GT(zeros_are_kept_when_asked_for, GT_NEEDS_NOTHING),
	GT(a_page_with_one_byte_is_not_zeros, GT_NEEDS_NOTHING),
	GT(a_memfd_is_written, GT_NEEDS_NOTHING),
	GT(both_ways_make_the_same_content, GT_NEEDS_NOTHING),
	GT(threads_populate_ranges_side_by_side, GT_NEEDS_NOTHING),
};

GT_MAIN("populate", tests)
