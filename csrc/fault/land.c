/* SPDX-License-Identifier: Apache-2.0 */
/* land.c - pages that have come appear to the guest; theory in faults.h */
#include <errno.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "fault/pages.h"
#include "fault/probe.h"

enum {
	/*
	 * A handler reads at once. Who removes memory goes on some time after
	 * that, and nothing tells when.
	 */
	READ_TIMEOUT_MS = 1,
};

uint64_t faults_fetch_kept(struct pmig_faults *faults,
			   const struct pmig_block *block, uint64_t number,
			   uint64_t pages, uint8_t *buffer)
{
	pthread_mutex_lock(&faults->lock);
	pages &= faults->kept[number];
	pthread_mutex_unlock(&faults->lock);
	landing_fetch(faults_landing(faults, block), block, pages, buffer);
	return pages;
}

/* ---- placing ----------------------------------------------------------- */

/* Runs of pages of one block, all in the same way. */
static int place_runs(struct pmig_faults *faults, const struct landed *landed,
		      uint64_t pages, enum uffd_placement placement)
{
	const struct landing *landing = faults_landing(faults, landed->block);
	uint64_t first, n, at = 0;

	while ((n = pmig_bitmap_next_run(&pages, PMIG_BLOCK_PAGES, at,
					 &first))) {
		uint64_t offset =
			landed->block->offset_bytes + first * PMIG_PAGE_BYTES;
		const struct uffd_range range = {
			.start = landing->base + offset,
			.size_bytes = n * PMIG_PAGE_BYTES,
			.page_bytes = PMIG_PAGE_BYTES,
			.from = landed->at + first * PMIG_PAGE_BYTES,
		};
		uint64_t done;
		int rc = uffd_place(faults_fd(faults, offset), placement,
				    &range, &done);

		if (rc)
			return rc;
		at = first + n;
	}
	return 0;
}

/*
 * The file behind a mapped landing holds what was put together, and zeros
 * where something was kept and has been cleared; it holds no page where zeros
 * came and nothing was.
 */
static int place_small(struct pmig_faults *faults, const struct landed *landed,
		       uint64_t live, uint64_t kept)
{
	bool mapped = faults_landing(faults, landed->block)->mapped;
	uint64_t zero = landed->zero & live;
	uint64_t stored = live & ~zero;
	int rc;

	if (mapped) {
		stored |= zero & kept;
		zero &= ~kept;
	}
	rc = place_runs(faults, landed, stored,
			mapped ? UFFD_CONTINUE : UFFD_COPY);
	return rc ? rc : place_runs(faults, landed, zero, UFFD_ZERO);
}

/* All of a larger page is put together: the guest gets it as a whole. */
static int place_unit(struct pmig_faults *faults, const struct landed *landed,
		      const struct fault_unit *unit)
{
	const struct landing *landing = faults_landing(faults, landed->block);
	uint64_t bytes = landing->map->region.page_size_bytes;
	uint64_t offset =
		(unit->first - landing->map->first_block) * PMIG_BLOCK_BYTES;
	const struct uffd_range range = {
		.start = landing->base + offset,
		.size_bytes = bytes,
		.page_bytes = bytes,
		.from = landing->alias + offset,
	};
	uint64_t done;

	if (landing->mapped)
		*(volatile uint8_t *)(landing->alias + offset);
	return uffd_place(faults_fd(faults, offset),
			  landing->mapped ? UFFD_CONTINUE : UFFD_COPY, &range,
			  &done);
}

/* They are here, and have to be touched once more to be placed. */
static void wake_pages(const struct pmig_faults *faults,
		       const struct pmig_block *block, uint64_t pages)
{
	const struct landing *landing = faults_landing(faults, block);

	for (; pages; pages &= pages - 1) {
		uint64_t offset =
			block->offset_bytes +
			(uint64_t)__builtin_ctzll(pages) * PMIG_PAGE_BYTES;

		uffd_wake(faults_fd(faults, offset), landing->base + offset,
			  PMIG_PAGE_BYTES);
	}
}

/* ---- counting ---------------------------------------------------------- */

static void count_faults(struct pmig_faults *faults, uint64_t block,
			 uint64_t pages, const struct landed *landed,
			 uint64_t placed_ns)
{
	struct waiting fault;

	while (wait_list_take(&faults->waiting, block, pages, &fault)) {
		const struct fault_times times = {
			.thread = fault.thread,
			.since_ns = fault.since_ns,
			.asked_ns = fault.asked_ns,
			.arrived_ns = landed->arrived_ns,
			.placed_ns = placed_ns,
			.waited_ns = landed->waited_ns,
			.answer = landed->answer,
		};

		fault_stats_remote(&faults->stats, faults->started_ns, &times);
	}
}

/*
 * Under the lock: pages are here; those of a unit only when all are. Probes
 * are not placed yet, so that whoever takes over has to bring them again.
 */
