/* SPDX-License-Identifier: Apache-2.0 */
/* encode_trial.c - trying compressors that are not in use; see encode.h */
#include <string.h>

#include "base/clock.h"
#include "codec/sample.h"
#include "transfer/draft.h"
#include "transfer/encode.h"

/* Copy pages that do not look random; the number of them. */
static uint32_t copy_some(struct encoder *encoder, const struct draft *draft,
			  uint64_t pages, uint32_t limit)
{
	uint32_t n = 0, seen = 0, random = 0;

	for (; pages && seen < limit; pages &= pages - 1, seen++) {
		uint8_t *copy = encoder->scratch + (size_t)n * PMIG_PAGE_BYTES;

		memcpy(copy,
		       draft_page(draft, (unsigned int)__builtin_ctzll(pages)),
		       PMIG_PAGE_BYTES);
		if (sample_is_random(copy))
			random++;
		else
			n++;
	}
	choice_saw(&encoder->choice, seen, random);
	return n;
}

void encode_trial(struct encoder *encoder, const struct draft *draft)
{
	uint64_t pages = draft->pages->mask & ~draft->pages->zero_mask;
	uint8_t *out = encoder->scratch + PMIG_BLOCK_BYTES;
	const struct choice_candidate *candidate;
	uint32_t n, bytes, stored;
	uint64_t begin_ns;
	unsigned int index;

	index = pages ? choice_trial(&encoder->choice, &encoder->climate,
				     encoder->encodings)
		      : CHOICE_RAW;
	if (index == CHOICE_RAW)
		return;
	candidate = &choice_candidates[index];
	n = copy_some(encoder, draft, pages, candidate->group_pages);
	if (n == 0)
		return;
	bytes = n * PMIG_PAGE_BYTES;
	begin_ns = pmig_cpu_now_ns();
	stored = compressor_run(encoder->compressor, candidate->encoding,
				candidate->level, encoder->scratch, bytes, out,
				bytes);
	choice_learn(&encoder->choice, index, n,
		     (double)(pmig_cpu_now_ns() - begin_ns),
		     stored ? stored : bytes);
}
