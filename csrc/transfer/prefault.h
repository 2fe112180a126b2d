/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefault.h - allocate memory ahead of the pages that will fill it
 *
 * Allocating page by page, on the fault that the arriving bytes cause, costs
 * as much as moving the bytes. One thread therefore walks the announced
 * ranges and has the kernel allocate them in big steps while the first bytes
 * are still on their way. It is only a head start: a step that the stream
 * has already passed is left out, and a step that fails is simply not done,
 * because the fault that follows allocates as well.
 */
#ifndef PMIG_TRANSFER_PREFAULT_H
#define PMIG_TRANSFER_PREFAULT_H

#include <pthread.h>
#include <stdatomic.h>

#include "memory/memory.h"
#include "transfer/events.h"

enum {
	PREFAULT_STEP_BLOCKS = 32, /* 8 MiB */
};

/* A run of blocks. */
struct block_range {
	uint64_t first_block;
	uint64_t n_blocks;
};

/**
 * struct prefault - see above
 * @memory:	borrowed
 * @events:	borrowed; told when all is allocated
 * @thread:	its thread, when @started
 * @ranges:	what to allocate, ascending; owned
 * @n_ranges:	how many
 * @passed:	a block that pages have already come for; what lies before it
 *		is not worth allocating any more
 * @stopping:	end at the next step
 */
struct prefault {
	const struct pmig_memory *memory;
	struct event_queue *events;
	pthread_t thread;
	bool started;
	struct block_range *ranges;
	uint32_t n_ranges;
	atomic_uint_least64_t passed;
	atomic_bool stopping;
};

/* Start on ranges, which are taken over. Once for each receiver. */
int prefault_start(struct prefault *prefault, const struct pmig_memory *memory,
		   struct event_queue *events, struct block_range *ranges,
		   uint32_t n_ranges, struct pmig_error *err);

/* Pages have come for block. */
void prefault_note(struct prefault *prefault, uint64_t block);

/* Stop and join; also when never started. */
void prefault_stop(struct prefault *prefault);

#endif
