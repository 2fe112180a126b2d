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

enum {
	WINDOW_PAGES = 1024,
};

/**
 * struct window - what mincore() said of some pages
 * @first:	page number in the span
 * @end:	first page behind the window
 * @in_core:	bit 0 of each byte: the page is in the page cache
 */
struct window {
	uint64_t first;
	uint64_t end;
	unsigned char in_core[WINDOW_PAGES];
};

/* Move *page on to the next allocated page of the span, or to its end. */
static int next_data(const struct pmig_span *span, uint64_t *page,
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

static int look(const struct pmig_span *span, uint64_t page,
		struct window *window, struct pmig_error *err)
{
	uint64_t left = pmig_span_pages(span) - page;
	uint64_t n = left < WINDOW_PAGES ? left : WINDOW_PAGES;

	window->first = page;
	window->end = page + n;
	if (!mincore(span->hva + page * PMIG_PAGE_BYTES, n * PMIG_PAGE_BYTES,
		     window->in_core))
		return 0;
	return pmig_fail_errno(err, "region %s: mincore fails",
			       span->map->region.name);
}

int pmig_holes_file(const struct pmig_span *span, uint64_t *bitmap,
		    struct pmig_error *err)
{
	uint64_t n_pages = pmig_span_pages(span);
	struct window window = {0};
	uint64_t page = 0;

	while (page < n_pages) {
		uint64_t start;
		int rc = next_data(span, &page, err);

		if (!rc && page >= window.end && page < n_pages)
			rc = look(span, page, &window, err);
		if (rc)
			return rc;
		if (page >= n_pages)
			break;
		start = page++;
		while (page < window.end &&
		       (window.in_core[page - window.first] & 1))
			page++;
		pmig_bitmap_set(bitmap, start, page - start);
	}
	return 0;
}