static void finish(struct pmig_faults *faults, const struct landed *landed,
		   uint64_t live, uint64_t probes,
		   const struct fault_unit *unit)
{
	uint64_t placed_ns = pmig_now_ns();

	faults_clear(faults, landed->number, live);
	if (faults_unit_missing(faults, unit) && unit->n > 1)
		return;
	if (unit->n == 1) {
		faults_forget(faults, landed->number, live & ~probes);
		count_faults(faults, landed->number, live, landed, placed_ns);
		return;
	}
	for (uint64_t i = 0; i < unit->n; i++) {
		faults_forget(faults, unit->first + i, ~UINT64_C(0));
		count_faults(faults, unit->first + i, ~UINT64_C(0), landed,
			     placed_ns);
	}
}

/* ---- landing ----------------------------------------------------------- */

/* Under the lock: would the unit be complete with these? */
static bool completes(const struct pmig_faults *faults, uint64_t number,
		      uint64_t live, const struct fault_unit *unit)
{
	for (uint64_t i = 0; i < unit->n; i++) {
		uint64_t missing = faults->missing[unit->first + i];

		if (unit->first + i == number)
			missing &= ~live;
		if (missing)
			return false;
	}
	return true;
}

/* What was put together, or kept, in the attic has been placed. */
static void settle(struct pmig_faults *faults, const struct landed *landed,
		   const struct fault_unit *unit, uint64_t kept)
{
	const struct landing *landing = faults_landing(faults, landed->block);
	uint64_t offset =
		(unit->first - landing->map->first_block) * PMIG_BLOCK_BYTES;
	uint64_t bytes = (uint64_t)__builtin_popcountll(landed->block->valid) *
			 PMIG_PAGE_BYTES;

	if (unit->n > 1)
		landing_settle(landing, offset,
			       landing->map->region.page_size_bytes);
	else if (kept)
		landing_settle(landing, offset, bytes);
}

/* One attempt, with events_lock held shared. */
static int place_live(struct pmig_faults *faults, const struct landed *landed,
		      const struct fault_unit *unit)
{
	const struct landing *landing = faults_landing(faults, landed->block);
	uint64_t live, kept, probes, late;
	bool whole;
	int rc = 0;

	pthread_mutex_lock(&faults->lock);
	live = (landed->pages | landed->zero) & faults->missing[landed->number];
	kept = faults->kept[landed->number];
	whole = completes(faults, landed->number, live, unit);
	probes = probe_choose(faults, landed, live);
	pthread_mutex_unlock(&faults->lock);
	if (!live)
		return 0;
	if (landing_in_alias(landing))
		landing_store(landing, landed->block, landed->pages & live,
			      landed->zero & live & kept, landed->at);
	else
		landing_store(landing, landed->block, probes, 0, landed->at);
	if (unit->n == 1)
		rc = place_small(faults, landed, live & ~probes, kept);
	else if (whole)
		rc = place_unit(faults, landed, unit);
	if (rc)
		return rc;
	pthread_mutex_lock(&faults->lock);
	late = probe_keep(faults, landed->number, probes);
	finish(faults, landed, live, probes, unit);
	faults_ask_waiting(faults);
	whole = !faults_unit_missing(faults, unit) &&
		!faults->probes[landed->number];
	pthread_mutex_unlock(&faults->lock);
	if (whole)
		settle(faults, landed, unit, kept);
	wake_pages(faults, landed->block, late);
	return 0;
}

static int try_to_land(struct pmig_faults *faults, const struct landed *landed)
{
	const struct fault_unit unit =
		fault_unit_of(landed->block->map, landed->number);
	int rc;

	if (unit.n == 1)
		return place_live(faults, landed, &unit);
	pthread_mutex_lock(&faults->unit_lock);
	rc = place_live(faults, landed, &unit);
	pthread_mutex_unlock(&faults->unit_lock);
	return rc;
}

static uint64_t count_reads(struct pmig_faults *faults)
{
	uint64_t n;

	pthread_mutex_lock(&faults->lock);
	n = faults->n_reads;
	pthread_mutex_unlock(&faults->lock);
	return n;
}

/* Until a handler has read events since n_reads were counted. */
static void wait_for_read(struct pmig_faults *faults, uint64_t n_reads)
{
	const struct timespec at = pmig_deadline(READ_TIMEOUT_MS);

	pthread_mutex_lock(&faults->lock);
	while (faults->n_reads == n_reads && !faults->failed.code)
		if (pthread_cond_timedwait(&faults->changed, &faults->lock,
					   &at))
			break;
	pthread_mutex_unlock(&faults->lock);
}

static int land_once(struct pmig_faults *faults, const struct landed *landed)
{
	int rc;

	pthread_rwlock_rdlock(&faults->events_lock);
	rc = try_to_land(faults, landed);
	pthread_rwlock_unlock(&faults->events_lock);
	return rc ? rc : faults_check_complete(faults);
}

int faults_land(struct pmig_faults *faults, const struct landed *landed,
		struct pmig_error *err)
{
	int rc;

	for (;;) {
		uint64_t n_reads = count_reads(faults);

		rc = land_once(faults, landed);
		if (rc != -EAGAIN)
			break;
		wait_for_read(faults, n_reads);
	}
	if (!rc)
		return 0;
	errno = -rc;
	return pmig_fail_errno(err, "cannot place pages of the guest%s",
			       rc == -ESRCH ? " (its process has ended)" : "");
}
