/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

#include <string.h>

#include "unit.h"

static void test_word_mask(void)
{
	CHECK(pmig_word_mask(0, 0) == 0);
	CHECK(pmig_word_mask(0, 1) == 1);
	CHECK(pmig_word_mask(63, 1) == UINT64_C(1) << 63);
	CHECK(pmig_word_mask(0, 64) == ~UINT64_C(0));
	CHECK(pmig_word_mask(4, 8) == 0xff0);
}

static void test_words(void)
{
	CHECK_EQ(pmig_bitmap_words(0), 0);
	CHECK_EQ(pmig_bitmap_words(1), 1);
	CHECK_EQ(pmig_bitmap_words(64), 1);
	CHECK_EQ(pmig_bitmap_words(65), 2);
	CHECK(pmig_bitmap_words(UINT64_MAX) == UINT64_C(1) << 58);
}

static void test_set_matches_bit_by_bit(void)
{
	for (uint64_t first = 0; first < 130; first += 7) {
		for (uint64_t count = 0; first + count <= 256; count += 5) {
			uint64_t words[4] = {0};

			pmig_bitmap_set(words, first, count);
			for (uint64_t bit = 0; bit < 256; bit++)
				CHECK_EQ(pmig_bitmap_test(words, bit),
					 bit >= first && bit < first + count);
			CHECK_EQ(pmig_bitmap_count(words, 4), count);
		}
	}
}

static void test_next(void)
{
	uint64_t words[3] = {0, UINT64_C(1) << 5, 1};

	CHECK_EQ(pmig_bitmap_next(words, 192, 0, true), 69);
	CHECK_EQ(pmig_bitmap_next(words, 192, 69, true), 69);
	CHECK_EQ(pmig_bitmap_next(words, 192, 70, true), 128);
	CHECK_EQ(pmig_bitmap_next(words, 192, 129, true), 192);
	CHECK_EQ(pmig_bitmap_next(words, 60, 0, true), 60);
	CHECK_EQ(pmig_bitmap_next(words, 192, 69, false), 70);
	memset(words, 0xff, sizeof(words));
	CHECK_EQ(pmig_bitmap_next(words, 100, 0, false), 100);
	CHECK_EQ(pmig_bitmap_next(words, 0, 0, true), 0);
}

static void test_runs(void)
{
	uint64_t words[3] = {0};
	uint64_t first;

	pmig_bitmap_set(words, 3, 2);
	pmig_bitmap_set(words, 60, 70);
	pmig_bitmap_set(words, 191, 1);
	CHECK_EQ(pmig_bitmap_next_run(words, 192, 0, &first), 2);
	CHECK_EQ(first, 3);
	CHECK_EQ(pmig_bitmap_next_run(words, 192, 5, &first), 70);
	CHECK_EQ(first, 60);
	CHECK_EQ(pmig_bitmap_next_run(words, 192, 130, &first), 1);
	CHECK_EQ(first, 191);
	CHECK_EQ(pmig_bitmap_next_run(words, 192, 192, &first), 0);
	/* a run is cut at the end that was given */
	CHECK_EQ(pmig_bitmap_next_run(words, 100, 10, &first), 40);
}

static void test_shared_words(void)
{
	uint64_t word = 0;

	pmig_bits_or(&word, 0xf0);
	pmig_bits_or(&word, 0x0f);
	pmig_bits_clear(&word, 0x81);
	CHECK_EQ(pmig_bits_load(&word), 0x7e);
	CHECK_EQ(pmig_bits_take(&word), 0x7e);
	CHECK_EQ(pmig_bits_take(&word), 0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_word_mask), UNIT(test_words),
		UNIT(test_set_matches_bit_by_bit), UNIT(test_next),
		UNIT(test_runs), UNIT(test_shared_words), UNIT_END});
}
