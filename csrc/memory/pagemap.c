/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/pagemap.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "memory/memory.h"

/* Linux 6.7, include/uapi/linux/fs.h */
#define PMIG_PAGEMAP_SCAN _IOWR('f', 16, struct pmig_pagemap_scan)

/* Documentation/admin-guide/mm/pagemap.rst */
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PFN     ((UINT64_C(1) << 55) - 1)

enum {
	SCAN_REGIONS = 128,
	READ_ENTRIES = 512,
};

int pmig_pagemap_scan(int pagemap_fd, struct pmig_pagemap_scan *scan,
		      struct pmig_page_region *regions, size_t max_regions)
{
	int n;

	scan->size = sizeof(*scan);
	scan->vec = (uint64_t)(uintptr_t)regions;
	scan->vec_len = max_regions;
	n = ioctl(pagemap_fd, PMIG_PAGEMAP_SCAN, scan);
	if (n < 0)
		return -errno;
	scan->start = scan->walk_end;
	return n;
}

static int allocated_by_scan(int pagemap_fd, uint64_t start, uint64_t end,
			     bool swapped, uint64_t *bitmap)
{
	struct pmig_page_region regions[SCAN_REGIONS];
	struct pmig_pagemap_scan scan = {
		.start = start,
		.end = end,
		.category_inverted = PMIG_PAGE_IS_PFNZERO,
		.category_mask = PMIG_PAGE_IS_PFNZERO,
		.category_anyof_mask = PMIG_PAGE_IS_PRESENT |
				       (swapped ? PMIG_PAGE_IS_SWAPPED : 0),
	};

	while (scan.start < end) {
		int n = pmig_pagemap_scan(pagemap_fd, &scan, regions,
					  SCAN_REGIONS);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			pmig_bitmap_set(bitmap,
					(regions[i].start - start) /
						PMIG_PAGE_BYTES,
					(regions[i].end - regions[i].start) /
						PMIG_PAGE_BYTES);
	}
	return 0;
}

static bool entry_allocated(uint64_t entry, bool swapped, uint64_t zero_pfn)
{
	if (!(entry & ENTRY_PRESENT))
		return swapped && (entry & ENTRY_SWAPPED);
	return !zero_pfn || (entry & ENTRY_PFN) != zero_pfn;
}

static int allocated_by_read(const struct pmig_memory *memory, uint64_t start,
			     uint64_t n_pages, bool swapped, uint64_t *bitmap)
{
	uint64_t entries[READ_ENTRIES];
	uint64_t first = start / PMIG_PAGE_BYTES;

	for (uint64_t done = 0; done < n_pages;) {
		uint64_t left = n_pages - done;
		size_t want = left < READ_ENTRIES ? left : READ_ENTRIES;
		ssize_t got = pread(memory->pagemap_fd, entries,
				    want * sizeof(*entries),
				    (off_t)((first + done) * sizeof(*entries)));

		if (got < 0)
			return -errno;
		if (got < (ssize_t)sizeof(*entries))
			return -EIO;
		for (size_t i = 0; i < got / sizeof(*entries); i++)
			if (entry_allocated(entries[i], swapped,
					    memory->zero_pfn))
				pmig_bitmap_set(bitmap, done + i, 1);
		done += got / sizeof(*entries);
	}
	return 0;
}

int pmig_pagemap_allocated(const struct pmig_memory *memory, const uint8_t *hva,
			   uint64_t n_pages, bool swapped, uint64_t *bitmap,
			   struct pmig_error *err)
{
	uint64_t start = (uint64_t)(uintptr_t)hva;
	uint64_t end = start + n_pages * PMIG_PAGE_BYTES;
	int rc;

	rc = allocated_by_scan(memory->pagemap_fd, start, end, swapped, bitmap);
	if (rc == -ENOTTY)
		rc = allocated_by_read(memory, start, n_pages, swapped, bitmap);
	if (rc) {
		errno = -rc;
		return pmig_fail_errno(err, "cannot read /proc/self/pagemap");
	}
	return 0;
}

uint64_t pmig_pagemap_zero_pfn(int pagemap_fd)
{
	const volatile uint8_t *page = mmap(NULL, PMIG_PAGE_BYTES, PROT_READ,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;
	ssize_t got;

	if (page == MAP_FAILED)
		return 0;
	(void)*page;
	got = pread(pagemap_fd, &entry, sizeof(entry),
		    (off_t)((uintptr_t)page / PMIG_PAGE_BYTES * sizeof(entry)));
	munmap((void *)(uintptr_t)page, PMIG_PAGE_BYTES);
	if (got != (ssize_t)sizeof(entry) || !(entry & ENTRY_PRESENT))
		return 0;
	return entry & ENTRY_PFN;
}
