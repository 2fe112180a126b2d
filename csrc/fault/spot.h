/* SPDX-License-Identifier: Apache-2.0 */
/* spot.h - from an address that the kernel names to a page of a block */
#ifndef PMIG_FAULT_SPOT_H
#define PMIG_FAULT_SPOT_H

#include "fault/faults.h"

/**
 * struct spot - where an address of the guest's mapping lies
 * @landing:	in which region
 * @offset_bytes: into it
 * @block:	number of the block
 * @page:	in the block
 */
struct spot {
	const struct landing *landing;
	uint64_t offset_bytes;
	uint64_t block;
	uint32_t page;
};

/* False: in no region. */
bool spot_find(const struct pmig_faults *faults, uint64_t address,
	       struct spot *spot);

/*
 * A page that is not missing is touched: place it, or zeros where it is a
 * hole, with events_lock held shared. As uffd_place(). here.c.
 */
int spot_place(struct pmig_faults *faults, const struct spot *spot,
	       bool is_minor);

#endif
