/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty.h"

/* Blocks of a unit: as many as one backing page spans, if that is more. */
static uint64_t unit_blocks(const struct pmig_region_map *map)
{
	uint64_t n = map->region.page_size_bytes / PMIG_BLOCK_BYTES;

	return n > DIRTY_UNIT_BLOCKS ? n : DIRTY_UNIT_BLOCKS;
}

void dirty_unit(const struct pmig_dirty *dirty, uint64_t first_block,
		uint64_t n_blocks, struct pmig_span *span)
{
	const struct pmig_region_map *map =
		pmig_memory_map_of(dirty->memory, first_block);
	uint64_t size = unit_blocks(map);
	uint64_t left = size - (first_block - map->first_block) % size;

	pmig_memory_span(dirty->memory, first_block,
			 n_blocks < left ? n_blocks : left, span);
}

pthread_mutex_t *dirty_lock_of(struct pmig_dirty *dirty,
			       const struct pmig_region_map *map,
			       uint64_t block)
{
	uint64_t unit = (block - map->first_block) / unit_blocks(map);

	return &dirty->locks[(map->first_block + unit) % DIRTY_LOCKS].mutex;
}

void dirty_pend_locked(struct pmig_dirty *dirty, uint64_t block, uint64_t bits)
{
	for (struct pmig_view *view = dirty->views; view; view = view->next)
		pmig_bits_or(&view->pending[block], bits);
}

void dirty_unarm_locked(struct pmig_dirty *dirty, uint64_t block, uint64_t bits)
{
	pmig_bits_or(&dirty->unarmed[block], bits);
	dirty_pend_locked(dirty, block, bits);
}

void dirty_armed_locked(struct pmig_dirty *dirty, const struct pmig_span *span)
{
	for (uint64_t i = 0; i < span->n_blocks; i++)
		pmig_bits_take(&dirty->unarmed[span->first_block + i]);
}

static bool any_bit(const uint64_t *words, uint64_t n)
{
	uint64_t any = 0;

	for (uint64_t i = 0; i < n; i++)
		any |= words[i];
	return any != 0;
}

static void apply_unit(struct pmig_dirty *dirty, const struct pmig_span *span,
		       const uint64_t *words)
{
	pthread_mutex_t *lock =
		dirty_lock_of(dirty, span->map, span->first_block);

	pthread_mutex_lock(lock);
	for (uint64_t i = 0; i < span->n_blocks; i++) {
		if (!words[i])
			continue;
		if (dirty->ops->rearm)
			dirty_unarm_locked(dirty, span->first_block + i,
					   words[i]);
		else
			dirty_pend_locked(dirty, span->first_block + i,
					  words[i]);
	}
	pthread_mutex_unlock(lock);
}

void dirty_found(struct pmig_dirty *dirty, uint64_t first_block,
		 const uint64_t *words, uint64_t n_blocks)
{
	while (n_blocks) {
		struct pmig_span span;

		dirty_unit(dirty, first_block, n_blocks, &span);
		if (any_bit(words, span.n_blocks))
			apply_unit(dirty, &span, words);
		first_block += span.n_blocks;
		words += span.n_blocks;
		n_blocks -= span.n_blocks;
	}
}

void dirty_found_all(struct pmig_dirty *dirty)
{
	const struct pmig_memory *memory = dirty->memory;
	struct pmig_block block;

	for (uint64_t i = 0; pmig_memory_locate(memory, i, &block); i++)
		dirty_found(dirty, i, &block.valid, 1);
}

void dirty_pass_locks(struct pmig_dirty *dirty)
{
	for (int i = 0; i < DIRTY_LOCKS; i++) {
		pthread_mutex_lock(&dirty->locks[i].mutex);
		pthread_mutex_unlock(&dirty->locks[i].mutex);
	}
}
