/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "dirty/dirty.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Mark bytes first to last of a region. */
static void mark_region(struct pmig_dirty *dirty,
			const struct pmig_region_map *map, uint64_t first_byte,
			uint64_t last_byte)
{
	uint64_t page = first_byte / PMIG_PAGE_BYTES;
	uint64_t end = last_byte / PMIG_PAGE_BYTES + 1;

	while (page < end) {
		unsigned int bit = page % PMIG_BLOCK_PAGES;
		uint64_t n = min_u64(end - page, PMIG_BLOCK_PAGES - bit);

		page_set_add(&dirty->marks,
			     map->first_block + page / PMIG_BLOCK_PAGES,
			     pmig_word_mask(bit, (unsigned int)n));
		page += n;
	}
}

int pmig_dirty_mark(struct pmig_dirty *dirty, uint64_t gpa, uint64_t size_bytes)
{
	while (size_bytes) {
		const struct pmig_region_map *map =
			pmig_memory_by_gpa(dirty->memory, gpa, 1);
		uint64_t offset, n_bytes;

		if (!map)
			return -EINVAL;
		offset = gpa - map->region.gpa;
		n_bytes = min_u64(size_bytes, map->region.size_bytes - offset);
		mark_region(dirty, map, offset, offset + n_bytes - 1);
		gpa += n_bytes;
		size_bytes -= n_bytes;
	}
	return 0;
}

/* Groups of the set are not aligned with regions; units are looked up. */
static void apply_marks(struct pmig_dirty *dirty, uint64_t block, uint64_t bits)
{
	pthread_mutex_t *lock = dirty_lock_of(
		dirty, pmig_memory_map_of(dirty->memory, block), block);

	pthread_mutex_lock(lock);
	if (dirty->ops->marks_unarm)
		dirty_unarm_locked(dirty, block, bits);
	else
		dirty_pend_locked(dirty, block, bits);
	pthread_mutex_unlock(lock);
}

void dirty_drain_marks(struct pmig_dirty *dirty)
{
	uint64_t words[PAGE_SET_GROUP_BLOCKS];

	for (uint64_t group = 0; group < dirty->marks.n_groups; group++) {
		uint64_t first = group * PAGE_SET_GROUP_BLOCKS;

		if (!page_set_take(&dirty->marks, group, words))
			continue;
		for (int i = 0; i < PAGE_SET_GROUP_BLOCKS; i++)
			if (words[i])
				apply_marks(dirty, first + (unsigned int)i,
					    words[i]);
	}
}
