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

enum {
	PMIG_DATA_WINDOW = 1024, /* pages */
};

/**
 * struct pmig_data_walk - on the way through the allocated pages of a file
 * @span:	a part of a shared mapping of small pages; whole pages, it need
 *		not begin with a block. Set it and leave the rest zero.
 * @page:	where to go on, counted from the start of the span
 * @first:	first page that mincore() was asked for
 * @end:	first page behind those
 * @in_core:	bit 0 of each byte: the page is in the page cache
 */
struct pmig_data_walk {
	const struct pmig_span *span;
	uint64_t page;
	uint64_t first;
	uint64_t end;
	unsigned char in_core[PMIG_DATA_WINDOW];
};

/*
 * Move *page, in the span's numbers, on to the next allocated page, or to the
 * end of the span or behind it.
 */
int pmig_data_seek(const struct pmig_span *span, uint64_t *page,
		   struct pmig_error *err);

/* The next run of allocated pages, in the span's numbers; *count 0: none. */
int pmig_data_next(struct pmig_data_walk *walk, uint64_t *first,
		   uint64_t *count, struct pmig_error *err);

/* A shared mapping of a file of small pages: the page cache tells. */
int pmig_holes_file(const struct pmig_span *span, uint64_t *bitmap,
		    struct pmig_error *err);

/* A shared mapping of a hugetlbfs file. */
int pmig_holes_hugetlb(const struct pmig_memory *memory,
		       const struct pmig_span *span, uint64_t *bitmap,
		       struct pmig_error *err);

#endif
