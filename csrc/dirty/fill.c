/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty.h"

void dirty_fill(const struct pmig_memory *memory, uint64_t *words)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region_map *map = &memory->maps[i];
		uint64_t left = map->region.size_bytes / PMIG_PAGE_BYTES;
		uint64_t *word = words + map->first_block;

		for (; left >= PMIG_BLOCK_PAGES; left -= PMIG_BLOCK_PAGES)
			pmig_bits_or(word++, ~UINT64_C(0));
		if (left)
			pmig_bits_or(word, pmig_word_mask(0, (unsigned)left));
	}
}
