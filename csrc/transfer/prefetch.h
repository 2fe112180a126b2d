/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.h - how many neighbours go with a page that was asked for
 *
 * A fault behind the last ones is part of a sequence, whose window doubles;
 * any other begins a new sequence. How large that one begins follows from
 * how faults have been lately: it doubles with every fault in sequence and
 * halves with every other, so a guest that jumps about soon gets no neighbours
 * and no link is spent on them. Several sequences are remembered, one for
 * each thread that walks somewhere.
 *
 * Pure. One object belongs to one thread.
 */
#ifndef PMIG_TRANSFER_PREFETCH_H
#define PMIG_TRANSFER_PREFETCH_H

#include <stdint.h>

enum {
	PREFETCH_SEQUENCES = 16,
	PREFETCH_MAX_PAGES = 32,
};

/**
 * struct prefetch - see above
 * @next:	of each sequence, the page after its window
 * @window:	its last window
 * @n:		sequences
 * @turn:	the one to be forgotten next
 * @start:	window of a new sequence; 0: no neighbours
 */
struct prefetch {
	uint64_t next[PREFETCH_SEQUENCES];
	uint32_t window[PREFETCH_SEQUENCES];
	uint32_t n;
	uint32_t turn;
	uint32_t start;
};

void prefetch_init(struct prefetch *prefetch);

/* A fault at page: how many pages behind it to send with it. */
uint32_t prefetch_window(struct prefetch *prefetch, uint64_t page);

#endif
