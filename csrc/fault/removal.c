/* SPDX-License-Identifier: Apache-2.0 */
/* removal.c - memory that the guest gives back; theory in faults.h */
#include "base/bitmap.h"
#include "fault/pages.h"
#include "fault/spot.h"

/*
 * Missing pages of a run within one block; the others are as they are, unless
 * they are part of a larger page, which is placed from the attic as a whole.
 */
static void remove_pages(struct pmig_faults *faults, const struct spot *spot,
			 uint32_t n_pages)
{
	uint64_t pages = pmig_word_mask(spot->page, n_pages);
	const struct landing *landing = spot->landing;
	bool large = fault_is_large(landing->map);
	uint64_t first, n, at = 0, gone;
	struct waiting fault;

	pthread_mutex_lock(&faults->lock);
	gone = faults->missing[spot->block] & pages;
	faults->probes[spot->block] &= ~pages;
	faults_clear(faults, spot->block, gone);
	faults_forget(faults, spot->block, pages);
	while (wait_list_take(&faults->waiting, spot->block,
			      large ? pages : gone, &fault))
		;
	pthread_mutex_unlock(&faults->lock);
	if (large && !landing->mapped)
		gone = pages;
	while ((n = pmig_bitmap_next_run(&gone, PMIG_BLOCK_PAGES, at,
					 &first))) {
		landing_remove(landing,
			       spot->offset_bytes -
				       spot->page * PMIG_PAGE_BYTES +
				       first * PMIG_PAGE_BYTES,
			       n * PMIG_PAGE_BYTES);
		at = first + n;
	}
	/* whoever waited faults anew, and finds zeros */
	uffd_wake(faults_fd(faults, spot->offset_bytes),
		  landing->base + spot->offset_bytes,
		  (uint64_t)n_pages * PMIG_PAGE_BYTES);
}

void faults_remove(struct pmig_faults *faults, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct spot spot;

	while (at < end && spot_find(faults, at, &spot)) {
		uint64_t left = (end - at) / PMIG_PAGE_BYTES;
		uint32_t n = PMIG_BLOCK_PAGES - spot.page;

		if (left < n)
			n = (uint32_t)left;
		if (!n)
			break;
		remove_pages(faults, &spot, n);
		at += (uint64_t)n * PMIG_PAGE_BYTES;
	}
}
