/* SPDX-License-Identifier: MIT */
/* The bitmap, at word borders and against a model of one byte a bit. */
#include "gt.h"

#include <string.h>

#include "bitmap.h"
#include "random.h"

#define BITS 333 /* not a multiple of 64 */
#define WORDS GMEMI_BITMAP_WORDS(BITS)

static void words_are_counted_without_a_spare_one(void **state)
{
	(void)state;
	assert_int_equal(GMEMI_BITMAP_WORDS(0), 0);
	assert_int_equal(GMEMI_BITMAP_WORDS(1), 1);
	assert_int_equal(GMEMI_BITMAP_WORDS(64), 1);
	assert_int_equal(GMEMI_BITMAP_WORDS(65), 2);
}

static void a_bit_set_is_the_only_one(void **state)
{
	static const size_t bits[] = { 0, 1, 31, 32, 63, 64, 65, 127, 128, BITS - 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		uint64_t words[WORDS] = { 0 };

		gmemi_bitmap_assign(words, bits[i], true);
		for (size_t bit = 0; bit < BITS; bit++)
			assert_int_equal(gmemi_bitmap_test(words, bit), bit == bits[i]);
		gmemi_bitmap_assign(words, bits[i], false);
		for (size_t word = 0; word < WORDS; word++)
			assert_int_equal(words[word], 0);
	}
}

static void clearing_a_bit_leaves_its_neighbours(void **state)
{
	uint64_t words[WORDS];

	(void)state;
	memset(words, 0xff, sizeof(words));
	gmemi_bitmap_assign(words, 64, false);
	assert_true(gmemi_bitmap_test(words, 63));
	assert_false(gmemi_bitmap_test(words, 64));
	assert_true(gmemi_bitmap_test(words, 65));
	assert_int_equal(words[0], UINT64_MAX);
}

static void runs_end_where_bits_change_and_at_the_end(void **state)
{
	uint64_t words[WORDS] = { 0 };

	(void)state;
	assert_int_equal(gmemi_bitmap_run(words, 0, BITS), BITS);
	assert_int_equal(gmemi_bitmap_run(words, 63, 64), 1);
	assert_int_equal(gmemi_bitmap_run(words, 64, 128), 64);
	assert_int_equal(gmemi_bitmap_run(words, BITS - 1, BITS), 1);
	for (size_t bit = 60; bit < 130; bit++)
		gmemi_bitmap_assign(words, bit, true);
	assert_int_equal(gmemi_bitmap_run(words, 0, BITS), 60);
	assert_int_equal(gmemi_bitmap_run(words, 60, BITS), 70);
	assert_int_equal(gmemi_bitmap_run(words, 64, BITS), 66);
	assert_int_equal(gmemi_bitmap_run(words, 60, 100), 40);
	assert_int_equal(gmemi_bitmap_run(words, 129, BITS), 1);
	assert_int_equal(gmemi_bitmap_run(words, 130, BITS), BITS - 130);
}

static void nothing_behind_the_end_is_read_as_a_run(void **state)
{
	uint64_t words[WORDS];

	(void)state;
	memset(words, 0, sizeof(words));
	words[1] = UINT64_MAX; /* what follows a range of 64 bits is not its business */
	assert_int_equal(gmemi_bitmap_run(words, 10, 64), 54);
	words[0] = UINT64_MAX;
	assert_int_equal(gmemi_bitmap_run(words, 10, 64), 54);
}

static size_t model_run(const unsigned char *model, size_t bit, size_t end)
{
	size_t n = bit;

	while (n < end && model[n] == model[bit])
		n++;
	return n - bit;
}

/* Long runs are as likely as short ones. */
static void scatter(uint64_t *words, unsigned char *model)
{
	size_t first = next_random() % BITS, length = 1 + (next_random() >> 7) % (UINT64_C(1) << (next_random() % 9));
	bool value = next_random() & 1;

	for (size_t bit = first; bit < BITS && bit < first + length; bit++) {
		model[bit] = value;
		gmemi_bitmap_assign(words, bit, value);
	}
}

static void random_changes_agree_with_a_model(void **state)
{
	uint64_t words[WORDS] = { 0 };
	unsigned char model[BITS] = { 0 };

	(void)state;
	sow();
	for (unsigned int round = 0; round < 5000; round++) {
		size_t from, end;

		scatter(words, model);
		from = next_random() % BITS;
		end = from + 1 + next_random() % (BITS - from);
		assert_int_equal(gmemi_bitmap_run(words, from, end), model_run(model, from, end));
		assert_int_equal(gmemi_bitmap_test(words, from), model[from]);
	}
	for (size_t bit = 0; bit < BITS; bit++)
		assert_int_equal(gmemi_bitmap_test(words, bit), model[bit]);
}

static void runs_of_random_bits_cover_everything_once(void **state)
{
	uint64_t words[WORDS];

	(void)state;
	sow();
	for (unsigned int round = 0; round < 300; round++) {
		size_t at = 0;
		bool last = false;

		for (size_t word = 0; word < WORDS; word++)
			words[word] = next_random() & next_random();
		for (bool first = true; at < BITS; first = false) {
			bool now = gmemi_bitmap_test(words, at);
			size_t run = gmemi_bitmap_run(words, at, BITS);

			assert_true(run > 0);
			assert_true(first || now != last);
			last = now;
			at += run;
		}
		assert_int_equal(at, BITS);
	}
}

static const struct gt_test tests[] = {
	GT(words_are_counted_without_a_spare_one, GT_NEEDS_NOTHING),
	GT(a_bit_set_is_the_only_one, GT_NEEDS_NOTHING),
	GT(clearing_a_bit_leaves_its_neighbours, GT_NEEDS_NOTHING),
	GT(runs_end_where_bits_change_and_at_the_end, GT_NEEDS_NOTHING),
	GT(nothing_behind_the_end_is_read_as_a_run, GT_NEEDS_NOTHING),
	GT(random_changes_agree_with_a_model, GT_NEEDS_NOTHING),
	GT(runs_of_random_bits_cover_everything_once, GT_NEEDS_NOTHING),
};

GT_MAIN("bitmap", tests)
