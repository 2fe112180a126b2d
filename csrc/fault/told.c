/* SPDX-License-Identifier: Apache-2.0 */
/* told.c - what faults tell of themselves; theory in faults.h */
#include <string.h>

#include "fault/faults.h"

uint64_t pmig_faults_missing_pages(struct pmig_faults *faults)
{
	uint64_t n;

	pthread_mutex_lock(&faults->lock);
	n = faults->n_missing;
	pthread_mutex_unlock(&faults->lock);
	return n;
}

int pmig_faults_missing(struct pmig_faults *faults, uint64_t first_block,
			uint64_t n_blocks, uint64_t *bitmap,
			struct pmig_error *err)
{
	int rc = pmig_memory_check_range(faults->memory, first_block, n_blocks,
					 err);

	if (rc)
		return rc;
	pthread_mutex_lock(&faults->lock);
	memcpy(bitmap, faults->missing + first_block,
	       n_blocks * sizeof(*bitmap));
	pthread_mutex_unlock(&faults->lock);
	return 0;
}

void pmig_faults_report(struct pmig_faults *faults,
			struct pmig_faults_report *report)
{
	struct pmig_faults_report found = {.struct_size = sizeof(found)};

	pthread_mutex_lock(&faults->lock);
	fault_stats_report(&faults->stats, &found);
	found.missing_pages = faults->n_missing;
	found.waiting_faults = faults->waiting.n;
	found.touched_pages = faults->n_touched;
	found.probes = faults->n_probes;
	found.probes_used = faults->n_probes_used;
	found.n_samples = faults->stats.n_samples;
	if (faults->complete_ns)
		found.last_page_ns = faults->complete_ns - faults->started_ns;
	pthread_mutex_unlock(&faults->lock);
	*report = found;
}

uint32_t pmig_faults_samples(struct pmig_faults *faults,
			     struct pmig_fault_sample *samples,
			     uint32_t capacity)
{
	uint32_t n;

	pthread_mutex_lock(&faults->lock);
	n = faults->stats.n_samples < capacity ? faults->stats.n_samples
					       : capacity;
	memcpy(samples, faults->stats.samples, n * sizeof(*samples));
	pthread_mutex_unlock(&faults->lock);
	return n;
}

uint64_t pmig_faults_touched(struct pmig_faults *faults, uint64_t *pages,
			     uint64_t capacity)
{
	uint64_t n;

	pthread_mutex_lock(&faults->lock);
	n = faults->n_touched < capacity ? faults->n_touched : capacity;
	memcpy(pages, faults->touched, n * sizeof(*pages));
	pthread_mutex_unlock(&faults->lock);
	return n;
}
