/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/probe.h"

#include <errno.h>

#include "fault/pages.h"

/* Golden ratio: neighbouring numbers end up far from each other. */
static const uint64_t SCATTER = UINT64_C(0x9e3779b97f4a7c15);

static bool is_chosen(uint64_t page)
{
	return (page * SCATTER >> 32) % PROBE_SHARE == 0;
}

uint64_t probe_choose(const struct pmig_faults *faults,
		      const struct landed *landed, uint64_t live)
{
	uint64_t pages = live & ~landed->zero & ~faults->asked[landed->number];
	uint64_t chosen = 0;

	if (!landed->answer || fault_is_large(landed->block->map))
		return 0;
	for (; pages; pages &= pages - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(pages);

		if (is_chosen(landed->number * PMIG_BLOCK_PAGES + page))
			chosen |= UINT64_C(1) << page;
	}
	return chosen;
}

uint64_t probe_keep(struct pmig_faults *faults, uint64_t block, uint64_t pages)
{
	faults->probes[block] |= pages;
	faults->n_probes += (uint64_t)__builtin_popcountll(pages);
	return pages & wait_list_pages(&faults->waiting, block);
}

static int place(struct pmig_faults *faults, const struct landing *landing,
		 uint64_t offset_bytes)
{
	const struct uffd_range range = {
		.start = landing->base + offset_bytes,
		.size_bytes = PMIG_PAGE_BYTES,
		.page_bytes = PMIG_PAGE_BYTES,
		.from = landing->alias + offset_bytes,
	};
	uint64_t done;

	return uffd_place(faults_fd(faults, offset_bytes),
			  landing->mapped ? UFFD_CONTINUE : UFFD_COPY, &range,
			  &done);
}

/* Is it a probe? One that is used is counted before its user goes on. */
static bool find(struct pmig_faults *faults, uint64_t number, uint64_t bit,
		 bool used)
{
	bool found;

	pthread_mutex_lock(&faults->lock);
	found = faults->probes[number] & bit;
	faults->n_probes_used += found && used;
	pthread_mutex_unlock(&faults->lock);
	return found;
}

/*
 * What came of placing it. As long as it is not placed it stays a probe, or
 * somebody might take it for a hole; one that the file has no longer was
 * removed, and is one.
 */
static void settle(struct pmig_faults *faults, uint64_t number, uint64_t bit,
		   bool used, int rc)
{
	pthread_mutex_lock(&faults->lock);
	if (!rc || rc == -EFAULT)
		faults->probes[number] &= ~bit;
	if (!rc)
		faults_forget(faults, number, bit);
	faults->n_probes_used -= rc && used;
	pthread_mutex_unlock(&faults->lock);
}

int probe_use(struct pmig_faults *faults, const struct landing *landing,
	      uint64_t number, uint64_t offset_bytes, bool *found)
{
	uint64_t page = offset_bytes % PMIG_BLOCK_BYTES / PMIG_PAGE_BYTES;
	uint64_t bit = UINT64_C(1) << page;
	int rc;

	*found = find(faults, number, bit, true);
	if (!*found)
		return 0;
	rc = place(faults, landing,
		   offset_bytes / PMIG_PAGE_BYTES * PMIG_PAGE_BYTES);
	settle(faults, number, bit, true, rc);
	*found = rc != -EFAULT;
	return *found ? rc : 0;
}

static int place_block(struct pmig_faults *faults, uint64_t number)
{
	const struct landing *landing;
	struct pmig_block block;
	uint64_t left;
	int rc = 0;

	pthread_mutex_lock(&faults->lock);
	left = faults->probes[number];
	pthread_mutex_unlock(&faults->lock);
	if (!left)
		return 0;
	pmig_memory_locate(faults->memory, number, &block);
	landing = faults_landing(faults, &block);
	for (; left && !rc; left &= left - 1) {
		uint64_t bit = left & -left;
		uint64_t page = (uint64_t)__builtin_ctzll(left);

		if (!find(faults, number, bit, false))
			continue;
		rc = place(faults, landing,
			   block.offset_bytes + page * PMIG_PAGE_BYTES);
		settle(faults, number, bit, false, rc);
		rc = rc == -EFAULT ? 0 : rc;
	}
	return rc;
}

int probe_place_all(struct pmig_faults *faults)
{
	int rc = 0;

	if (!faults->n_probes)
		return 0;
	pthread_rwlock_rdlock(&faults->events_lock);
	for (uint64_t i = 0; i < faults->memory->n_blocks && !rc; i++)
		rc = place_block(faults, i);
	pthread_rwlock_unlock(&faults->events_lock);
	return rc;
}
