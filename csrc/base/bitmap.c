/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

void pmig_bitmap_set(uint64_t *words, uint64_t first, uint64_t count)
{
	while (count) {
		unsigned int bit = first % 64;
		unsigned int n = count < 64 - bit ? count : 64 - bit;

		words[first / 64] |= pmig_word_mask(bit, n);
		first += n;
		count -= n;
	}
}

uint64_t pmig_bitmap_count(const uint64_t *words, uint64_t n_words)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < n_words; i++)
		count += (unsigned int)__builtin_popcountll(words[i]);
	return count;
}

uint64_t pmig_bitmap_next(const uint64_t *words, uint64_t n_bits, uint64_t from,
			  bool value)
{
	uint64_t flip = value ? 0 : ~UINT64_C(0);

	while (from < n_bits) {
		uint64_t word = (words[from / 64] ^ flip) >> (from % 64);

		if (word) {
			from += (unsigned int)__builtin_ctzll(word);
			return from < n_bits ? from : n_bits;
		}
		from = (from / 64 + 1) * 64;
	}
	return n_bits;
}

uint64_t pmig_bitmap_next_run(const uint64_t *words, uint64_t n_bits,
			      uint64_t from, uint64_t *first)
{
	*first = pmig_bitmap_next(words, n_bits, from, true);
	return pmig_bitmap_next(words, n_bits, *first, false) - *first;
}
