/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prefault.h"

#include <stdlib.h>

#include "base/thread.h"

/* One range; false when it is time to stop. */
static bool populate_range(struct prefault *prefault,
			   const struct block_range *range)
{
	uint64_t end = range->first_block + range->n_blocks;

	for (uint64_t at = range->first_block; at < end;) {
		uint64_t step = end - at;

		if (prefault->stopping)
			return false;
		if (step > PREFAULT_STEP_BLOCKS)
			step = PREFAULT_STEP_BLOCKS;
		/* a failure here is met again, and reported, by the reader */
		if (at + step > prefault->passed)
			pmig_memory_populate(prefault->memory, at, step, NULL);
		at += step;
	}
	return true;
}

static void *prefault_main(void *arg)
{
	struct prefault *prefault = arg;

	for (uint32_t i = 0; i < prefault->n_ranges; i++)
		if (!populate_range(prefault, &prefault->ranges[i]))
			return NULL;
	/* fails only when the receiver has failed and nobody listens */
	events_populated(prefault->events, NULL);
	return NULL;
}

int prefault_start(struct prefault *prefault, const struct pmig_memory *memory,
		   struct event_queue *events, struct block_range *ranges,
		   uint32_t n_ranges, struct pmig_error *err)
{
	int rc;

	prefault->memory = memory;
	prefault->events = events;
	prefault->ranges = ranges;
	prefault->n_ranges = n_ranges;
	rc = pmig_thread_start(&prefault->thread, "prefault", 0, prefault_main,
			       prefault, err);
	prefault->started = rc == 0;
	return rc;
}

void prefault_note(struct prefault *prefault, uint64_t block)
{
	/* the readers race here, and whichever wins is good enough */
	if (block > prefault->passed)
		prefault->passed = block;
}

void prefault_stop(struct prefault *prefault)
{
	prefault->stopping = true;
	if (prefault->started)
		pthread_join(prefault->thread, NULL);
	free(prefault->ranges);
}
