/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is compressed comes back; what a peer made up is refused and stays
 * within its buffers. Nothing can be touched behind them: AddressSanitizer
 * would not see what the libraries do, which are the system's.
 */
#include <errno.h>
#include <string.h>

#include "codec/compress.h"
#include "guarded.h"
#include "random_bytes.h"
#include "unit.h"

static const enum pmig_encoding both[] = {PMIG_ENCODING_LZ4,
					  PMIG_ENCODING_ZSTD};

static uint64_t seed = 4;
static uint8_t block[PMIG_BLOCK_BYTES];
static uint8_t packed[2 * PMIG_BLOCK_BYTES];
static struct compressor *comp;
static struct decompressor *decomp;

/* Each test begins with contexts as new; the last ones live to the end. */
static void set_up(void)
{
	struct pmig_error err;

	compressor_free(comp);
	decompressor_free(decomp);
	comp = NULL;
	decomp = NULL;
	CHECK_OK(compressor_new(&comp, &err), err);
	CHECK_OK(decompressor_new(&decomp, &err), err);
}

/* Words of few letters: compresses to about a third. */
static void fill_text(void)
{
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] =
			"etaoinshrdlu ..\n"[random_next(&seed) % 16 *
					    (random_next(&seed) % 3) / 2 % 16];
}

static uint32_t pack(enum pmig_encoding encoding, int level, uint32_t size)
{
	return compressor_run(comp, encoding, level, block, size, packed,
			      sizeof(packed));
}

/* Decompress from and into buffers of exactly these sizes. */
static int unpack(enum pmig_encoding encoding, const uint8_t *in,
		  uint32_t in_bytes, uint32_t size_bytes, bool *same)
{
	struct guarded from, to;
	int rc;

	guarded_copy(&from, in, in_bytes);
	guarded_open(&to, size_bytes);
	rc = decompressor_run(decomp, encoding, from.data, in_bytes, to.data,
			      size_bytes);
	*same = !rc && memcmp(to.data, block, size_bytes) == 0;
	CHECK(guarded_intact(&to));
	guarded_close(&from);
	guarded_close(&to);
	return rc;
}

static void check_refused(enum pmig_encoding encoding, const uint8_t *in,
			  uint32_t in_bytes, uint32_t size_bytes)
{
	bool same;

	CHECK_EQ(unpack(encoding, in, in_bytes, size_bytes, &same), -EBADMSG);
}

static void check_carried(enum pmig_encoding encoding, int level, uint32_t size)
{
	uint32_t n = pack(encoding, level, size);
	bool same;

	CHECK(n > 0);
	CHECK_EQ(unpack(encoding, packed, n, size, &same), 0);
	CHECK(same);
}

static void check_sizes(enum pmig_encoding encoding, int level)
{
	static const uint32_t pages[] = {64, 1, 3, 4, 16, 17};

	for (int i = 0; i < 6; i++)
		check_carried(encoding, level, pages[i] * PMIG_PAGE_BYTES);
}

static void test_pages_come_back(void)
{
	static const int levels[] = {0, 1, -1, -5, -50, 3, 19, 1};

	set_up();
	fill_text();
	for (int i = 0; i < 8; i++)
		check_sizes(PMIG_ENCODING_ZSTD, levels[i]);
	check_sizes(PMIG_ENCODING_LZ4, 0);
	check_sizes(PMIG_ENCODING_LZ4, 64);
	memset(block, 0, sizeof(block));
	check_sizes(PMIG_ENCODING_ZSTD, 1);
	check_sizes(PMIG_ENCODING_LZ4, 1);
}

/* Noise, words and zeros by turns: all that a compressor has ways for. */
static void fill_mixed(void)
{
	size_t n;

	fill_text();
	for (size_t at = 0; at < sizeof(block); at += n) {
		uint64_t random = random_next(&seed);

		n = 1 + (random >> 8) % 700;
		if (n > sizeof(block) - at)
			n = sizeof(block) - at;
		if (random % 3 == 0)
			random_fill(&seed, block + at, n);
		else if (random % 3 == 1)
			memset(block + at, (int)(random >> 60), n);
	}
}

