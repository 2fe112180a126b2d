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
 * written. A hole is neither written nor protected; it is found as written
 * when it comes to be populated. A read does that, too, which costs a page
 * sent without need. (A page that is given back becomes a hole; as with every
 * tracker, that is for the caller to mark.) dirty_uffd_scan.h has what an
 * empty entry of the page tables means on each backing.
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
#include "dirty/dirty_uffd_scan.h"
#include "memory/pagemap.h"

static void uffd_async_free(struct pmig_dirty *dirty)
{
	struct uffd_async *u = dirty->impl;

	uffd_close(&u->uffd);
	close(u->pagemap_fd);
	free(u->held);
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
	u->held = calloc(dirty->memory->n_blocks, sizeof(*u->held));
	rc = u->held ? open_both(u, dirty, err)
		     : pmig_fail(err, -ENOMEM, "no memory for a tracker");
	if (rc) {
		free(u->held);
		free(u);
		return rc;
	}
	u->lists_all = uffd_lists_all(u);
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

static int uffd_async_harvest(struct pmig_dirty *dirty, struct pmig_error *err)
{
	for (uint32_t i = 0; i < dirty->memory->n_maps; i++) {
		const struct pmig_region_map *map = &dirty->memory->maps[i];
		struct gather gather = {.dirty = dirty, .flush = dirty_found};
		int rc = uffd_list_written(dirty, map, &gather, err);

		if (rc)
			return rc;
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
	rc = uffd_protect_written(dirty, span->map, first, count, &gather, err);
	if (rc)
		unarm_span(dirty, &wide);
	else
		dirty_armed_locked(dirty, &wide);
	return rc;
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
