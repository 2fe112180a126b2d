/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather.h - from runs of pages to words of blocks
 *
 * Collects runs, given in ascending order within a region, and passes them
 * on a window of blocks at a time.
 */
#ifndef PMIG_DIRTY_GATHER_H
#define PMIG_DIRTY_GATHER_H

#include "dirty/dirty.h"

enum {
	GATHER_BLOCKS = 64,
};

/**
 * struct gather - a window being filled
 * @dirty:	passed to flush
 * @flush:	takes what was gathered
 * @first_block: first block of the window
 * @words:	one per block of the window
 * @is_open:	whether anything is in it
 */
struct gather {
	struct pmig_dirty *dirty;
	void (*flush)(struct pmig_dirty *dirty, uint64_t first_block,
		      const uint64_t *words, uint64_t n_blocks);
	uint64_t first_block;
	uint64_t words[GATHER_BLOCKS];
	bool is_open;
};

/* Add count pages of a region. */
void gather_pages(struct gather *gather, const struct pmig_region_map *map,
		  uint64_t first_page, uint64_t count);

/* Pass on what is left. */
void gather_flush(struct gather *gather);

#endif
