/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bitmap.h - bitmaps in 64-bit words
 *
 * Bit n of a bitmap is bit n % 64 of word n / 64: the layout of KVM's dirty
 * log and of everything here. The pmig_bits_*() are for words that several
 * threads change at once.
 */
#ifndef PMIG_BASE_BITMAP_H
#define PMIG_BASE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

/* Bits first to first + count - 1 of one word; first + count <= 64. */
static inline uint64_t pmig_word_mask(unsigned int first, unsigned int count)
{
	if (!count)
		return 0;
	return (~UINT64_C(0) >> (64 - count)) << first;
}

/* Words that hold n_bits. */
static inline uint64_t pmig_bitmap_words(uint64_t n_bits)
{
	return n_bits / 64 + (n_bits % 64 != 0);
}

static inline bool pmig_bitmap_test(const uint64_t *words, uint64_t bit)
{
	return words[bit / 64] >> (bit % 64) & 1;
}

/* Set count bits from first on. */
void pmig_bitmap_set(uint64_t *words, uint64_t first, uint64_t count);

/* Number of bits set in n_words. */
uint64_t pmig_bitmap_count(const uint64_t *words, uint64_t n_words);

/**
 * pmig_bitmap_next() - find a bit
 * @words:	the bitmap
 * @n_bits:	its size
 * @from:	first bit looked at
 * @value:	whether a set or a clear bit is looked for
 *
 * Return: its number, or @n_bits when there is none.
 */
uint64_t pmig_bitmap_next(const uint64_t *words, uint64_t n_bits, uint64_t from,
			  bool value);

/**
 * pmig_bitmap_next_run() - find a run of set bits
 * @words:	the bitmap
 * @n_bits:	its size
 * @from:	first bit looked at
 * @first:	receives the first bit of the run
 *
 * Return: the length of the run, 0 when no bit is set from @from on. To walk
 * all runs, go on at *@first plus the length.
 */
uint64_t pmig_bitmap_next_run(const uint64_t *words, uint64_t n_bits,
			      uint64_t from, uint64_t *first);

/* OR bits into a shared word, and publish what was written before. */
static inline void pmig_bits_or(uint64_t *word, uint64_t bits)
{
	__atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}

/* Clear bits of a shared word. */
static inline void pmig_bits_clear(uint64_t *word, uint64_t bits)
{
	__atomic_fetch_and(word, ~bits, __ATOMIC_SEQ_CST);
}

/* Take all bits of a shared word. */
static inline uint64_t pmig_bits_take(uint64_t *word)
{
	/* an idle word stays in everybody's cache */
	if (!__atomic_load_n(word, __ATOMIC_SEQ_CST))
		return 0;
	return __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST);
}

/* Take some bits of a shared word; the others stay. */
static inline uint64_t pmig_bits_take_some(uint64_t *word, uint64_t bits)
{
	if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & bits))
		return 0;
	return __atomic_fetch_and(word, ~bits, __ATOMIC_SEQ_CST) & bits;
}

static inline uint64_t pmig_bits_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

#endif
