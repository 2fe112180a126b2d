/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagemap.h - /proc/self/pagemap, by ioctl and by read
 *
 * The ioctl is not in the headers of Linux before 6.7, which introduced it,
 * so its declarations are carried here (include/uapi/linux/fs.h).
 */
#ifndef PMIG_MEMORY_PAGEMAP_H
#define PMIG_MEMORY_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

#include "pymigrate.h"

/* PAGE_IS_*: what PAGEMAP_SCAN can say of a page */
enum pmig_page_category {
	PMIG_PAGE_IS_WRITTEN = 1 << 1,
	PMIG_PAGE_IS_PRESENT = 1 << 3,
	PMIG_PAGE_IS_SWAPPED = 1 << 4,
	PMIG_PAGE_IS_PFNZERO = 1 << 5,
};

/* PM_SCAN_*: what PAGEMAP_SCAN does besides */
enum pmig_pagemap_scan_flags {
	PMIG_SCAN_WP_MATCHING = 1 << 0,
	PMIG_SCAN_CHECK_WPASYNC = 1 << 1,
};

/* struct page_region: addresses [start, end) of equal categories */
struct pmig_page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

/* struct pm_scan_arg */
struct pmig_pagemap_scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

/**
 * pmig_pagemap_scan() - one PAGEMAP_SCAN call
 * @pagemap_fd:	/proc/self/pagemap
 * @scan:	start, end, flags and masks set; start is moved to where the
 *		scan stopped for lack of room in @regions
 * @regions:	receives what was found
 * @max_regions: room in it
 *
 * Return: number of regions, or -errno; -ENOTTY before Linux 6.7.
 */
int pmig_pagemap_scan(int pagemap_fd, struct pmig_pagemap_scan *scan,
		      struct pmig_page_region *regions, size_t max_regions);

/**
 * pmig_pagemap_allocated() - pages that hold something, by page tables
 * @memory:	its pagemap_fd is used
 * @hva:	first byte, page aligned
 * @n_pages:	how many
 * @swapped:	whether an entry that is not present counts
 * @bitmap:	one bit per page is set where there is a page other than the
 *		kernel's zero page; others are left alone
 *
 * Before Linux 6.7 the zero page is told apart only by a process that may see
 * page frame numbers (CAP_SYS_ADMIN) and otherwise counts as a page.
 */
int pmig_pagemap_allocated(const struct pmig_memory *memory, const uint8_t *hva,
			   uint64_t n_pages, bool swapped, uint64_t *bitmap,
			   struct pmig_error *err);

/* Frame number of the zero page; 0 when this process may not know it. */
uint64_t pmig_pagemap_zero_pfn(int pagemap_fd);

#endif
