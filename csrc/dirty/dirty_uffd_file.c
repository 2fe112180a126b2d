/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of the pages that look written does the file hold?
 *
 * What a file holds is remembered, so that it is asked about each page once
 * and not at every harvest. A page that is given back later counts as held:
 * it is marked by the caller in any case.
 */
#include "dirty/dirty_uffd_scan.h"
#include "memory/holes.h"

/**
 * struct held_walk - on the way through some pages of a file
 * @unarmed:	the region's part of dirty->unarmed
 * @held:	the region's part of uffd_async.held
 * @at:		next page, counted from the start of the region
 * @end:	behind the last one
 * @first:	where the walk began
 * @file:	what the file says, counted from @first
 */
struct held_walk {
	const uint64_t *unarmed;
	uint64_t *held;
	uint64_t at;
	uint64_t end;
	uint64_t first;
	struct pmig_data_walk file;
};

/* Pages from walk->at on, in its block, whose bit in word is set. */
static uint64_t run_in(const struct held_walk *walk, uint64_t word)
{
	unsigned int bit = walk->at % PMIG_BLOCK_PAGES;
	uint64_t gap = ~(word >> bit);
	uint64_t n =
		gap ? (unsigned int)__builtin_ctzll(gap) : PMIG_BLOCK_PAGES;
	uint64_t left = walk->end - walk->at;

	return n < left ? n : left;
}

static void remember(const struct held_walk *walk, uint64_t n)
{
	for (uint64_t page = walk->at; n;) {
		unsigned int bit = page % PMIG_BLOCK_PAGES;
		unsigned int room = PMIG_BLOCK_PAGES - bit;
		unsigned int part = n < room ? (unsigned int)n : room;

		pmig_bits_or(&walk->held[page / PMIG_BLOCK_PAGES],
			     pmig_word_mask(bit, part));
		page += part;
		n -= part;
	}
}

/* Move on to what the file holds next, and say how much that is. */
static uint64_t ask(struct held_walk *walk)
{
	uint64_t found, n;

	walk->file.page = walk->at - walk->first;
	/* a file that does not answer is taken to hold everything */
	if (pmig_data_next(&walk->file, &found, &n, NULL))
		return walk->end - walk->at;
	walk->at = n ? walk->first + found : walk->end;
	remember(walk, n);
	return n;
}

void uffd_gather_held(const struct pmig_dirty *dirty,
		      const struct pmig_region_map *map, uint64_t first,
		      uint64_t count, struct gather *gather)
{
	const struct uffd_async *u = dirty->impl;
	const struct pmig_span span = {
		.map = map,
		.hva = (uint8_t *)map->region.hva + first * PMIG_PAGE_BYTES,
		.offset_bytes = first * PMIG_PAGE_BYTES,
		.size_bytes = count * PMIG_PAGE_BYTES,
	};
	struct held_walk walk = {
		.unarmed = dirty->unarmed + map->first_block,
		.held = u->held + map->first_block,
		.at = first,
		.end = first + count,
		.first = first,
		.file = {.span = &span},
	};

	while (walk.at < walk.end) {
		uint64_t block = walk.at / PMIG_BLOCK_PAGES;
		uint64_t n =
			run_in(&walk, pmig_bits_load(&walk.unarmed[block]));

		if (!n) {
			n = run_in(&walk, pmig_bits_load(&walk.held[block]));
			if (!n)
				n = ask(&walk);
			gather_pages(gather, map, walk.at, n);
		}
		walk.at += n;
	}
}
