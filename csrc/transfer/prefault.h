/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefault.h - allocate memory ahead of the pages that will fill it
 *
 * Allocating page by page, on the fault that the arriving bytes cause, costs
 * as much as moving the bytes. A few threads therefore walk the announced
 * ranges and have the kernel allocate them in big steps, while the first
 * bytes are still on their way. Clearing memory is what takes the time, so
 * threads help as long as there are processors: they take steps off one list,
 * in ascending order. Steps end where huge pages end, so that no huge page is
 * cleared by two of them.
 *
 * They leave the processors to others (nice 10), but not altogether: they hold
 * a lock of the whole address space while the kernel allocates, and a thread
 * that never runs never gives it back. Where the readers, and a sender on the
 * same host, keep all processors busy, going ahead is of no use and costs a
 * tenth of the speed: a page that was cleared just now is still in the cache
 * when its bytes come, one that was cleared far ahead is not. There the threads
 * end when the first page comes, and readers allocate whole blocks themselves.
 *
 * It is only a head start: a step that the stream has already passed is left
 * out, and a step that fails is simply not done, because the fault that
 * follows allocates as well.
 */
#ifndef PMIG_TRANSFER_PREFAULT_H
#define PMIG_TRANSFER_PREFAULT_H

#include <pthread.h>
#include <stdatomic.h>

#include "memory/memory.h"
#include "transfer/events.h"

enum {
	/*
	 * 2 MiB, or one page of the backing where that is larger: less than a
	 * millisecond, in which others may wait for the address space.
	 */
	PREFAULT_STEP_BLOCKS = 8,
	/* clearing memory saturates it with about this many */
	PREFAULT_MAX_THREADS = 4,
	/* 64 MiB: with less, another thread costs more than it brings */
	PREFAULT_SHARE_BLOCKS = 256,
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
 * @started:	prefault_start() has succeeded
 * @threads:	its threads
 * @n_threads:	how many
 * @n_running:	those that have not ended, and those still to be started
 * @ranges:	what to allocate, ascending; owned
 * @n_ranges:	how many
 * @lock:	guards @range and @at
 * @range:	the range that the next step is in
 * @at:		blocks of that range that were given to threads
 * @passed:	behind a block that pages have already come for; what lies
 *		before is not worth allocating any more
 * @goes_on:	there are processors for this while pages come, too
 * @stopping:	end at the next step
 */
struct prefault {
	const struct pmig_memory *memory;
	struct event_queue *events;
	bool started;
	pthread_t threads[PREFAULT_MAX_THREADS];
	unsigned int n_threads;
	atomic_uint n_running;
	struct block_range *ranges;
	uint32_t n_ranges;
	pthread_mutex_t lock;
	uint32_t range;
	uint64_t at;
	atomic_uint_least64_t passed;
	atomic_bool goes_on;
	atomic_bool stopping;
};

/*
 * Start on ranges, which are taken over. Once for each receiver. The threads
 * run where the calling thread may. n_busy: processors that others need as
 * soon as pages flow.
 */
int prefault_start(struct prefault *prefault, const struct pmig_memory *memory,
		   struct event_queue *events, struct block_range *ranges,
		   uint32_t n_ranges, unsigned int n_busy,
		   struct pmig_error *err);

/*
 * Pages have come for block, and are about to be written. Returns true when
 * nobody goes ahead of them, so that whoever writes them allocates.
 */
bool prefault_note(struct prefault *prefault, uint64_t block);

/* Allocate nothing more; may be repeated, and before the start. */
void prefault_end(struct prefault *prefault);

/* The same, and release; also when never started. */
void prefault_stop(struct prefault *prefault);

#endif
