/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/hint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "page/zero.h"

enum {
	PRESENT_BLOCKS = 1024, /* asked about at a time: 256 MiB */
	MIDDLE_PAGE = PMIG_BLOCK_PAGES / 2,
};

/* Ranges as they are found. */
struct hints {
	struct wire_ranges *head;
	struct wire_range *list;
	uint32_t n;
};

/* A page with content shows it in its first bytes: the others are not read. */
static bool is_worth_it(const struct pmig_block *block, uint64_t present)
{
	const struct pmig_zero_kernel *kernel = pmig_zero_best();

	if (present != block->valid)
		return false;
	if (!kernel->is_zero(block->hva))
		return true;
	return (block->valid >> MIDDLE_PAGE & 1) &&
	       !kernel->is_zero(block->hva + MIDDLE_PAGE * PMIG_PAGE_BYTES);
}

static uint64_t bytes_of(const struct pmig_block *block)
{
	return (uint64_t)__builtin_popcountll(block->valid) * PMIG_PAGE_BYTES;
}

/* Append a block, to the last range if it follows it; false when full. */
static bool add_block(struct hints *hints, const struct pmig_block *block,
		      uint32_t region)
{
	struct wire_range *last = hints->n ? &hints->list[hints->n - 1] : NULL;

	if (last && last->region == region &&
	    last->offset_bytes + last->size_bytes == block->offset_bytes) {
		last->size_bytes += bytes_of(block);
		return true;
	}
	if (hints->n == WIRE_MAX_RANGES)
		return false;
	hints->list[hints->n++] = (struct wire_range){
		.region = region,
		.offset_bytes = block->offset_bytes,
		.size_bytes = bytes_of(block),
	};
	return true;
}

/* Look at a run of blocks; false when there is no room for more ranges. */
static bool add_blocks(struct hints *hints, const struct pmig_memory *memory,
		       uint64_t first_block, uint64_t n_blocks,
		       const uint64_t *present)
{
	for (uint64_t i = 0; i < n_blocks; i++) {
		struct pmig_block block;

		if (!present[i] ||
		    !pmig_memory_locate(memory, first_block + i, &block) ||
		    !is_worth_it(&block, present[i]))
			continue;
		if (!add_block(hints, &block,
			       (uint32_t)(block.map - memory->maps)))
			return false;
	}
	return true;
}

static int add_all(struct hints *hints, const struct pmig_memory *memory,
		   struct pmig_error *err)
{
	uint64_t present[PRESENT_BLOCKS];

	for (uint64_t at = 0; at < memory->n_blocks; at += PRESENT_BLOCKS) {
		uint64_t n = memory->n_blocks - at;
		int rc;

		if (n > PRESENT_BLOCKS)
			n = PRESENT_BLOCKS;
		rc = pmig_memory_present(memory, at, n, present, err);
		if (rc)
			return rc;
		if (!add_blocks(hints, memory, at, n, present))
			return 0;
	}
	return 0;
}

int hint_build(const struct pmig_memory *memory, struct wire_ranges **head,
	       uint32_t *head_bytes, struct pmig_error *err)
{
	struct hints hints = {.head = calloc(1, WIRE_MAX_HEAD_BYTES)};
	int rc;

	if (!hints.head)
		return pmig_fail(err, -ENOMEM, "no memory for hints");
	hints.list = (struct wire_range *)(hints.head + 1);
	rc = add_all(&hints, memory, err);
	if (rc) {
		free(hints.head);
		return rc;
	}
	hints.head->range_count = hints.n;
	*head = hints.head;
	*head_bytes =
		(uint32_t)(sizeof(*hints.head) + hints.n * sizeof(*hints.list));
	return 0;
}

int hint_blocks(const struct pmig_memory *memory,
		const struct wire_range *range, struct block_range *blocks,
		struct pmig_error *err)
{
	const struct pmig_region_map *map;
	uint64_t end, first, last;

	if (range->region >= memory->n_maps || range->reserved ||
	    range->offset_bytes % PMIG_PAGE_BYTES ||
	    range->size_bytes % PMIG_PAGE_BYTES || !range->size_bytes ||
	    __builtin_add_overflow(range->offset_bytes, range->size_bytes,
				   &end) ||
	    end > memory->maps[range->region].region.size_bytes)
		return pmig_fail(err, -EBADMSG,
				 "RANGES frame: a range outside its region");
	map = &memory->maps[range->region];
	first = (range->offset_bytes + PMIG_BLOCK_BYTES - 1) / PMIG_BLOCK_BYTES;
	last = end == map->region.size_bytes ? map->n_blocks
					     : end / PMIG_BLOCK_BYTES;
	blocks->first_block = map->first_block + first;
	blocks->n_blocks = last > first ? last - first : 0;
	return 0;
}
