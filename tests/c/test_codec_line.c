/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel agrees with the formula of codec/line.h, written down here a
 * second time in wide arithmetic, and a change shows in its own line alone.
 */
#include <stdint.h>
#include <string.h>

#include "codec/line.h"
#include "random_bytes.h"
#include "unit.h"

enum {
	ROUNDS = 50,
	OFFSETS = 65,
};

static uint8_t room[PMIG_PAGE_BYTES + OFFSETS];
static struct line_key key;
static uint64_t seed = 2;

/* The same keys in every run, so that a run cannot be the unlucky one. */
static void fresh_key(void)
{
	random_fill(&seed, &key, sizeof(key));
	key.fold |= 1;
}

static uint32_t reference(const uint8_t *line)
{
	unsigned __int128 sum = 0;
	uint32_t word[16];

	memcpy(word, line, sizeof(word));
	for (int i = 0; i < 16; i += 2) {
		uint64_t a = ((uint64_t)word[i] + key.nh[i]) % (1ull << 32);
		uint64_t b =
			((uint64_t)word[i + 1] + key.nh[i + 1]) % (1ull << 32);

		sum += (unsigned __int128)a * b;
	}
	sum = (unsigned __int128)(uint64_t)sum * key.fold;
	return (uint32_t)((uint64_t)sum >> 32);
}

static void check_prints(const struct line_kernel *kernel, const uint8_t *page)
{
	struct line_prints prints;

	kernel->prints(&key, page, &prints);
	for (int l = 0; l < PAGE_LINES; l++)
		if (prints.line[l] != reference(page + l * LINE_BYTES))
			UNIT_FAIL("%s: line %d is %#x, not %#x", kernel->name,
				  l, prints.line[l],
				  reference(page + l * LINE_BYTES));
}

static void check_all_kernels(const uint8_t *page)
{
	for (unsigned int i = 0; i < line_kernels_count; i++)
		if (line_kernels[i].supported())
			check_prints(&line_kernels[i], page);
}

static void test_kernels_agree_on_random_pages(void)
{
	for (unsigned int i = 0; i < line_kernels_count; i++)
		if (!line_kernels[i].supported())
			printf("# %s: not on this processor\n",
			       line_kernels[i].name);
	for (int round = 0; round < ROUNDS; round++) {
		fresh_key();
		random_fill(&seed, room, sizeof(room));
		check_all_kernels(room);
	}
}

static void test_kernels_need_no_alignment(void)
{
	fresh_key();
	random_fill(&seed, room, sizeof(room));
	for (int offset = 0; offset < OFFSETS; offset++)
		check_all_kernels(room + offset);
}

/* Carries: all ones and all zeros in words, key and fold. */
static void test_kernels_agree_at_the_limits(void)
{
	static const uint64_t folds[] = {1, 0xffffffff, 1ull << 32 | 1,
					 0xffffffff00000001, UINT64_MAX};

	for (int page = 0; page < 2; page++)
		for (int nh = 0; nh < 2; nh++)
			for (int i = 0; i < 5; i++) {
				memset(room, page ? 0xff : 0, sizeof(room));
				memset(key.nh, nh ? 0xff : 0, sizeof(key.nh));
				key.fold = folds[i];
				check_all_kernels(room);
				key.nh[3] = 1;
				check_all_kernels(room);
			}
}

static uint64_t changes_of(const struct line_kernel *kernel, uint8_t *page,
			   uint64_t bit)
{
	struct line_prints before, after;

	kernel->prints(&key, page, &before);
	page[bit / 8] ^= 1u << (bit % 8);
	kernel->prints(&key, page, &after);
	page[bit / 8] ^= 1u << (bit % 8);
	return line_changes(&before, &after);
}

static void check_every_bit(const struct line_kernel *kernel)
{
	for (int zero = 0; zero < 2; zero++) {
		fresh_key();
		random_fill(&seed, room, sizeof(room));
		if (zero)
			memset(room, 0, sizeof(room));
		for (uint64_t bit = 0; bit < 8 * PMIG_PAGE_BYTES; bit++)
			if (changes_of(kernel, room, bit) !=
			    1ull << (bit / 8 / LINE_BYTES))
				UNIT_FAIL("bit %d of a page", (int)bit);
	}
}

static void test_every_bit_changes_its_line(void)
{
	for (unsigned int i = 0; i < line_kernels_count; i++)
		if (line_kernels[i].supported())
			check_every_bit(&line_kernels[i]);
}

