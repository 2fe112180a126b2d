/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content_heap.c - pages of a heap by a model of objects
 *
 * Objects of 16 to 256 bytes lie one behind the other, each after a word with
 * its size, as allocators keep it. An object has one of a few shapes, which
 * say for each of its words what that holds:
 *
 *	zero	unused room, null pointers: 3 of 8
 *	pointer to an object: a multiple of 16 within 64 MiB of one heap
 *	small	counts, lengths, flags: below 256, most below 16
 *	table	one of 64 addresses in a library: virtual tables, types
 *	bytes	a few characters of a string
 *
 * Shapes repeat in runs, as the nodes of one container do. Compressed in
 * blocks of 256 KiB this gives 3.6 with zstd -1 and 2.4 with lz4: less than
 * the heap of an interpreter, which has many zero pages and equal objects.
 */
#include <string.h>

#include "vmm/content_kinds.h"
#include "vmm/layout.h"

#define HEAP_ADDRESS  0x000055d4c8e3f000ull
#define HEAP_BYTES    (64ull << 20)
#define TABLE_ADDRESS 0x00007f3a91c40000ull
#define N_TABLES      64
#define N_SHAPES      24

enum field {
	FIELD_POINTER,
	FIELD_SMALL,
	FIELD_TABLE,
	FIELD_BYTES,
	FIELD_ZERO,
};

/* What word i of a shape holds. The first word tells the type. */
static enum field field_of(uint64_t shape, unsigned int i)
{
	uint64_t random = pvmm_mix(shape * 64 + i);

	if (!i)
		return FIELD_TABLE;
	switch (random & 7) {
	case 0:
	case 1:
		return FIELD_POINTER;
	case 2:
	case 3:
		return FIELD_SMALL;
	case 4:
		return random >> 8 & 3 ? FIELD_POINTER : FIELD_BYTES;
	default:
		return FIELD_ZERO;
	}
}

static uint64_t value_of(enum field field, uint64_t shape, uint64_t random)
{
	switch (field) {
	case FIELD_POINTER:
		return HEAP_ADDRESS + random % HEAP_BYTES / 16 * 16;
	case FIELD_SMALL:
		return random & 3 ? random >> 8 & 15 : random >> 8 & 255;
	case FIELD_TABLE:
		return TABLE_ADDRESS + shape % N_TABLES * 0x1a8;
	case FIELD_BYTES:
		/* eight small letters */
		return 0x6161616161616161 + (random & 0x0f0f0f0f0f0f0f0f);
	default:
		return 0;
	}
}

void pvmm_content_heap(uint64_t state, uint64_t *words)
{
	uint64_t shape = 0, random, n_words, run = 0;
	unsigned int at = 0;

	for (uint64_t n = 0; at < PVMM_PAGE_WORDS; n++) {
		random = pvmm_mix(state + n * 64);
		if (!run--) {
			shape = random % N_SHAPES;
			run = random >> 32 & 7;
		}
		n_words = 2 + pvmm_mix(~shape) % 31;
		words[at++] = n_words * 8 | 1;
		for (unsigned int i = 0; i < n_words && at < PVMM_PAGE_WORDS;
		     i++)
			words[at++] = value_of(field_of(shape, i), shape,
					       pvmm_mix(random + i));
	}
}
