/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is compressed comes back; what a peer made up is refused and stays
 * within its buffers. They are allocated to the byte, so that
 * AddressSanitizer sees one too many read or written.
 */
#include <errno.h>
#include <string.h>

#include "codec/compress.h"
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
	uint8_t *from = malloc(in_bytes ? in_bytes : 1);
	uint8_t *to = malloc(size_bytes ? size_bytes : 1);
	int rc;

	CHECK(from && to);
	memcpy(from, in, in_bytes);
	rc = decompressor_run(decomp, encoding, from, in_bytes, to, size_bytes);
	*same = !rc && memcmp(to, block, size_bytes) == 0;
	free(from);
	free(to);
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
			uint8_t *out = malloc(room ? room : 1);

			CHECK(out);
			CHECK_EQ(compressor_run(comp, both[e], 1, block, size,
						out, room),
				 0);
			free(out);
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
		UNIT(test_pages_come_back), UNIT(test_levels_take_effect),
		UNIT(test_capacity_is_kept), UNIT(test_sizes_out_of_range),
		UNIT(test_truncated), UNIT(test_size_is_a_lie),
		UNIT(test_garbled), UNIT(test_noise),
		UNIT(test_usable_after_refusal), UNIT_END});
}
