/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd write-protection without a fault handler (Linux 6.7).
 *
 * With UFFD_FEATURE_WP_ASYNC the kernel itself lifts the protection when a
 * page is written. PAGEMAP_SCAN then lists the pages that are not protected
 * as written, and can protect them in the same walk. It sees every write
 * through the page tables of this process: vCPUs, threads, and devices that
 * are served by the kernel, but not what other processes write.
 *
 * To begin with nothing is protected, so all that is populated counts as
 * written. Of anonymous memory, a hole is neither written nor protected; it
 * is found as written when it comes to be populated. A read does that, too,
 * which costs a page sent without need. (A page that is given back becomes a
 * hole; as with every tracker, that is for the caller to mark.) In a shared
 * mapping an empty entry of the page tables proves nothing: the page may have
 * been written and then reclaimed. There the kernel, asked for nothing but
 * written pages, counts empty entries among them, and protects them with a
 * marker.
 *
 * A harvest lists without protecting; a rearm protects what is written at
 * that moment, which may be more than was harvested. The excess is as good
 * as harvested, and is handed to all views under the lock of the unit; it is
 * armed already. For the moment in which such a page is neither written to
 * the kernel's eyes nor pending, a harvest ends by passing through all locks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "dirty/dirty_uffd.h"
#include "dirty/gather.h"
#include "memory/pagemap.h"

enum {
	SCAN_REGIONS = 256, /* 6 KiB of stack */
};

/**
 * struct uffd_async - state of this tracker
 * @uffd:	what protects
 * @pagemap_fd:	what tells
 */
struct uffd_async {
	struct uffd uffd;
	int pagemap_fd;
};

static void uffd_async_free(struct pmig_dirty *dirty)
{
	struct uffd_async *u = dirty->impl;

	uffd_close(&u->uffd);
	close(u->pagemap_fd);
	free(u);
	dirty->impl = NULL;
}

/* An empty scan of an empty range: does the kernel know it? */
static int check_scan(int pagemap_fd, struct pmig_error *err)
{
	struct pmig_pagemap_scan scan = {
		.category_mask = PMIG_PAGE_IS_WRITTEN,
		.return_mask = PMIG_PAGE_IS_WRITTEN,
	};
	struct pmig_page_region region;

	if (pmig_pagemap_scan(pagemap_fd, &scan, &region, 1) >= 0)
		return 0;
	return pmig_fail(err, -ENOTSUP,
			 "asynchronous write-protection needs Linux 6.7 "
			 "(PAGEMAP_SCAN)");
}

static int open_both(struct uffd_async *u, const struct pmig_dirty *dirty,
		     struct pmig_error *err)
{
	int rc;

	u->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (u->pagemap_fd < 0) {
		pmig_fail_errno(err, "cannot open /proc/self/pagemap");
		return uffd_not_here(err);
	}
	rc = check_scan(u->pagemap_fd, err);
	if (!rc)
		rc = uffd_open(&u->uffd, dirty,
			       PMIG_UFFD_WP_ASYNC | PMIG_UFFD_WP_UNPOPULATED, 0,
			       err);
	if (rc)
		close(u->pagemap_fd);
	return rc;
}

static int uffd_async_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct uffd_async *u;
	int rc;

	if (dirty->config.flags & PMIG_DIRTY_NO_ASYNC_WP)
		return pmig_fail(err, -ENOTSUP,
				 "asynchronous write-protection is switched "
				 "off by config.flags");
	u = calloc(1, sizeof(*u));
	if (!u)
		return pmig_fail(err, -ENOMEM, "no memory for a tracker");
	rc = open_both(u, dirty, err);
	if (rc) {
		free(u);
		return rc;
	}
	dirty->impl = u;
	dirty_explain(dirty, "async",
		      "userfaultfd write-protection without a handler: the "
		      "kernel offers it (UFFD_FEATURE_WP_ASYNC, "
		      "PAGEMAP_SCAN)");
	return 0;
}

static int uffd_async_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	const struct uffd_async *u = dirty->impl;

	return uffd_register(&u->uffd, err);
}

static int uffd_async_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	const struct uffd_async *u = dirty->impl;

	return uffd_unregister(&u->uffd, err);
}

/*
 * Hand every written page of [start, end) of a region to gather, protecting
 * them on the way if so asked. 0 or -errno.
 */