static void test_every_level_and_size(void)
{
	set_up();
	fill_mixed();
	for (int level = -50; level <= 19; level++)
		check_sizes(PMIG_ENCODING_ZSTD, level);
	for (uint32_t pages = 1; pages <= PMIG_BLOCK_PAGES; pages++) {
		check_carried(PMIG_ENCODING_ZSTD, 1, pages * PMIG_PAGE_BYTES);
		check_carried(PMIG_ENCODING_ZSTD, -5, pages * PMIG_PAGE_BYTES);
		check_carried(PMIG_ENCODING_LZ4, 1, pages * PMIG_PAGE_BYTES);
	}
}

/* Out of a used compressor comes what a new one gives. */
static void test_nothing_is_left_of_other_levels(void)
{
	static const int levels[] = {1, 19, -5, 0, 7, 1, -50, 3};

	for (int i = 0; i < 8; i++) {
		uint32_t size = 9 * PMIG_PAGE_BYTES, alone;

		set_up();
		fill_mixed();
		alone = pack(PMIG_ENCODING_ZSTD, levels[i], size);
		for (int k = 0; k < 8; k++)
			pack(PMIG_ENCODING_ZSTD, levels[k], sizeof(block));
		CHECK_EQ(pack(PMIG_ENCODING_ZSTD, levels[i], size), alone);
	}
}

static void test_levels_take_effect(void)
{
	set_up();
	fill_text();
	CHECK(pack(PMIG_ENCODING_ZSTD, 19, sizeof(block)) <
	      pack(PMIG_ENCODING_ZSTD, 1, sizeof(block)));
	CHECK(pack(PMIG_ENCODING_ZSTD, 1, sizeof(block)) <
	      pack(PMIG_ENCODING_ZSTD, -20, sizeof(block)));
	CHECK_EQ(pack(PMIG_ENCODING_ZSTD, 0, sizeof(block)),
		 pack(PMIG_ENCODING_ZSTD, 1, sizeof(block)));
	CHECK(pack(PMIG_ENCODING_LZ4, 1, sizeof(block)) <
	      pack(PMIG_ENCODING_LZ4, 64, sizeof(block)));
}

/* Nothing is written behind the capacity, down to none at all. */
static void test_capacity_is_kept(void)
{
	uint32_t size = PMIG_PAGE_BYTES;

	set_up();
	fill_text();
	for (int e = 0; e < 2; e++) {
		uint32_t n = pack(both[e], 1, size);

		for (uint32_t room = 0; room < n; room++) {
			struct guarded out;

			guarded_open(&out, room);
			CHECK_EQ(compressor_run(comp, both[e], 1, block, size,
						out.data, room),
				 0);
			CHECK(guarded_intact(&out));
			guarded_close(&out);
		}
	}
	random_fill(&seed, block, sizeof(block));
	for (int e = 0; e < 2; e++)
		CHECK_EQ(compressor_run(comp, both[e], 1, block, size, packed,
					size),
			 0);
}

static void test_sizes_out_of_range(void)
{
	set_up();
	for (int e = 0; e < 2; e++) {
		CHECK_EQ(pack(both[e], 1, 0), 0);
		CHECK_EQ(pack(both[e], 1, sizeof(block) + 1), 0);
		check_refused(both[e], packed, 0, PMIG_PAGE_BYTES);
		check_refused(both[e], packed, sizeof(block) + 1,
			      PMIG_PAGE_BYTES);
		check_refused(both[e], packed, 100, 0);
	}
	CHECK_EQ(pack(PMIG_ENCODING_RAW, 1, PMIG_PAGE_BYTES), 0);
	check_refused(PMIG_ENCODING_DELTA, packed, 100, PMIG_PAGE_BYTES);
}

