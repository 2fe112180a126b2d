/* SPDX-License-Identifier: Apache-2.0 */
/* Contents of all kinds and what the test of a few bytes says of them. */
#include <link.h>
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

/**
 * struct seen - pages of one kind
 * @pages:	looked at
 * @random:	that look random
 */
struct seen {
	unsigned int pages;
	unsigned int random;
};

static int look_at_code(struct dl_phdr_info *info, size_t size, void *context)
{
	struct seen *seen = context;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		const uint8_t *at =
			(const uint8_t *)(info->dlpi_addr + part->p_vaddr);

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		for (size_t n = part->p_memsz / PMIG_PAGE_BYTES; n; n--) {
			seen->pages++;
			seen->random += sample_is_random(at);
			at += PMIG_PAGE_BYTES;
		}
	}
	return 0;
}

/* That of this program and its libraries, as it lies in memory. */
static void test_machine_code(void)
{
	struct seen seen = {0};

	dl_iterate_phdr(look_at_code, &seen);
	printf("# %u of %u pages of code look random\n", seen.random,
	       seen.pages);
	CHECK(seen.pages > 300);
	CHECK(seen.random <= seen.pages / 50);
}

/* Programs of this system, as gzip makes them small. */
static void test_gzip(void)
{
	FILE *gzip = popen("cat /usr/bin/[a-z]* 2>/dev/null | "
			   "head -c 8000000 | gzip",
			   "r");
	struct seen seen = {0};

	CHECK(gzip);
	while (fread(page, sizeof(page), 1, gzip) == 1) {
		seen.pages++;
		seen.random += sample_is_random(page);
	}
	CHECK_EQ(pclose(gzip), 0);
	printf("# %u of %u pages of gzip look random\n", seen.random,
	       seen.pages);
	CHECK(seen.pages > 300);
	CHECK(seen.random >= seen.pages - seen.pages / 50);
}

/* Of 1000 pages of which so many lines are random, those called random. */
static unsigned int count_partly_random(unsigned int lines, bool scattered)
{
	unsigned int random = 0;

	for (int i = 0; i < 1000; i++) {
		memset(page, 0, sizeof(page));
		for (unsigned int l = 0; l < 64; l++)
			if ((scattered ? l * 29 % 64 : l) < lines)
				random_fill(&seed, page + 64 * l, 64);
		random += sample_is_random(page);
	}
	return random;
}

/* With half to save none is missed, with a twentieth none is worth it. */
static void test_partly_random(void)
{
	for (int scattered = 0; scattered < 2; scattered++) {
		CHECK_EQ(count_partly_random(32, scattered), 0);
		CHECK(count_partly_random(42, scattered) < 100);
		CHECK(count_partly_random(61, scattered) > 990);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_random_bytes), UNIT(test_compressed_bytes),
		UNIT(test_zero_and_text), UNIT(test_pointers),
		UNIT(test_records), UNIT(test_machine_code), UNIT(test_gzip),
		UNIT(test_partly_random), UNIT_END});
}
