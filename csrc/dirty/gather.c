/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/gather.h"

#include <string.h>

void gather_flush(struct gather *gather)
{
	const struct pmig_memory *memory = gather->dirty->memory;
	uint64_t left = memory->n_blocks - gather->first_block;

	if (!gather->is_open)
		return;
	gather->flush(gather->dirty, gather->first_block, gather->words,
		      left < GATHER_BLOCKS ? left : GATHER_BLOCKS);
	memset(gather->words, 0, sizeof(gather->words));
	gather->is_open = false;
}

/* Have block in the window; the window stays put while it is. */
static void open_window(struct gather *gather, uint64_t block)
{
	if (gather->is_open && block < gather->first_block + GATHER_BLOCKS)
		return;
	gather_flush(gather);
	gather->first_block = block;
	gather->is_open = true;
}

void gather_pages(struct gather *gather, const struct pmig_region_map *map,
		  uint64_t first_page, uint64_t count)
{
	while (count) {
		uint64_t block =
			map->first_block + first_page / PMIG_BLOCK_PAGES;
		unsigned int bit = first_page % PMIG_BLOCK_PAGES;
		unsigned int room = PMIG_BLOCK_PAGES - bit;
		unsigned int n = count < room ? (unsigned int)count : room;

		open_window(gather, block);
		gather->words[block - gather->first_block] |=
			pmig_word_mask(bit, n);
		first_page += n;
		count -= n;
	}
}
