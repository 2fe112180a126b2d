/* SPDX-License-Identifier: Apache-2.0 */
/* fill.c - pages that nobody asked for yet; theory in restore.h */
#include <errno.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "fault/pages.h"
#include "restore/restore.h"

/* ---- first pages ------------------------------------------------------- */

/* False when it is over, or a page could not be read. */
static bool prefetch_block(struct restore_worker *worker, uint64_t block,
			   uint64_t pages)
{
	struct pmig_restore *restore = worker->restore;

	if (restore_is_over(restore))
		return false;
	pages = restore_claim(restore, block, pages);
	return !pages || restore_bring(worker, block, pages, 0,
				       &restore->prefetched) >= 0;
}

/* A larger page of the backing is there only when all of it is. */
static bool prefetch_unit(struct restore_worker *worker, uint64_t block)
{
	const struct pmig_memory *memory = worker->restore->memory;
	struct fault_unit unit =
		fault_unit_of(pmig_memory_map_of(memory, block), block);

	for (uint64_t i = 0; i < unit.n; i++)
		if (!prefetch_block(worker, unit.first + i, ~UINT64_C(0)))
			return false;
	return true;
}

static bool prefetch(struct restore_worker *worker)
{
	struct pmig_restore *restore = worker->restore;
	bool going = true;

	for (uint64_t i = 0; i < restore->n_first_pages && going; i++) {
		uint64_t block = restore->first_pages[i] / PMIG_BLOCK_PAGES;
		uint64_t pages = pmig_bits_take(&restore->first[block]);

		if (!pages)
			continue;
		if (fault_is_large(pmig_memory_map_of(restore->memory, block)))
			going = prefetch_unit(worker, block);
		else
			going = prefetch_block(worker, block, pages);
	}
	if (going)
		restore->prefetch_ns = pmig_now_ns() - restore->started_ns;
	return going;
}

/* ---- the rest ---------------------------------------------------------- */

/* With the lock held: until then, or until it is over. */
static void wait_until(struct pmig_restore *restore, uint64_t at_ns)
{
	const struct timespec at = {
		.tv_sec = (time_t)(at_ns / 1000000000),
		.tv_nsec = (long)(at_ns % 1000000000),
	};

	pthread_cond_timedwait(&restore->calm, &restore->lock, &at);
}

/* When the next block may be read; in the past: now. */
static uint64_t due_ns(const struct pmig_restore *restore, uint64_t pace_ns,
		       uint64_t limit_ns)
{
	uint64_t now_ns = pmig_now_ns();
	uint64_t calm_ns = restore->queue.n ? now_ns : restore->busy_ns;
	uint64_t early_ns = restore->fill_ns + RESTORE_EARLY_NS;

	if (now_ns < early_ns) {
		calm_ns += RESTORE_EARLY_CALM_NS;
		limit_ns = early_ns;
	} else {
		calm_ns += RESTORE_CALM_NS;
	}
	if (calm_ns > limit_ns)
		calm_ns = limit_ns;
	return calm_ns > pace_ns ? calm_ns : pace_ns;
}

/* Stand back as long as faults want; false when it is over. */
static bool wait_for_calm(struct pmig_restore *restore, uint64_t pace_ns)
{
	uint64_t limit_ns = pmig_now_ns() + RESTORE_PATIENCE_NS;
	bool over;

	pthread_mutex_lock(&restore->lock);
	while (!restore->over &&
	       due_ns(restore, pace_ns, limit_ns) > pmig_now_ns())
		wait_until(restore, due_ns(restore, pace_ns, limit_ns));
	over = restore->over;
	pthread_mutex_unlock(&restore->lock);
	return !over;
}

/* When a block after so many bytes is due. */
static uint64_t pace_ns(const struct pmig_restore *restore, uint64_t began_ns,
			uint64_t bytes)
{
	double ns = 0;

	if (restore->fill_bytes_per_s)
		ns = 1e9 * (double)bytes / (double)restore->fill_bytes_per_s;
	return began_ns + (uint64_t)ns;
}

/* Until it may begin; false when it is over. */
static bool wait_for_leave(struct pmig_restore *restore)
{
	bool over;

	pthread_mutex_lock(&restore->lock);
	while (!restore->over && !restore->fill_ns)
		pthread_cond_wait(&restore->calm, &restore->lock);
	over = restore->over;
	pthread_mutex_unlock(&restore->lock);
	return !over;
}

static void fill(struct restore_worker *worker)
{
	struct pmig_restore *restore = worker->restore;
	uint64_t began_ns = pmig_now_ns(), bytes = 0;

	for (uint64_t i = 0; i < restore->memory->n_blocks; i++) {
		uint64_t pages;
		int placed;

		if (!pmig_bits_load(&restore->todo[i]))
			continue;
		if (!wait_for_calm(restore, pace_ns(restore, began_ns, bytes)))
			return;
		pages = restore_claim(restore, i, ~UINT64_C(0));
		placed = pages ? restore_bring(worker, i, pages, 0,
					       &restore->filled)
			       : 0;
		if (placed < 0)
			return;
		bytes += (uint64_t)placed * PMIG_PAGE_BYTES;
	}
}

void *restore_fill_main(void *arg)
{
	struct restore_worker *worker = arg;

	if (prefetch(worker) && wait_for_leave(worker->restore))
		fill(worker);
	return NULL;
}
