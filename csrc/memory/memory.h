/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - guest memory as numbered blocks
 *
 * Every region starts at a block of its own, so one bitmap word never spans
 * two regions and (region, offset) follows from a block number by a search
 * over a handful of regions.
 */
#ifndef PMIG_MEMORY_MEMORY_H
#define PMIG_MEMORY_MEMORY_H

#include "pymigrate.h"

/**
 * struct pmig_region_map - a region and the blocks it covers
 * @region:	as given, name NUL-terminated
 * @first_block: number of its first block
 * @n_blocks:	blocks it covers, the last one possibly partial
 */
struct pmig_region_map {
	struct pmig_region region;
	uint64_t first_block;
	uint64_t n_blocks;
};

/**
 * struct pmig_memory - immutable after pmig_memory_new()
 * @maps:	in the caller's order, so sorted by first_block
 * @n_maps:	number of regions
 * @n_blocks:	blocks of all regions
 * @n_bytes:	bytes of all regions
 * @pagemap_fd:	/proc/self/pagemap, opened early; -1 when no region needs it
 * @zero_pfn:	page frame of the kernel's zero page; 0 where it is not told
 */
struct pmig_memory {
	struct pmig_region_map *maps;
	uint32_t n_maps;
	uint64_t n_blocks;
	uint64_t n_bytes;
	int pagemap_fd;
	uint64_t zero_pfn;
};

/**
 * struct pmig_block - where a block lies
 * @map:	its region
 * @hva:	its first byte in this process
 * @offset_bytes: of that byte in the region
 * @valid:	bit p set where page p exists (all ones but for a last block)
 */
struct pmig_block {
	const struct pmig_region_map *map;
	uint8_t *hva;
	uint64_t offset_bytes;
	uint64_t valid;
};

/**
 * struct pmig_span - a run of blocks within one region
 * @map:	the region
 * @first_block: number of the first block
 * @n_blocks:	their number, at least 1
 * @hva:	first byte in this process
 * @offset_bytes: of that byte in the region
 * @size_bytes:	to the end of the last block, or of the region
 */
struct pmig_span {
	const struct pmig_region_map *map;
	uint64_t first_block;
	uint64_t n_blocks;
	uint8_t *hva;
	uint64_t offset_bytes;
	uint64_t size_bytes;
};

/* The region that covers block; NULL past the end. */
const struct pmig_region_map *
pmig_memory_map_of(const struct pmig_memory *memory, uint64_t block);

/* Locate block; false past the end. */
bool pmig_memory_locate(const struct pmig_memory *memory, uint64_t block,
			struct pmig_block *out);

/*
 * The region that holds all of [gpa, gpa + size_bytes), or NULL.
 * Overflow-safe for any arguments.
 */
const struct pmig_region_map *
pmig_memory_by_gpa(const struct pmig_memory *memory, uint64_t gpa,
		   uint64_t size_bytes);

/* As pmig_memory_by_gpa(), for addresses of this process. */
const struct pmig_region_map *
pmig_memory_by_hva(const struct pmig_memory *memory, uint64_t hva,
		   uint64_t size_bytes);

/* -EINVAL unless first_block + n_blocks ends within memory. */
int pmig_memory_check_range(const struct pmig_memory *memory,
			    uint64_t first_block, uint64_t n_blocks,
			    struct pmig_error *err);

/*
 * The longest span at first_block that lies in one region and has at most
 * n_blocks; the range was checked. To walk a range, go on behind it.
 */
void pmig_memory_span(const struct pmig_memory *memory, uint64_t first_block,
		      uint64_t n_blocks, struct pmig_span *span);

/* Number of pages of a span. */
static inline uint64_t pmig_span_pages(const struct pmig_span *span)
{
	return span->size_bytes / PMIG_PAGE_BYTES;
}

#endif
