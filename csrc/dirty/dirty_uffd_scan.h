/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_uffd_scan.h - written pages, as page tables and the file tell
 *
 * PAGEMAP_SCAN lists a page that is mapped (or swapped out) and not protected
 * as written. What an empty entry of the page tables means depends on the
 * backing:
 *
 * - anonymous memory: a hole. It was not written, and is not asked about.
 * - a shared file of small pages: a hole of the file, or a page of it that
 *   is not mapped here; perhaps it was written and then reclaimed, which
 *   leaves no trace in the page tables. It is listed as written, and the
 *   file is asked: where that has nothing, the page is a hole.
 * - hugetlbfs: a hole. Kernels differ in whether they list it as written;
 *   those that do protect it with a marker, of which there are few.
 *
 * A marker is an entry of the page tables: one for every hole would cost
 * 2 MiB of page tables for each GiB, and each scan would walk them. So holes
 * of a file get markers only where their page table exists anyway, because
 * the file has data within its reach. There they spare the next harvest to
 * ask about each gap.
 *
 * Where not even a page table exists, newer kernels list the entries it would
 * have as written, and older ones do not list them at all. On those a pass
 * over empty entries goes ahead of every harvest, and one that protects what
 * the file has there follows every re-arming.
 */
#ifndef PMIG_DIRTY_DIRTY_UFFD_SCAN_H
#define PMIG_DIRTY_DIRTY_UFFD_SCAN_H

#include "dirty/dirty_uffd.h"
#include "dirty/gather.h"

/**
 * struct uffd_async - state of the asynchronous tracker
 * @uffd:	what protects
 * @pagemap_fd:	what tells
 * @lists_all:	entries without a page table are listed as written
 * @held:	one word per block: pages that a file is known to hold; atomic
 */
struct uffd_async {
	struct uffd uffd;
	int pagemap_fd;
	bool lists_all;
	uint64_t *held;
};

/* Does this kernel list what has no page table? No where it is not known. */
bool uffd_lists_all(const struct uffd_async *u);

/*
 * Hand the written pages of a region to gather. All that was written before
 * the call is handed over or unarmed.
 */
int uffd_list_written(const struct pmig_dirty *dirty,
		      const struct pmig_region_map *map, struct gather *gather,
		      struct pmig_error *err);

/*
 * Protect the written pages among [first, first + count) of a region, and
 * hand them to gather. A page that was written and is neither handed over
 * nor unarmed is still unprotected. After a failure some may be protected
 * that were not handed over.
 */
int uffd_protect_written(const struct pmig_dirty *dirty,
			 const struct pmig_region_map *map, uint64_t first,
			 uint64_t count, struct gather *gather,
			 struct pmig_error *err);

/*
 * dirty_uffd_file.c: of [first, first + count) pages of a shared file, hand
 * those to gather that the file holds. Unarmed pages are left out: they are
 * pending in all views.
 */
void uffd_gather_held(const struct pmig_dirty *dirty,
		      const struct pmig_region_map *map, uint64_t first,
		      uint64_t count, struct gather *gather);

#endif