/* What a sum of words or an unkeyed hash would not see. */
static void test_moved_words_are_changes(void)
{
	const struct line_kernel *kernel = line_kernel_best();
	struct line_prints before, after;
	uint32_t first[16], second[16];

	fresh_key();
	memset(room, 0, sizeof(room));
	for (uint32_t i = 0; i < 16; i++) {
		first[i] = i + 1;
		second[i] = 16 - i;
	}
	for (int l = 0; l < PAGE_LINES; l++)
		memcpy(room + l * LINE_BYTES, first, LINE_BYTES);
	kernel->prints(&key, room, &before);
	CHECK(before.line[0] == before.line[63]);
	for (int l = 0; l < PAGE_LINES; l += 2)
		memcpy(room + l * LINE_BYTES, second, LINE_BYTES);
	kernel->prints(&key, room, &after);
	CHECK(line_changes(&before, &after) == 0x5555555555555555);
}

/* 64 ways to change a line, one in each line of a page of noise. */
static void change_lines(uint8_t *page)
{
	for (int l = 0; l < PAGE_LINES; l++) {
		uint8_t *line = page + l * LINE_BYTES;
		uint8_t old[LINE_BYTES];

		memcpy(old, line, sizeof(old));
		if (l < 16) /* the highest bit of a word: easily lost */
			line[4 * l + 3] ^= 0x80;
		else if (l < 32)
			line[4 * (l - 16)] ^= 1;
		else if (l < 40) /* the words of a product change places */
			for (int i = 0; i < 8; i++)
				line[8 * (l - 32) + i] =
					old[8 * (l - 32) + (i + 4) % 8];
		else if (l < 47) /* the products do */
			for (int i = 0; i < LINE_BYTES; i++)
				line[i] = old[(i + 8 * (l - 39)) % LINE_BYTES];
		else /* the same is added to every word */
			for (int i = 0; i < LINE_BYTES; i += 4)
				line[i + l % 4] += (uint8_t)l;
	}
}

/* Of so many keys, those with which the upper bytes of prints agree. */
static void count_agreeing(unsigned int keys, unsigned int *agree)
{
	const struct line_kernel *kernel = line_kernel_best();
	uint8_t changed[PMIG_PAGE_BYTES];
	struct line_prints before, after;

	random_fill(&seed, room, sizeof(room));
	memcpy(changed, room, sizeof(changed));
	change_lines(changed);
	while (keys--) {
		fresh_key();
		kernel->prints(&key, room, &before);
		kernel->prints(&key, changed, &after);
		CHECK(line_changes(&before, &after) == UINT64_MAX);
		for (int l = 0; l < PAGE_LINES; l++)
			agree[l] += (before.line[l] ^ after.line[l]) >> 24 == 0;
	}
}

/*
 * The upper bytes agree for 1 of 256 keys, and for 2 of 256 at worst, however
 * the lines were chosen. The limits leave eight standard deviations.
 */
static void test_chosen_changes_collide_by_chance_only(void)
{
	enum {
		KEYS = 16384,
		EXPECTED = KEYS / 256,
	};
	unsigned int agree[PAGE_LINES] = {0}, sum = 0;

	count_agreeing(KEYS, agree);
	for (int l = 0; l < PAGE_LINES; l++) {
		if (agree[l] > 2 * EXPECTED + 90)
			UNIT_FAIL("change %d collides %u times", l, agree[l]);
		sum += agree[l];
	}
	CHECK(sum < PAGE_LINES * (EXPECTED + EXPECTED / 2));
}

static void test_changes_are_exact(void)
{
	struct line_prints before, after;

	random_fill(&seed, &before, sizeof(before));
	for (int round = 0; round < 1000; round++) {
		uint64_t expected = random_next(&seed) & random_next(&seed);

		after = before;
		for (int l = 0; l < PAGE_LINES; l++)
			if (expected >> l & 1)
				after.line[l] ^= 1u
						 << (random_next(&seed) % 32);
		CHECK(line_changes(&before, &after) == expected);
	}
	CHECK(line_changes(&before, &before) == 0);
}

static void test_keys_differ(void)
{
	struct pmig_error err;
	struct line_key other;

	CHECK_OK(line_key_init(&key, &err), err);
	CHECK_OK(line_key_init(&other, &err), err);
	CHECK(memcmp(other.nh, key.nh, sizeof(key.nh)) != 0);
	CHECK(other.fold != key.fold);
	CHECK(key.fold & other.fold & 1);
}

static void test_scalar_is_always_there(void)
{
	const struct line_kernel *last = &line_kernels[line_kernels_count - 1];

	CHECK(strcmp(last->name, "scalar") == 0);
	CHECK(last->supported());
	CHECK(line_kernel_best()->supported());
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_kernels_agree_on_random_pages),
		UNIT(test_kernels_need_no_alignment),
		UNIT(test_kernels_agree_at_the_limits),
		UNIT(test_every_bit_changes_its_line),
		UNIT(test_moved_words_are_changes),
		UNIT(test_chosen_changes_collide_by_chance_only),
		UNIT(test_changes_are_exact), UNIT(test_keys_differ),
		UNIT(test_scalar_is_always_there), UNIT_END});
}
