/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty_uffd_scan.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/error.h"
#include "memory/holes.h"
#include "memory/pagemap.h"

enum {
	SCAN_REGIONS = 256, /* 6 KiB of stack */
	ENTRY = PMIG_PAGE_IS_PRESENT | PMIG_PAGE_IS_SWAPPED,
	TABLE_BYTES = 2 << 20, /* what one page table maps */
	TABLE_PAGES = TABLE_BYTES / PMIG_PAGE_BYTES,
};

/**
 * struct walk - one pass over pages of a region
 * @dirty:	the tracker
 * @map:	the region
 * @scan:	what the kernel is asked
 * @gather:	takes written pages
 * @protect:	whether what is found is to be protected first
 */
struct walk {
	const struct pmig_dirty *dirty;
	const struct pmig_region_map *map;
	struct pmig_pagemap_scan scan;
	struct gather *gather;
	bool protect;
};

/* A shared file that can be asked what it holds. */
static bool can_ask_file(const struct pmig_region_map *map)
{
	return (map->region.flags & PMIG_REGION_SHARED) &&
	       map->region.page_size_bytes == PMIG_PAGE_BYTES;
}

static uint64_t hva_of(const struct pmig_region_map *map, uint64_t page)
{
	return (uint64_t)(uintptr_t)map->region.hva + page * PMIG_PAGE_BYTES;
}

static struct walk new_walk(const struct pmig_dirty *dirty,
			    const struct pmig_region_map *map, uint64_t first,
			    uint64_t count, struct gather *gather)
{
	return (struct walk){
		.dirty = dirty,
		.map = map,
		.scan = {.flags = PMIG_SCAN_CHECK_WPASYNC,
			 .start = hva_of(map, first),
			 .end = hva_of(map, first + count)},
		.gather = gather,
	};
}

static int take_found(const struct walk *walk,
		      const struct pmig_page_region *found)
{
	const struct uffd_async *u = walk->dirty->impl;
	uint64_t first =
		(found->start - hva_of(walk->map, 0)) / PMIG_PAGE_BYTES;
	uint64_t count = (found->end - found->start) / PMIG_PAGE_BYTES;
	int rc = 0;

	if (walk->protect)
		rc = uffd_protect(&u->uffd, found->start,
				  count * PMIG_PAGE_BYTES, true);
	/* the file is asked afterwards: a write that came first shows */
	if (can_ask_file(walk->map))
		uffd_gather_held(walk->dirty, walk->map, first, count,
				 walk->gather);
	else
		gather_pages(walk->gather, walk->map, first, count);
	return rc;
}

static int run_walk(struct walk *walk, struct pmig_error *err)
{
	const struct uffd_async *u = walk->dirty->impl;
	struct pmig_page_region found[SCAN_REGIONS];
	int rc = 0;

	while (!rc && walk->scan.start < walk->scan.end) {
		int n = pmig_pagemap_scan(u->pagemap_fd, &walk->scan, found,
					  SCAN_REGIONS);

		for (int i = 0; i < n && !rc; i++)
			rc = take_found(walk, &found[i]);
		if (n < 0)
			rc = n;
	}
	gather_flush(walk->gather);
	if (!rc)
		return 0;
	errno = -rc;
	return pmig_fail_errno(err, "region %s: cannot scan for written pages",
			       walk->map->region.name);
}

/* Asked for this alone, the kernel lists empty entries as well. */
static void ask_written(struct pmig_pagemap_scan *scan)
{
	scan->category_mask = PMIG_PAGE_IS_WRITTEN;
	scan->return_mask = PMIG_PAGE_IS_WRITTEN;
}

static void ask_written_entries(struct pmig_pagemap_scan *scan)
{
	ask_written(scan);
	scan->category_anyof_mask = ENTRY;
}

static void ask_empty(struct pmig_pagemap_scan *scan)
{
	scan->category_inverted = ENTRY;
	scan->category_mask = ENTRY;
}

/*
 * Empty entries first: a page that comes back from the file in between is
 * then found twice. The other way round it would not be found at all.
 */
static int list_empty(const struct pmig_dirty *dirty,
		      const struct pmig_region_map *map, uint64_t first,
		      uint64_t count, bool protect, struct gather *gather,
		      struct pmig_error *err)
{
	const struct uffd_async *u = dirty->impl;
	struct walk walk = new_walk(dirty, map, first, count, gather);

