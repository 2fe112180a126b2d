/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h - the bitmap of missing pages, and what follows from it */
#ifndef PMIG_FAULT_PAGES_H
#define PMIG_FAULT_PAGES_H

#include "fault/faults.h"

/**
 * struct fault_unit - the blocks that one page of the backing spans
 * @first:	number of the first
 * @n:		1 for pages of 4 KiB, of which a block has many
 */
struct fault_unit {
	uint64_t first;
	uint64_t n;
};

/* The unit of a block. */
static inline struct fault_unit fault_unit_of(const struct pmig_region_map *map,
					      uint64_t number)
{
	uint64_t n = map->region.page_size_bytes / PMIG_BLOCK_BYTES;

	if (n <= 1)
		return (struct fault_unit){number, 1};
	return (struct fault_unit){
		number - (number - map->first_block) % n,
		n,
	};
}

static inline bool fault_is_large(const struct pmig_region_map *map)
{
	return map->region.page_size_bytes > PMIG_PAGE_BYTES;
}

/* Under the lock: is any page of the unit missing? */
bool faults_unit_missing(const struct pmig_faults *faults,
			 const struct fault_unit *unit);

/* Under the lock: pages are missing no longer. */
void faults_clear(struct pmig_faults *faults, uint64_t block, uint64_t pages);

/* Under the lock: who goes on after us need not place these any more. */
void faults_forget(struct pmig_faults *faults, uint64_t block, uint64_t pages);

/* Under the lock: ask for these of a block, as far as they are missing. */
void faults_ask(struct pmig_faults *faults, uint64_t block, uint64_t pages);

/*
 * Under the lock: ask for what faults wait for and nobody was asked for.
 */
void faults_ask_waiting(struct pmig_faults *faults);

/*
 * Is nothing missing any more? Then memory is the kernel's again. -EAGAIN: it
 * is, and has to be looked at again once an event was read; or -errno.
 */
int faults_check_complete(struct pmig_faults *faults);

#endif
