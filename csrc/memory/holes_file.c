/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holes of a shared file mapping.
 *
 * SEEK_DATA finds the next allocated page, swapped ones included, and skips
 * holes of any size in one call. Its counterpart SEEK_HOLE walks every page
 * up to the end of the extent, which may lie many GiB behind the span, so
 * how far the data goes is asked of mincore(), a window at a time. A page
 * that is swapped out is not in core; SEEK_DATA, asked again, still finds it.
 */
#include "memory/holes.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/error.h"

int pmig_data_seek(const struct pmig_span *span, uint64_t *page,
		   struct pmig_error *err)
{
	const struct pmig_region *region = &span->map->region;
	off_t base = (off_t)(region->fd_offset_bytes + span->offset_bytes);
	off_t found = lseek(region->fd, base + (off_t)(*page * PMIG_PAGE_BYTES),
			    SEEK_DATA);

	if (found >= 0)
		*page = (uint64_t)(found - base) / PMIG_PAGE_BYTES;
	else if (errno == ENXIO)
		*page = pmig_span_pages(span);
	else
		return pmig_fail_errno(err, "region %s: cannot seek for data",
				       region->name);
	return 0;
}

static int look(struct pmig_data_walk *walk, uint64_t page,
		struct pmig_error *err)
{
	const struct pmig_span *span = walk->span;
	uint64_t left = pmig_span_pages(span) - page;
	uint64_t n = left < PMIG_DATA_WINDOW ? left : PMIG_DATA_WINDOW;

	walk->first = page;
	walk->end = page + n;
	if (!mincore(span->hva + page * PMIG_PAGE_BYTES, n * PMIG_PAGE_BYTES,
		     walk->in_core))
		return 0;
	return pmig_fail_errno(err, "region %s: mincore fails",
			       span->map->region.name);
}

int pmig_data_next(struct pmig_data_walk *walk, uint64_t *first,
		   uint64_t *count, struct pmig_error *err)
{
	uint64_t n_pages = pmig_span_pages(walk->span);
	uint64_t page = walk->page;
	int rc = 0;

	*count = 0;
	if (page < n_pages)
		rc = pmig_data_seek(walk->span, &page, err);
	if (!rc && page >= walk->end && page < n_pages)
		rc = look(walk, page, err);
	if (rc || page >= n_pages)
		return rc;
	*first = page++;
	while (page < walk->end && (walk->in_core[page - walk->first] & 1))
		page++;
	*count = page - *first;
	walk->page = page;
	return 0;
}

int pmig_holes_file(const struct pmig_span *span, uint64_t *bitmap,
		    struct pmig_error *err)
{
	struct pmig_data_walk walk = {.span = span};
	uint64_t first, count;
	int rc = pmig_data_next(&walk, &first, &count, err);

	while (!rc && count) {
		pmig_bitmap_set(bitmap, first, count);
		rc = pmig_data_next(&walk, &first, &count, err);
	}
	return rc;
}
