/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holes of a shared hugetlbfs mapping.
 *
 * hugetlbfs claims to be all data to SEEK_DATA, and mincore() looks only at
 * page tables. Page tables tell the truth about pages that this process has
 * touched; a page that only another process has written (a vhost-user back
 * end) is in the file and not in them. Whether such pages exist at all shows
 * when the file's allocation is compared with what is mapped. If they do,
 * the unmapped pages are looked at with read(), which hands out zeros for a
 * hole of hugetlbfs without allocating it.
 */
#include "memory/holes.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "memory/pagemap.h"

enum {
	COUNT_BLOCKS = 512,	/* whose bitmap of 4 KiB fits on the stack */
	STAT_BLOCK_BYTES = 512, /* unit of st_blocks, whatever the file */
};

static bool file_overlap(const struct pmig_region *a,
			 const struct pmig_region *b)
{
	return a->fd_offset_bytes < b->fd_offset_bytes + b->size_bytes &&
	       b->fd_offset_bytes < a->fd_offset_bytes + a->size_bytes;
}

static int count_mapped(const struct pmig_memory *memory,
			const struct pmig_region_map *map, uint64_t *bytes,
			struct pmig_error *err)
{
	for (uint64_t done = 0; done < map->n_blocks; done += COUNT_BLOCKS) {
		uint64_t bitmap[COUNT_BLOCKS] = {0};
		struct pmig_span span;
		int rc;

		pmig_memory_span(memory, map->first_block + done, COUNT_BLOCKS,
				 &span);
		rc = pmig_pagemap_allocated(memory, span.hva,
					    pmig_span_pages(&span), false,
					    bitmap, err);
		if (rc)
			return rc;
		*bytes += pmig_bitmap_count(bitmap, COUNT_BLOCKS) *
			  PMIG_PAGE_BYTES;
	}
	return 0;
}

static bool same_file(const struct pmig_region *region, const struct stat *file)
{
	struct stat other;

	return (region->flags & PMIG_REGION_SHARED) &&
	       !fstat(region->fd, &other) && other.st_dev == file->st_dev &&
	       other.st_ino == file->st_ino;
}

/*
 * Whether every page of region's file is mapped here. A part of the file
 * that is mapped by two regions would count twice: then it is not known.
 */
static int all_mapped(const struct pmig_memory *memory,
		      const struct pmig_region *region, bool *all,
		      struct pmig_error *err)
{
	struct stat file;
	uint64_t mapped_bytes = 0;

	*all = false;
	if (fstat(region->fd, &file))
		return pmig_fail_errno(err, "region %s: fstat fails",
				       region->name);
	for (uint32_t i = 0; file.st_blocks && i < memory->n_maps; i++) {
		const struct pmig_region_map *map = &memory->maps[i];
		int rc;

		if (!same_file(&map->region, &file))
			continue;
		for (uint32_t j = 0; j < i; j++)
			if (same_file(&memory->maps[j].region, &file) &&
			    file_overlap(&map->region, &memory->maps[j].region))
				return 0;
		rc = count_mapped(memory, map, &mapped_bytes, err);
		if (rc)
			return rc;
	}
	/* read last: a page that comes meanwhile must not hide another one */
	if (fstat(region->fd, &file))
		return pmig_fail_errno(err, "region %s: fstat fails",
				       region->name);
	*all = mapped_bytes == (uint64_t)file.st_blocks * STAT_BLOCK_BYTES;
	return 0;
}

static int read_unmapped(const struct pmig_span *span, uint64_t *bitmap,
			 struct pmig_error *err)
{
	const struct pmig_region *region = &span->map->region;
	uint64_t n_pages = pmig_span_pages(span);
	uint64_t base = region->fd_offset_bytes + span->offset_bytes;
	uint64_t page = pmig_bitmap_next(bitmap, n_pages, 0, false);
	uint8_t buffer[PMIG_PAGE_BYTES];

	while (page < n_pages) {
		uint64_t offset = base + page * PMIG_PAGE_BYTES;
		uint64_t hash;

		if (pread(region->fd, buffer, sizeof(buffer), (off_t)offset) !=
		    (ssize_t)sizeof(buffer))
			return pmig_fail_errno(err,
					       "region %s: cannot read "
					       "its file",
					       region->name);
		if (!pmig_page_scan(buffer, &hash))
			pmig_bitmap_set(bitmap, page, 1);
		page = pmig_bitmap_next(bitmap, n_pages, page + 1, false);
	}
	return 0;
}

int pmig_holes_hugetlb(const struct pmig_memory *memory,
		       const struct pmig_span *span, uint64_t *bitmap,
		       struct pmig_error *err)
{
	uint64_t n_pages = pmig_span_pages(span);
	bool all;
	int rc;

	rc = pmig_pagemap_allocated(memory, span->hva, n_pages, false, bitmap,
				    err);
	if (rc || pmig_bitmap_next(bitmap, n_pages, 0, false) == n_pages)
		return rc;
	rc = all_mapped(memory, &span->map->region, &all, err);
	if (rc || all)
		return rc;
	return read_unmapped(span, bitmap, err);
}
