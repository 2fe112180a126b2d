/* SPDX-License-Identifier: Apache-2.0 */
/* Contents of all kinds and what the test of a few bytes says of them. */
#include <string.h>

#include "codec/compress.h"
#include "codec/sample.h"
#include "random_bytes.h"
#include "unit.h"

enum {
	PAGES = 10000,
};

static uint64_t seed = 6;
static uint8_t page[PMIG_PAGE_BYTES];

/* One in 100,000 is what the threshold gives; ten in 10,000 is broken. */
static void test_random_bytes(void)
{
	int compressible = 0;

	for (int i = 0; i < PAGES; i++) {
		random_fill(&seed, page, sizeof(page));
		compressible += !sample_is_random(page);
	}
	CHECK(compressible < 10);
}

/* What zstd has made of it cannot be made smaller. */
static void test_compressed_bytes(void)
{
	static uint8_t text[PMIG_BLOCK_BYTES], packed[PMIG_BLOCK_BYTES];
	struct compressor *comp;
	struct pmig_error err;
	int compressible = 0;
	uint32_t n;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(random_next(&seed) % 90 % 41 + 'A');
	CHECK_OK(compressor_new(&comp, &err), err);
	n = compressor_run(comp, PMIG_ENCODING_ZSTD, 3, text, sizeof(text),
			   packed, sizeof(packed));
	compressor_free(comp);
	CHECK(n > 20 * sizeof(page));
	for (uint32_t at = 0; at + sizeof(page) <= n; at += sizeof(page))
		compressible += !sample_is_random(packed + at);
	CHECK(compressible <= 1);
}

static void test_zero_and_text(void)
{
	memset(page, 0, sizeof(page));
	CHECK(!sample_is_random(page));
	for (size_t i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(' ' + random_next(&seed) % 95);
	CHECK(!sample_is_random(page));
}

/* Addresses of a heap of 4 GiB, nothing else. */
static void test_pointers(void)
{
	for (int i = 0; i < 1000; i++) {
		for (size_t at = 0; at < sizeof(page); at += 8) {
			uint64_t pointer = 0x7f3200000000 |
					   (random_next(&seed) % (1ull << 32));

			memcpy(page + at, &pointer, sizeof(pointer));
		}
		CHECK(!sample_is_random(page));
	}
}

/* Random keys in records of a power of two, the rest zero. */
static void test_records(void)
{
	for (size_t record = 32; record <= 256; record *= 2)
		for (size_t part = 0; part < 2; part++) {
			memset(page, 0, sizeof(page));
			for (size_t at = 0; at < sizeof(page); at += record)
				random_fill(&seed,
					    page + at + part * record / 2,
					    record / 2);
			CHECK(!sample_is_random(page));
		}
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_random_bytes), UNIT(test_compressed_bytes),
		UNIT(test_zero_and_text), UNIT(test_pointers),
		UNIT(test_records), UNIT_END});
}
