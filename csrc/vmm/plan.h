/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - a checked configuration and where everything lies in RAM
 */
#ifndef PVMM_PLAN_H
#define PVMM_PLAN_H

#include "vmm/vmm.h"

/**
 * struct pvmm_slice - the part of the working set that one vCPU writes
 * @offset:	of its first page in RAM
 * @n_pages:	pages in it
 * @shadow:	offset of its shadow counters in RAM, 8 bytes for each page
 */
struct pvmm_slice {
	uint64_t offset;
	uint64_t n_pages;
	uint64_t shadow;
};

/**
 * struct pvmm_plan - follows from the configuration alone
 * @config:	with defaults filled in
 * @slices:	of each vCPU
 * @end_offset:	first byte of RAM after the last slice
 * @per_tick:	steps of one vCPU for each tick, 32.32 fixed point
 * @partial_words: 8-byte words that program partial writes into a page
 * @partial_mask: bits of the offset that varies between its writes
 */
struct pvmm_plan {
	struct pvmm_config config;
	struct pvmm_slice slices[PVMM_MAX_VCPUS];
	uint64_t end_offset;
	uint64_t per_tick;
	uint64_t partial_words;
	uint64_t partial_mask;
};

/* Check config and plan the machine. -EINVAL with the member at fault. */
int pvmm_plan(const struct pvmm_config *config, struct pvmm_plan *plan,
	      struct pmig_error *err);

/* Offset in a page at which version of program partial begins. */
uint64_t pvmm_partial_offset(const struct pvmm_plan *plan, uint64_t version);

#endif