static void test_truncated(void)
{
	set_up();
	fill_text();
	for (int e = 0; e < 2; e++) {
		uint32_t n = pack(both[e], 1, PMIG_PAGE_BYTES);

		for (uint32_t left = 0; left < n; left++)
			check_refused(both[e], packed, left, PMIG_PAGE_BYTES);
	}
}

static void test_size_is_a_lie(void)
{
	static const int32_t off[] = {-4096, -64, -1, 1, 64, 4096};

	set_up();
	fill_text();
	for (int e = 0; e < 2; e++) {
		uint32_t n = pack(both[e], 1, 4 * PMIG_PAGE_BYTES);

		for (int i = 0; i < 6; i++)
			check_refused(both[e], packed, n,
				      (uint32_t)(4 * PMIG_PAGE_BYTES + off[i]));
	}
}

/* May still decompress, but never outside; same sizes, or -EBADMSG. */
static void test_garbled(void)
{
	set_up();
	for (int round = 0; round < 3000; round++) {
		enum pmig_encoding encoding = both[round % 2];
		uint32_t size = (1 + round % 4) * PMIG_PAGE_BYTES;
		uint32_t n;
		bool same;
		int rc;

		fill_text();
		n = pack(encoding, round % 5 - 2, size);
		for (uint64_t flips = 1 + random_next(&seed) % 8; flips;
		     flips--)
			packed[random_next(&seed) % n] ^=
				1 + random_next(&seed) % 255;
		rc = unpack(encoding, packed, n, size, &same);
		CHECK(rc == 0 || rc == -EBADMSG);
	}
}

static void test_noise(void)
{
	set_up();
	for (int round = 0; round < 3000; round++) {
		uint32_t n = 1 + random_next(&seed) % 5000;
		bool same;
		int rc;

		random_fill(&seed, packed, n);
		if (round % 4 == 1)
			memcpy(packed, "\x28\xb5\x2f\xfd", n < 4 ? n : 4);
		rc = unpack(both[round % 2], packed, n, PMIG_PAGE_BYTES, &same);
		CHECK(rc == 0 || rc == -EBADMSG);
		CHECK(!same);
	}
}

/* Matches that begin before the output, or at it; lengths without end. */
static void test_hostile_lz4(void)
{
	static const char *const cases[] = {
		"\x0f\x01\x80\xff",
		"\x1fx\xff\xff\xff",
		"\x1fx\x02\x80\x10",
		"\xf0\xff\xff",
		"\xf0",
	};
	uint8_t endless[PMIG_PAGE_BYTES];

	set_up();
	for (int i = 0; i < 5; i++)
		check_refused(PMIG_ENCODING_LZ4, (const uint8_t *)cases[i],
			      (uint32_t)strlen(cases[i]), PMIG_PAGE_BYTES);
	memset(endless, 0xff, sizeof(endless));
	check_refused(PMIG_ENCODING_LZ4, endless, sizeof(endless),
		      PMIG_PAGE_BYTES);
	memcpy(endless, "\x1fx\x01\x00", 4); /* one byte, a megabyte of it */
	check_refused(PMIG_ENCODING_LZ4, endless, sizeof(endless),
		      PMIG_BLOCK_BYTES);
}

/* A frame still decompresses after any refusal: contexts do not stick. */
static void test_usable_after_refusal(void)
{
	set_up();
	fill_text();
	for (int e = 0; e < 2; e++) {
		memset(packed, 0x77, 100);
		check_refused(both[e], packed, 100, PMIG_PAGE_BYTES);
		check_carried(both[e], 1, PMIG_PAGE_BYTES);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_pages_come_back), UNIT(test_every_level_and_size),
		UNIT(test_nothing_is_left_of_other_levels),
		UNIT(test_levels_take_effect), UNIT(test_capacity_is_kept),
		UNIT(test_sizes_out_of_range), UNIT(test_truncated),
		UNIT(test_size_is_a_lie), UNIT(test_garbled), UNIT(test_noise),
		UNIT(test_hostile_lz4), UNIT(test_usable_after_refusal),
		UNIT_END});
}
