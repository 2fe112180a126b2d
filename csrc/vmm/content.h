/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h - what RAM holds at the start
 *
 * The content of a page is a function of (kind, seed, page number), so it can
 * be made again anywhere to be compared with. Kind executable needs the same
 * programs at hand; a digest of them is in RAM at PVMM_CORPUS.
 */
#ifndef PVMM_CONTENT_H
#define PVMM_CONTENT_H

#include "vmm/vm.h"

/* Have at hand what content is made of. -ENOENT: there is nothing. */
int pvmm_content_open(struct pvmm *vm, struct pmig_error *err);
void pvmm_content_close(struct pvmm *vm);

/*
 * The calls below are for when it is open. -ESTALE: RAM was filled from
 * something else than what is at hand.
 */
int pvmm_content_check(const struct pvmm *vm, struct pmig_error *err);

/* Write the initial content of page number page to words[512]. */
void pvmm_content_page(const struct pvmm *vm, uint64_t page, uint64_t *words);

/*
 * Fill the whole of RAM but its first PVMM_LOW_BYTES and the shadow counters;
 * pages of the working set get their counter and identity. Uses several
 * threads for the time of the call.
 */
void pvmm_content_fill(const struct pvmm *vm);

/*
 * Compare every page outside the working set. Returns how many were compared
 * and the number of the first that differs, or UINT64_MAX, in *bad_page.
 */
uint64_t pvmm_content_compare(const struct pvmm *vm, uint64_t *bad_page);

#endif
