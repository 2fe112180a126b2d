/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holes.h - which pages of a span are allocated, by kind of backing
 *
 * Each sets one bit per allocated page, bit 0 being the first page of the
 * span, and leaves the others alone. None touches the memory itself.
 */
#ifndef PMIG_MEMORY_HOLES_H
#define PMIG_MEMORY_HOLES_H

#include "memory/memory.h"

/* A shared mapping of a file of small pages: the page cache tells. */
int pmig_holes_file(const struct pmig_span *span, uint64_t *bitmap,
		    struct pmig_error *err);

/* A shared mapping of a hugetlbfs file. */
int pmig_holes_hugetlb(const struct pmig_memory *memory,
		       const struct pmig_span *span, uint64_t *bitmap,
		       struct pmig_error *err);

#endif
