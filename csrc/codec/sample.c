/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many different values do 256 bytes of the page have?
 *
 * Of 256 draws from 256 equally likely values each value stays away with
 * probability (1 - 1/256)^256 = 0.367, so random bytes have 256 x 0.633 =
 * 162.0 different ones, with a standard deviation of 5.0 (occupancy problem:
 * variance 256 x (e^-1 - 2 e^-2)). DISTINCT_RANDOM lies 4.4 of them below:
 * about 1 random page in 100,000 is compressed in vain. From the other side,
 * a page of which the share s is random and the rest alike has 256 x
 * (1 - e^-s) + 1: the threshold is s = 0.79, so with a fifth to save a page is
 * called compressible as often as not, and with a third nearly always.
 * Text has about 40 different bytes, machine code and pointers below 120.
 *
 * Bytes are looked at one by one, so random bytes that are repeated further
 * on in the page count as random: they are sent raw, which is a loss and not
 * an error.
 */
#include "codec/sample.h"

#include <assert.h>
#include <string.h>

enum {
	DISTINCT_RANDOM = 140,
	VALUES = 256,
	/*
	 * Sixteen slices of sixteen bytes. Neighbouring slices lie 256 + 16
	 * bytes apart, so each looks at another part of records whose size is a
	 * power of two, and the last one ends with the page.
	 */
	SLICES = 16,
	SLICE_WORDS = 2,
	STRIDE_BYTES = 272,
};

static_assert((SLICES - 1) * STRIDE_BYTES + SLICE_WORDS * 8 == PMIG_PAGE_BYTES,
	      "the last slice ends with the page");

static inline void see(uint8_t *seen, uint64_t word)
{
	for (int i = 0; i < 8; i++, word >>= 8)
		seen[word & 0xff] = 1;
}

/* Sum of the flags: first in bytes (32 at most), then across them. */
static unsigned int count(const uint8_t *seen)
{
	const uint64_t even = 0x00ff00ff00ff00ff;
	uint64_t sum = 0;

	for (int i = 0; i < VALUES; i += 8) {
		uint64_t flags;

		memcpy(&flags, seen + i, sizeof(flags));
		sum += flags;
	}
	sum = (sum & even) + ((sum >> 8) & even);
	return (unsigned int)((sum * 0x0001000100010001) >> 48);
}

bool sample_is_random(const void *page)
{
	const uint8_t *slice = page;
	uint8_t seen[VALUES] = {0};

	for (int s = 0; s < SLICES; s++, slice += STRIDE_BYTES) {
		uint64_t words[SLICE_WORDS];

		memcpy(words, slice, sizeof(words));
		see(seen, words[0]);
		see(seen, words[1]);
	}
	return count(seen) >= DISTINCT_RANDOM;
}
