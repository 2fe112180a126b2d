/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prefault.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "base/cpus.h"
#include "base/thread.h"

/* Blocks from block to the end of its step, at most n_blocks. */
static uint64_t step_blocks(const struct prefault *prefault, uint64_t block,
			    uint64_t n_blocks)
{
	uint64_t step_bytes = (uint64_t)PREFAULT_STEP_BLOCKS * PMIG_BLOCK_BYTES;
	struct pmig_span span;
	uint64_t n;

	pmig_memory_span(prefault->memory, block, n_blocks, &span);
	if (span.map->region.page_size_bytes > step_bytes)
		step_bytes = span.map->region.page_size_bytes;
	n = (step_bytes - (uintptr_t)span.hva % step_bytes + PMIG_BLOCK_BYTES -
	     1) /
	    PMIG_BLOCK_BYTES;
	return n < span.n_blocks ? n : span.n_blocks;
}

/* With the lock held: the range to go on with; NULL at the end of the list. */
static const struct block_range *current_range(struct prefault *prefault)
{
	while (prefault->range < prefault->n_ranges &&
	       prefault->at == prefault->ranges[prefault->range].n_blocks) {
		prefault->range++;
		prefault->at = 0;
	}
	if (prefault->range == prefault->n_ranges)
		return NULL;
	return &prefault->ranges[prefault->range];
}

/* Is nothing to be allocated any more, whatever the list says? */
static bool is_over(const struct prefault *prefault)
{
	return prefault->stopping || (prefault->passed && !prefault->goes_on);
}

/* Take the next step off the list; false when there is none. */
static bool take_step(struct prefault *prefault, struct block_range *step)
{
	const struct block_range *range = NULL;

	pthread_mutex_lock(&prefault->lock);
	if (!is_over(prefault))
		range = current_range(prefault);
	if (range) {
		step->first_block = range->first_block + prefault->at;
		step->n_blocks = step_blocks(prefault, step->first_block,
					     range->n_blocks - prefault->at);
		prefault->at += step->n_blocks;
	}
	pthread_mutex_unlock(&prefault->lock);
	return range != NULL;
}

/* The last one to end tells that all is done. */
static void end_one(struct prefault *prefault)
{
	/* fails only when the receiver has failed and nobody listens */
	if (atomic_fetch_sub(&prefault->n_running, 1) == 1 &&
	    !prefault->stopping)
		events_populated(prefault->events, NULL);
}

/*
 * Behind all others, but not in idle time only: allocating holds a lock of the
 * whole address space, and whoever wants that waits for as long as this thread
 * is kept from running. Failure leaves it as any other, which is as right and
 * slower.
 */
static void yield_to_others(void)
{
	const int behind = 10;

	/* of Linux, 0 is the calling thread, not its process */
	setpriority(PRIO_PROCESS, 0, behind);
}

static void *prefault_main(void *arg)
{
	struct prefault *prefault = arg;
	struct block_range step;

	yield_to_others();
	while (take_step(prefault, &step)) {
		/* a failure here is met again, and reported, by the reader */
		if (step.first_block + step.n_blocks > prefault->passed)
			pmig_memory_populate(prefault->memory, step.first_block,
					     step.n_blocks, NULL);
	}
	end_one(prefault);
	return NULL;
}

static unsigned int useful_threads(const struct block_range *ranges,
				   uint32_t n_ranges)
{
	unsigned int cpus = pmig_cpus_usable();
	uint64_t shares, n_blocks = 0;

	for (uint32_t i = 0; i < n_ranges; i++)
		n_blocks += ranges[i].n_blocks;
	shares = n_blocks / PREFAULT_SHARE_BLOCKS + 1;
	if (shares > PREFAULT_MAX_THREADS)
		shares = PREFAULT_MAX_THREADS;
	return cpus < shares ? cpus : (unsigned int)shares;
}

static int start_thread(struct prefault *prefault, struct pmig_error *err)
{
	int rc = pmig_thread_start(&prefault->threads[prefault->n_threads],
				   "prefault", prefault->n_threads,
				   prefault_main, prefault, err);

	if (!rc)
		prefault->n_threads++;
	return rc;
}

int prefault_start(struct prefault *prefault, const struct pmig_memory *memory,
		   struct event_queue *events, struct block_range *ranges,
		   uint32_t n_ranges, unsigned int n_busy,
		   struct pmig_error *err)
{
	unsigned int wanted = useful_threads(ranges, n_ranges);
	int rc;

	prefault->goes_on = n_busy < pmig_cpus_usable();

	prefault->memory = memory;
	prefault->events = events;
	prefault->ranges = ranges;
	prefault->n_ranges = n_ranges;
	prefault->n_running = wanted;
	pthread_mutex_init(&prefault->lock, NULL);
	rc = start_thread(prefault, err);
	prefault->started = rc == 0;
	if (rc) {
		pthread_mutex_destroy(&prefault->lock);
		return rc;
	}
	/* what one thread can do, fewer than wanted can do as well */
	for (unsigned int i = 1; i < wanted; i++)
		if (start_thread(prefault, NULL))
			end_one(prefault);
	return 0;
}

bool prefault_note(struct prefault *prefault, uint64_t block)
{
	/* the readers race here, and whichever wins is good enough */
	if (block >= prefault->passed)
		prefault->passed = block + 1;
	return !prefault->goes_on;
}

void prefault_end(struct prefault *prefault)
{
	prefault->stopping = true;
	for (unsigned int i = 0; i < prefault->n_threads; i++)
		pthread_join(prefault->threads[i], NULL);
	prefault->n_threads = 0;
}

void prefault_stop(struct prefault *prefault)
{
	prefault_end(prefault);
	if (prefault->started)
		pthread_mutex_destroy(&prefault->lock);
	free(prefault->ranges);
}