static int scan_written(const struct pmig_dirty *dirty,
			const struct pmig_region_map *map, uint64_t start,
			uint64_t end, uint64_t flags, struct gather *gather)
{
	const struct uffd_async *u = dirty->impl;
	struct pmig_page_region found[SCAN_REGIONS];
	uint64_t hva = (uint64_t)(uintptr_t)map->region.hva;
	struct pmig_pagemap_scan scan = {
		.flags = flags | PMIG_SCAN_CHECK_WPASYNC,
		.start = hva + start,
		.end = hva + end,
		.category_mask = PMIG_PAGE_IS_WRITTEN,
		.return_mask = PMIG_PAGE_IS_WRITTEN,
	};

	if (!(map->region.flags & PMIG_REGION_SHARED))
		scan.category_anyof_mask =
			PMIG_PAGE_IS_PRESENT | PMIG_PAGE_IS_SWAPPED;
	while (scan.start < scan.end) {
		int n = pmig_pagemap_scan(u->pagemap_fd, &scan, found,
					  SCAN_REGIONS);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			gather_pages(gather, map,
				     (found[i].start - hva) / PMIG_PAGE_BYTES,
				     (found[i].end - found[i].start) /
					     PMIG_PAGE_BYTES);
	}
	return 0;
}

static int uffd_async_harvest(struct pmig_dirty *dirty, struct pmig_error *err)
{
	for (uint32_t i = 0; i < dirty->memory->n_maps; i++) {
		const struct pmig_region_map *map = &dirty->memory->maps[i];
		struct gather gather = {.dirty = dirty, .flush = dirty_found};
		int rc = scan_written(dirty, map, 0, map->region.size_bytes, 0,
				      &gather);

		gather_flush(&gather);
		if (rc) {
			errno = -rc;
			return pmig_fail_errno(err,
					       "region %s: PAGEMAP_SCAN fails",
					       map->region.name);
		}
	}
	dirty_pass_locks(dirty);
	return 0;
}

/* Found while re-arming: pending in all views, and armed already. */
static void pend_blocks(struct pmig_dirty *dirty, uint64_t first_block,
			const uint64_t *words, uint64_t n_blocks)
{
	for (uint64_t i = 0; i < n_blocks; i++)
		if (words[i])
			dirty_pend_locked(dirty, first_block + i, words[i]);
}

/* Part of it may be protected without having been reported. */
static void unarm_span(struct pmig_dirty *dirty, const struct pmig_span *span)
{
	for (uint64_t i = 0; i < span->n_blocks; i++) {
		struct pmig_block block;

		if (pmig_memory_locate(dirty->memory, span->first_block + i,
				       &block))
			dirty_unarm_locked(dirty, span->first_block + i,
					   block.valid);
	}
}

static bool is_armed(const struct pmig_dirty *dirty,
		     const struct pmig_span *span)
{
	uint64_t any = 0;

	for (uint64_t i = 0; i < span->n_blocks; i++)
		any |= pmig_bits_load(&dirty->unarmed[span->first_block + i]);
	return !any;
}

static int uffd_async_rearm(struct pmig_dirty *dirty,
			    const struct pmig_span *span,
			    struct pmig_error *err)
{
	struct gather gather = {.dirty = dirty, .flush = pend_blocks};
	uint64_t first = span->offset_bytes / PMIG_PAGE_BYTES;
	uint64_t count = pmig_span_pages(span);
	struct pmig_span wide;
	int rc;

	if (is_armed(dirty, span))
		return 0;
	uffd_widen(span->map, &first, &count);
	pmig_memory_span(dirty->memory,
			 span->map->first_block + first / PMIG_BLOCK_PAGES,
			 pmig_bitmap_words(count), &wide);
	rc = scan_written(dirty, span->map, first * PMIG_PAGE_BYTES,
			  (first + count) * PMIG_PAGE_BYTES,
			  PMIG_SCAN_WP_MATCHING, &gather);
	gather_flush(&gather);
	if (!rc) {
		dirty_armed_locked(dirty, &wide);
		return 0;
	}
	unarm_span(dirty, &wide);
	errno = -rc;
	return pmig_fail_errno(err, "region %s: PAGEMAP_SCAN fails",
			       span->map->region.name);
}

const struct dirty_ops dirty_uffd_async_ops = {
	.tracker = PMIG_TRACKER_UFFD_WP,
	.probe = uffd_async_probe,
	.start = uffd_async_start,
	.harvest = uffd_async_harvest,
	.rearm = uffd_async_rearm,
	.stop = uffd_async_stop,
	.free = uffd_async_free,
};
