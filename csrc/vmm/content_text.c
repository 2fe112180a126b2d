/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content_text.c - pages of text by a model of language
 *
 * Words are numbered by how common they are, and are picked by Zipf's law:
 * number n about as often as 1/n. A word is a function of its number; common
 * ones are short, and its letters are as frequent as in English. Half of the
 * words pull along one to four that always follow them, as set phrases do.
 *
 * Compressed in blocks of 256 KiB this gives 3.5 with zstd -1 and 2.1 with
 * lz4, page by page 2.4 and 1.5: what prose and source code give.
 */
#include <string.h>

#include "vmm/content_kinds.h"
#include "vmm/layout.h"

/* Numbers below 2^12 - 1; of 256, so many words have followers. */
#define RANK_BITS   12
#define FOLLOWED    128
#define MAX_LETTERS 10

static const char letters[] = "eeeeeeeetttttaaaaaoooooiiiinnnnssssh"
			      "hhhrrrrdddlllccuummwwffggypb";

_Static_assert(sizeof(letters) == 65, "six bits choose a letter");

/* Every power of two has the same share: the chance of n is about 1/n. */
static uint32_t pick_rank(uint64_t random)
{
	uint32_t power = (uint32_t)((random & UINT32_MAX) * RANK_BITS >> 32);
	uint32_t below = (1u << power) - 1;

	return below + ((uint32_t)(random >> 32) & below);
}

/* Write a word and a blank; returns how many bytes. */
static size_t put_word(uint32_t rank, char *out)
{
	uint64_t bits = pvmm_mix(rank);
	unsigned int power = 31 - (unsigned int)__builtin_clz(rank + 1);
	size_t n = 2 + (power * 3 + (bits >> 62)) / 5;

	for (size_t i = 0; i < n; i++, bits >>= 6)
		out[i] = letters[bits & 63];
	out[n] = ' ';
	return n + 1;
}

/* One word in 16 ends a clause, some of those a line. */
static size_t put_stop(uint64_t random, char *out)
{
	if (random >> 40 & 15)
		return 0;
	out[-1] = random >> 44 & 3 ? ',' : '.';
	out[0] = random >> 46 & 1 ? '\n' : ' ';
	return 1;
}

void pvmm_content_text(uint64_t state, uint64_t *words)
{
	char text[PVMM_PAGE_BYTES + MAX_LETTERS + 2];
	uint32_t rank = 0, followers = 0;
	size_t used = 0;

	for (uint64_t n = 0; used < PVMM_PAGE_BYTES; n++) {
		uint64_t random = pvmm_mix(state + n);

		if (followers) {
			rank = pick_rank(pvmm_mix(~(uint64_t)rank));
			followers--;
		} else {
			rank = pick_rank(random);
			if ((random >> 48 & 255) < FOLLOWED)
				followers = 1 + (uint32_t)(random >> 62);
		}
		used += put_word(rank, text + used);
		used += put_stop(random, text + used);
	}
	memcpy(words, text, PVMM_PAGE_BYTES);
}
