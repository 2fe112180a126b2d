/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/line.h"

#if defined(__SSE2__)

#include <emmintrin.h>

/* All ones where the four prints at l are the same. */
static inline __m128i same4(const uint32_t *a, const uint32_t *b)
{
	return _mm_cmpeq_epi32(_mm_load_si128((const void *)a),
			       _mm_load_si128((const void *)b));
}

/* A bit for each of sixteen prints that are the same. */
static inline uint64_t same16(const uint32_t *a, const uint32_t *b)
{
	__m128i low = _mm_packs_epi32(same4(a, b), same4(a + 4, b + 4));
	__m128i high =
		_mm_packs_epi32(same4(a + 8, b + 8), same4(a + 12, b + 12));

	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}

/* SSE2 belongs to x86-64: it is always there, and narrowing is cheap. */
uint64_t line_changes(const struct line_prints *before,
		      const struct line_prints *after)
{
	const uint32_t *a = before->line;
	const uint32_t *b = after->line;

	return ~(same16(a, b) | same16(a + 16, b + 16) << 16 |
		 same16(a + 32, b + 32) << 32 | same16(a + 48, b + 48) << 48);
}

#else

uint64_t line_changes(const struct line_prints *before,
		      const struct line_prints *after)
{
	uint64_t changed = 0;

	for (int l = 0; l < PAGE_LINES; l++)
		changed |= (uint64_t)(before->line[l] != after->line[l]) << l;
	return changed;
}

#endif
