/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landing.h - where late pages are put together, and how the guest gets them
 *
 * Theory of operation
 *
 * A page that comes while the guest runs has to appear whole and at once. So
 * it is read, decoded and checked in a buffer of the reader's, and placed
 * when it is right, and still missing. There are two ways:
 *
 * Mapped. Where memory is a shared mapping of a file, a second mapping of
 * the file is the landing: what is stored there is in the file's pages, and
 * placing maps them for the guest (UFFDIO_CONTINUE). What was there before an
 * outstanding page is there still, so deltas work: to make a page outstanding
 * is only to unmap it from the guest.
 *
 * Copied. Anonymous memory, and that of another process, has no second way
 * in, so pages are copied to new ones (UFFDIO_COPY). What an outstanding page
 * held before is moved to the attic, a mapping as large as the region and as
 * full as such pages are many, and fetched from there for a delta.
 *
 * A page of the backing larger than 4 KiB can be placed as a whole only. It
 * is put together in the file's pages, or in the attic. The attic never has
 * what such a page holds once it was placed: a hole is filled from zeros.
 */
#ifndef PMIG_FAULT_LANDING_H
#define PMIG_FAULT_LANDING_H

#include "memory/memory.h"

/**
 * struct landing - of one region
 * @map:	the region
 * @base:	its address where the guest's mapping is
 * @mapped:	by UFFDIO_CONTINUE; else by UFFDIO_COPY
 * @own:	the guest's mapping is in this process
 * @alias:	second mapping of the file, or the attic; owned
 * @zeros:	a page of the backing, where it is large and copied; owned
 */
struct landing {
	const struct pmig_region_map *map;
	uint64_t base;
	bool mapped;
	bool own;
	uint8_t *alias;
	const uint8_t *zeros;
};

/**
 * landing_open() - prepare for late pages
 * @landing:	filled in
 * @map:	the region
 * @foreign_base: its address in another process, or 0: it is in this one
 * @may_map:	whether the kernel can place pages of files
 * @err:	filled in on failure
 *
 * Return: 0 or -errno; landing_close() is right after both.
 */
int landing_open(struct landing *landing, const struct pmig_region_map *map,
		 uint64_t foreign_base, bool may_map, struct pmig_error *err);
void landing_close(struct landing *landing);

/*
 * Take pages of a block away from the guest, so that it faults on them. What
 * they hold is kept for those in the mask kept. For pages of 4 KiB, before
 * the memory is registered.
 */
int landing_withdraw(const struct landing *landing,
		     const struct pmig_block *block, uint64_t pages,
		     uint64_t kept, struct pmig_error *err);

/*
 * The same for the larger page of the backing that begins so far into the
 * region; what it holds is kept where it holds anything (kept).
 */
int landing_withdraw_large(const struct landing *landing, uint64_t offset_bytes,
			   bool kept, struct pmig_error *err);

/* Copy what pages of a block held into buffer (of PMIG_BLOCK_BYTES). */
void landing_fetch(const struct landing *landing,
		   const struct pmig_block *block, uint64_t pages,
		   uint8_t *buffer);

/* Copy pages of a block from a buffer into the alias, and clear others. */
void landing_store(const struct landing *landing,
		   const struct pmig_block *block, uint64_t pages,
		   uint64_t zero, const uint8_t *buffer);

/* Nothing of the range is outstanding: its part of the attic is free. */
void landing_settle(const struct landing *landing, uint64_t offset_bytes,
		    uint64_t size_bytes);

/* Pages were removed: what is to be placed of them are zeros from now on. */
void landing_remove(const struct landing *landing, uint64_t offset_bytes,
		    uint64_t size_bytes);

/* Are pages placed from the alias? */
static inline bool landing_in_alias(const struct landing *landing)
{
	return landing->mapped ||
	       landing->map->region.page_size_bytes > PMIG_PAGE_BYTES;
}

#endif
