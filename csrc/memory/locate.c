/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "memory/memory.h"

const struct pmig_region_map *
pmig_memory_map_of(const struct pmig_memory *memory, uint64_t block)
{
	uint32_t low = 0;
	uint32_t high = memory->n_maps;

	if (block >= memory->n_blocks)
		return NULL;
	/* the last region that does not start behind block */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (memory->maps[middle].first_block <= block)
			low = middle;
		else
			high = middle;
	}
	return &memory->maps[low];
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

bool pmig_memory_locate(const struct pmig_memory *memory, uint64_t block,
			struct pmig_block *out)
{
	const struct pmig_region_map *map = pmig_memory_map_of(memory, block);
	uint64_t left_pages;

	if (!map)
		return false;
	out->map = map;
	out->offset_bytes = (block - map->first_block) * PMIG_BLOCK_BYTES;
	out->hva = (uint8_t *)map->region.hva + out->offset_bytes;
	left_pages =
		(map->region.size_bytes - out->offset_bytes) / PMIG_PAGE_BYTES;
	out->valid = pmig_word_mask(
		0, (unsigned int)min_u64(left_pages, PMIG_BLOCK_PAGES));
	return true;
}

/* Whether [start, start + size) lies in [base, base + limit). */
static bool lies_within(uint64_t start, uint64_t size, uint64_t base,
			uint64_t limit)
{
	return start >= base && start - base <= limit &&
	       size <= limit - (start - base);
}

const struct pmig_region_map *
pmig_memory_by_gpa(const struct pmig_memory *memory, uint64_t gpa,
		   uint64_t size_bytes)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if (lies_within(gpa, size_bytes, region->gpa,
				region->size_bytes))
			return &memory->maps[i];
	}
	return NULL;
}

const struct pmig_region_map *
pmig_memory_by_hva(const struct pmig_memory *memory, uint64_t hva,
		   uint64_t size_bytes)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if (lies_within(hva, size_bytes,
				(uint64_t)(uintptr_t)region->hva,
				region->size_bytes))
			return &memory->maps[i];
	}
	return NULL;
}

int pmig_memory_check_range(const struct pmig_memory *memory,
			    uint64_t first_block, uint64_t n_blocks,
			    struct pmig_error *err)
{
	if (lies_within(first_block, n_blocks, 0, memory->n_blocks))
		return 0;
	return pmig_fail(err, -EINVAL,
			 "blocks %llu to %llu are outside of memory, which has "
			 "%llu blocks",
			 (unsigned long long)first_block,
			 (unsigned long long)(first_block + n_blocks),
			 (unsigned long long)memory->n_blocks);
}

void pmig_memory_span(const struct pmig_memory *memory, uint64_t first_block,
		      uint64_t n_blocks, struct pmig_span *span)
{
	const struct pmig_region_map *map =
		pmig_memory_map_of(memory, first_block);
	uint64_t skipped = first_block - map->first_block;

	span->map = map;
	span->first_block = first_block;
	span->n_blocks = min_u64(n_blocks, map->n_blocks - skipped);
	span->offset_bytes = skipped * PMIG_BLOCK_BYTES;
	span->hva = (uint8_t *)map->region.hva + span->offset_bytes;
	span->size_bytes = min_u64(span->n_blocks * PMIG_BLOCK_BYTES,
				   map->region.size_bytes - span->offset_bytes);
}