	if (u->lists_all || !can_ask_file(map))
		return 0;
	ask_empty(&walk.scan);
	walk.protect = protect;
	return run_walk(&walk, err);
}

int uffd_list_written(const struct pmig_dirty *dirty,
		      const struct pmig_region_map *map, struct gather *gather,
		      struct pmig_error *err)
{
	uint64_t n_pages = map->region.size_bytes / PMIG_PAGE_BYTES;
	struct walk walk = new_walk(dirty, map, 0, n_pages, gather);
	int rc = list_empty(dirty, map, 0, n_pages, false, gather, err);

	if (rc)
		return rc;
	if (map->region.flags & PMIG_REGION_SHARED)
		ask_written(&walk.scan);
	else
		ask_written_entries(&walk.scan);
	return run_walk(&walk, err);
}

static int protect_pages(const struct pmig_dirty *dirty,
			 const struct pmig_region_map *map, uint64_t first,
			 uint64_t count, struct gather *gather,
			 struct pmig_error *err)
{
	struct walk walk = new_walk(dirty, map, first, count, gather);

	if (map->region.flags & PMIG_REGION_SHARED)
		ask_written(&walk.scan);
	else
		ask_written_entries(&walk.scan);
	walk.scan.flags |= PMIG_SCAN_WP_MATCHING;
	return run_walk(&walk, err);
}

/* The end of the page table that maps a page, as a page of the region. */
static uint64_t table_end(const struct pmig_region_map *map, uint64_t page)
{
	return page + TABLE_PAGES -
	       hva_of(map, page) / PMIG_PAGE_BYTES % TABLE_PAGES;
}

/*
 * The next page that the file holds, or end. It is taken to hold what it does
 * not answer for.
 */
static uint64_t next_data(const struct pmig_region_map *map, uint64_t page,
			  uint64_t end)
{
	const struct pmig_span span = {
		.map = map,
		.offset_bytes = page * PMIG_PAGE_BYTES,
		.size_bytes = (end - page) * PMIG_PAGE_BYTES,
	};
	uint64_t skipped = 0;

	if (pmig_data_seek(&span, &skipped, NULL))
		return page;
	return page + skipped < end ? page + skipped : end;
}

/* Page tables in a row that have data, from that of page on. */
static uint64_t tables_end(const struct pmig_region_map *map, uint64_t page,
			   uint64_t end)
{
	uint64_t at = table_end(map, page);

	while (at < end && next_data(map, at, end) < table_end(map, at))
		at = table_end(map, at);
	return at < end ? at : end;
}

int uffd_protect_written(const struct pmig_dirty *dirty,
			 const struct pmig_region_map *map, uint64_t first,
			 uint64_t count, struct gather *gather,
			 struct pmig_error *err)
{
	uint64_t end = first + count;
	int rc = 0;

	if (!can_ask_file(map))
		return protect_pages(dirty, map, first, count, gather, err);
	while (!rc && (first = next_data(map, first, end)) < end) {
		count = tables_end(map, first, end) - first;
		rc = protect_pages(dirty, map, first, count, gather, err);
		if (!rc)
			rc = list_empty(dirty, map, first, count, true, gather,
					err);
		first += count;
	}
	return rc;
}

/* Ask about memory that was never touched, so has no page tables. */
static bool lists_untouched(const struct uffd_async *u, uint64_t hva)
{
	struct pmig_page_region found;
	struct pmig_pagemap_scan scan = {
		.flags = PMIG_SCAN_CHECK_WPASYNC,
		.start = hva,
		.end = hva + 2 * TABLE_BYTES,
	};

	ask_written(&scan);
	return pmig_pagemap_scan(u->pagemap_fd, &scan, &found, 1) > 0;
}

bool uffd_lists_all(const struct uffd_async *u)
{
	struct uffdio_register arg = {.mode = UFFDIO_REGISTER_MODE_WP};
	bool lists_all = false;
	void *hva = mmap(NULL, 2 * TABLE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hva == MAP_FAILED)
		return false;
	arg.range.start = (uint64_t)(uintptr_t)hva;
	arg.range.len = 2 * TABLE_BYTES;
	if (!ioctl(u->uffd.fd, UFFDIO_REGISTER, &arg))
		lists_all = lists_untouched(u, arg.range.start);
	munmap(hva, 2 * TABLE_BYTES);
	return lists_all;
}
