/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A delta brings the page over; one that lies about its size changes nothing.
 * Buffers are allocated to the byte, so that AddressSanitizer sees one too
 * many read or written.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "codec/delta.h"
#include "random_bytes.h"
#include "unit.h"

static uint64_t seed = 3;

static uint8_t *exactly(size_t size_bytes)
{
	uint8_t *made = malloc(size_bytes);

	CHECK(made);
	return made;
}

static void change_lines(uint8_t *page, uint64_t lines)
{
	for (int l = 0; l < PAGE_LINES; l++)
		if (lines >> l & 1)
			random_fill(&seed, page + l * LINE_BYTES, LINE_BYTES);
}

static void check_carried(uint64_t lines)
{
	uint8_t *old = exactly(PMIG_PAGE_BYTES);
	uint8_t *new = exactly(PMIG_PAGE_BYTES);
	uint8_t *delta = exactly(delta_bytes(lines));

	random_fill(&seed, old, PMIG_PAGE_BYTES);
	memcpy(new, old, PMIG_PAGE_BYTES);
	change_lines(new, lines);
	CHECK_EQ(delta_encode(new, lines, delta), delta_bytes(lines));
	CHECK_EQ(delta_apply(old, delta, delta_bytes(lines)), 0);
	CHECK(memcmp(old, new, PMIG_PAGE_BYTES) == 0);
	free(old);
	free(new);
	free(delta);
}

static void test_delta_is_carried(void)
{
	check_carried(1);
	check_carried(1ull << 63);
	check_carried(~0ull);
	for (int l = 0; l < PAGE_LINES; l++)
		check_carried(1ull << l);
	for (int round = 0; round < 500; round++)
		check_carried(random_next(&seed) | 1);
}

/* As docs/stream-format.md has it, byte by byte. */
static void test_layout(void)
{
	uint8_t page[PMIG_PAGE_BYTES], delta[8 + 2 * LINE_BYTES];

	random_fill(&seed, page, sizeof(page));
	CHECK_EQ(delta_encode(page, 1ull << 1 | 1ull << 63, delta),
		 sizeof(delta));
	CHECK(memcmp(delta, "\2\0\0\0\0\0\0\x80", 8) == 0);
	CHECK(memcmp(delta + 8, page + 64, 64) == 0);
	CHECK(memcmp(delta + 72, page + 63 * 64, 64) == 0);
	CHECK_EQ(DELTA_MAX_BYTES, delta_bytes(~0ull));
}

/* A mask with size_bytes - 8 bytes behind it, whatever it asks for. */
static int apply_to_copy(uint64_t lines, uint32_t size_bytes, bool *touched)
{
	uint8_t *delta = exactly(size_bytes ? size_bytes : 1);
	uint8_t *page = exactly(PMIG_PAGE_BYTES);
	uint8_t before[PMIG_PAGE_BYTES];
	uint64_t mask = htole64(lines);
	int rc;

	random_fill(&seed, page, PMIG_PAGE_BYTES);
	random_fill(&seed, delta, size_bytes);
	memcpy(before, page, sizeof(before));
	memcpy(delta, &mask, size_bytes < 8 ? size_bytes : 8);
	rc = delta_apply(page, delta, size_bytes);
	*touched = memcmp(before, page, sizeof(before)) != 0;
	free(delta);
	free(page);
	return rc;
}

static void check_refused(uint64_t lines, uint32_t size_bytes)
{
	bool touched;

	CHECK_EQ(apply_to_copy(lines, size_bytes, &touched), -EBADMSG);
	CHECK(!touched);
}

static void test_lies_are_refused(void)
{
	for (uint32_t size = 0; size <= DELTA_MAX_BYTES + 64; size++) {
		if (size != delta_bytes(~0ull))
			check_refused(~0ull, size);
		if (size != delta_bytes(0xf0))
			check_refused(0xf0, size);
		check_refused(0, size);
	}
}

static void test_random_deltas(void)
{
	for (int round = 0; round < 2000; round++) {
		uint64_t lines = random_next(&seed);
		uint32_t size = random_next(&seed) % (DELTA_MAX_BYTES + 100);
		bool touched;
		int rc = apply_to_copy(lines, size, &touched);

		CHECK_EQ(rc, size == delta_bytes(lines) ? 0 : -EBADMSG);
		CHECK_EQ(touched, rc == 0);
	}
}

static void test_delta_needs_no_alignment(void)
{
	uint8_t page[PMIG_PAGE_BYTES], room[8 + LINE_BYTES + 1];

	random_fill(&seed, page, sizeof(page));
	CHECK_EQ(delta_encode(page, 4, room + 1), 8 + LINE_BYTES);
	memset(page + 2 * LINE_BYTES, 0, LINE_BYTES);
	CHECK_EQ(delta_apply(page, room + 1, 8 + LINE_BYTES), 0);
	CHECK(memcmp(page + 2 * LINE_BYTES, room + 9, LINE_BYTES) == 0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_delta_is_carried), UNIT(test_layout),
		UNIT(test_lies_are_refused), UNIT(test_random_deltas),
		UNIT(test_delta_needs_no_alignment), UNIT_END});
}
