/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h - what RAM holds at the start
 *
 * The content of a page is a function of (kind, seed, page number), so it can
 * be made again anywhere to be compared with.
 */
#ifndef PVMM_CONTENT_H
#define PVMM_CONTENT_H

#include "vmm/ram.h"

/* Write the initial content of page number page to words[512]. */
void pvmm_content_page(enum pvmm_content kind, uint64_t seed, uint64_t page,
		       uint64_t *words);

/*
 * Fill the whole of RAM but its first PVMM_LOW_BYTES and the shadow counters;
 * pages of the working set get their counter and identity. Uses several
 * threads for the time of the call.
 */
void pvmm_content_fill(const struct pvmm_ram *ram,
		       const struct pvmm_plan *plan);

/*
 * Compare every page outside the working set. Returns how many were compared
 * and the number of the first that differs, or UINT64_MAX, in *bad_page.
 */
uint64_t pvmm_content_compare(const struct pvmm_ram *ram,
			      const struct pvmm_plan *plan, uint64_t *bad_page);

/* The smallest offset that is neither low memory nor a shadow counter. */
uint64_t pvmm_content_start(const struct pvmm_plan *plan);

#endif
