/* SPDX-License-Identifier: Apache-2.0 */
/* handler.c - the threads that listen to faults; theory in faults.h */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "fault/pages.h"
#include "fault/probe.h"

enum {
	BATCH = 64,	 /* events read together */
	MAX_KEPT = 1024, /* faults that wait for a removal: threads */
	RETRY_MS = 1,	 /* which takes microseconds */
	ZERO_PAGES = 16, /* holes filled at once */
};

/* Where an address of the guest's mapping lies. */
struct spot {
	const struct landing *landing;
	uint64_t offset_bytes;
	uint64_t block;
	uint32_t page;
};

static bool find_spot(const struct pmig_faults *faults, uint64_t address,
		      struct spot *spot)
{
	for (uint32_t i = 0; i < faults->n_landings; i++) {
		const struct landing *landing = &faults->landings[i];
		uint64_t offset = address - landing->base;

		if (address < landing->base ||
		    offset >= landing->map->region.size_bytes)
			continue;
		spot->landing = landing;
		spot->offset_bytes = offset;
		spot->block =
			landing->map->first_block + offset / PMIG_BLOCK_BYTES;
		spot->page =
			(uint32_t)(offset % PMIG_BLOCK_BYTES / PMIG_PAGE_BYTES);
		return true;
	}
	return false;
}

/* ---- removals ---------------------------------------------------------- */

/*
 * Missing pages of a run within one block; the others are as they are, unless
 * they are part of a larger page, which is placed from the attic as a whole.
 */
static void remove_pages(struct pmig_faults *faults, const struct spot *spot,
			 uint32_t n_pages)
{
	uint64_t pages = pmig_word_mask(spot->page, n_pages);
	const struct landing *landing = spot->landing;
	bool large = fault_is_large(landing->map);
	uint64_t first, n, at = 0, gone;
	struct waiting fault;

	pthread_mutex_lock(&faults->lock);
	gone = faults->missing[spot->block] & pages;
	faults->probes[spot->block] &= ~pages;
	faults_clear(faults, spot->block, gone);
	faults_forget(faults, spot->block, pages);
	while (wait_list_take(&faults->waiting, spot->block,
			      large ? pages : gone, &fault))
		;
	pthread_mutex_unlock(&faults->lock);
	if (large && !landing->mapped)
		gone = pages;
	while ((n = pmig_bitmap_next_run(&gone, PMIG_BLOCK_PAGES, at,
					 &first))) {
		landing_remove(landing,
			       spot->offset_bytes -
				       spot->page * PMIG_PAGE_BYTES +
				       first * PMIG_PAGE_BYTES,
			       n * PMIG_PAGE_BYTES);
		at = first + n;
	}
	/* whoever waited faults anew, and finds zeros */
	uffd_wake(faults_fd(faults, spot->offset_bytes),
		  landing->base + spot->offset_bytes,
		  (uint64_t)n_pages * PMIG_PAGE_BYTES);
}

void faults_remove(struct pmig_faults *faults, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct spot spot;

	while (at < end && find_spot(faults, at, &spot)) {
		uint64_t left = (end - at) / PMIG_PAGE_BYTES;
		uint32_t n = PMIG_BLOCK_PAGES - spot.page;

		if (left < n)
			n = (uint32_t)left;
		if (!n)
			break;
		remove_pages(faults, &spot, n);
		at += (uint64_t)n * PMIG_PAGE_BYTES;
	}
}

/* ---- pages that are here ----------------------------------------------- */

static struct uffd_range range_at(const struct spot *spot, uint64_t bytes)
{
	uint64_t page_bytes = spot->landing->map->region.page_size_bytes;
	uint64_t offset = spot->offset_bytes / page_bytes * page_bytes;

	return (struct uffd_range){
		.start = spot->landing->base + offset,
		.size_bytes = bytes,
		.page_bytes = page_bytes,
	};
}

/* A hole, or what the file has. */
static int place_large(const struct pmig_faults *faults,
		       const struct spot *spot)
{
	const struct landing *landing = spot->landing;
	uint64_t bytes = landing->map->region.page_size_bytes;
	uint64_t offset = spot->offset_bytes / bytes * bytes;
	struct uffd_range range = range_at(spot, bytes);
	uint64_t done;
	int rc;

	range.from = landing->zeros;
	/* the file has no zeros until somebody touches it */
	if (landing->mapped)
		*(volatile uint8_t *)(landing->alias + offset);
	rc = uffd_place(faults_fd(faults, offset),
			landing->mapped ? UFFD_CONTINUE : UFFD_COPY, &range,
			&done);
	/* removed since it was touched: once more */
	return rc == -EFAULT && landing->mapped ? -EAGAIN : rc;
}

/* Zeros for a hole, and for those behind it as far as nothing is missing. */
static int place_zeros(struct pmig_faults *faults, const struct spot *spot)
{
	uint64_t free_pages, bytes, done = 0;
	struct uffd_range range;
	unsigned int n;
	int rc;

	pthread_mutex_lock(&faults->lock);
	free_pages =
		~(faults->missing[spot->block] | faults->probes[spot->block]) >>
		spot->page;
	pthread_mutex_unlock(&faults->lock);
	n = ~free_pages ? (unsigned int)__builtin_ctzll(~free_pages)
			: PMIG_BLOCK_PAGES;
	if (n > ZERO_PAGES)
		n = ZERO_PAGES;
	bytes = (uint64_t)n * PMIG_PAGE_BYTES;
	if (bytes > spot->landing->map->region.size_bytes - spot->offset_bytes)
		bytes = spot->landing->map->region.size_bytes -
			spot->offset_bytes;
	range = range_at(spot, bytes);
	rc = uffd_place(faults_fd(faults, spot->offset_bytes), UFFD_ZERO,
			&range, &done);
	return done ? 0 : rc;
}

static int place_here(struct pmig_faults *faults, const struct spot *spot,
		      const struct uffd_event *event)
{
	struct uffd_range range = range_at(spot, PMIG_PAGE_BYTES);
	uint64_t done;
	bool found;
	int rc;

	if (fault_is_large(spot->landing->map))
		return place_large(faults, spot);
	rc = probe_use(faults, spot->landing, spot->block, spot->offset_bytes,
		       &found);
	if (rc || found)
		return rc;
	if (event->is_minor) {
		rc = uffd_place(faults_fd(faults, spot->offset_bytes),
				UFFD_CONTINUE, &range, &done);
		if (rc != -EFAULT)
			return rc;
	}
	/* the file has no page there, or none any more: it was removed */
	return place_zeros(faults, spot);
}

/* ---- faults ------------------------------------------------------------ */

/* True when the page is missing: it is asked for, and the fault kept. */
static bool ask_source(struct pmig_faults *faults, const struct spot *spot,
		       const struct uffd_event *event, uint64_t since_ns)
{
	const struct pmig_region_map *map = spot->landing->map;
	const struct fault_unit unit = fault_unit_of(map, spot->block);
	bool missing;

	pthread_mutex_lock(&faults->lock);
	missing = fault_is_large(map)
			  ? faults_unit_missing(faults, &unit)
			  : faults->missing[spot->block] >> spot->page & 1;
	if (missing) {
		wait_list_add(&faults->waiting, &(struct waiting){
							.block = spot->block,
							.page = spot->page,
							.thread = event->thread,
							.since_ns = since_ns,
						});
		faults_ask_waiting(faults);
	}
	pthread_mutex_unlock(&faults->lock);
	return missing;
}

static void wake_fault(const struct pmig_faults *faults,
		       const struct uffd_event *event)
{
	struct spot spot;

	if (find_spot(faults, event->start, &spot))
		uffd_wake(faults_fd(faults, spot.offset_bytes),
			  event->start / PMIG_PAGE_BYTES * PMIG_PAGE_BYTES,
			  PMIG_PAGE_BYTES);
}

static int serve_fault(struct pmig_faults *faults,
		       const struct uffd_event *event, uint64_t since_ns)
{
	struct spot spot;
	int rc;

	if (!find_spot(faults, event->start, &spot))
		return 0;
	if (ask_source(faults, &spot, event, since_ns))
		return 0;
	pthread_rwlock_rdlock(&faults->events_lock);
	rc = place_here(faults, &spot, event);
	pthread_rwlock_unlock(&faults->events_lock);
	/* who is woken in vain faults again, and we are told again */
	if (rc)
		return rc;
	/* it may be there already, and its wake-up have come too early */
	wake_fault(faults, event);
	pthread_mutex_lock(&faults->lock);
	fault_stats_local(&faults->stats, event->thread,
			  pmig_now_ns() - since_ns);
	pthread_mutex_unlock(&faults->lock);
	return 0;
}

/* Read what has come, and act on what was removed; the faults, or -errno. */
static int read_batch(struct fault_handler *handler, struct uffd_event *faults,
		      int capacity)
{
	struct pmig_faults *owner = handler->faults;
	void *room =
		owner->record ? owner->record->messages : handler->messages;
	int n_faults = 0, n;

	pthread_rwlock_wrlock(&owner->events_lock);
	do {
		struct uffd_event *events = faults + n_faults;
		int kept = 0;

		n = uffd_read(handler->fd, room, events, capacity - n_faults);
		for (int i = 0; i < n; i++) {
			if (events[i].is_fault)
				events[kept++] = events[i];
			else
				faults_remove(owner, events[i].start,
					      events[i].end);
		}
		n_faults += kept;
	} while (n > 0 && n_faults < capacity);
	pthread_mutex_lock(&owner->lock);
	owner->n_reads++;
	pthread_cond_broadcast(&owner->changed);
	pthread_mutex_unlock(&owner->lock);
	pthread_rwlock_unlock(&owner->events_lock);
	return n < 0 ? n : n_faults;
}

/* Until something comes, or a removal has got on; false: it is over. */
static bool wait_a_little(const struct fault_handler *handler)
{
	struct pollfd fds[2] = {
		{.fd = handler->fd, .events = POLLIN},
		{.fd = handler->faults->stop_fd, .events = POLLIN},
	};

	return poll(fds, 2, RETRY_MS) < 0 || !fds[1].revents;
}

/*
 * The kernel tells of a fault once: one that could not be served because of
 * a removal is kept, and served after that was read and is under way. Where
 * there is no room to keep it, who waits is made to fault again. There must
 * be room to read the removal.
 */
static int serve_batch(struct fault_handler *handler)
{
	struct uffd_event events[MAX_KEPT + BATCH];
	int kept = 0;

	do {
		int n = read_batch(handler, events + kept, BATCH);
		uint64_t since_ns = pmig_now_ns();

		if (n < 0)
			return n;
		n += kept;
		kept = 0;
		for (int i = 0; i < n; i++) {
			int rc = serve_fault(handler->faults, &events[i],
					     since_ns);

			if (rc == -EAGAIN && kept < MAX_KEPT)
				events[kept++] = events[i];
			else if (rc == -EAGAIN)
				wake_fault(handler->faults, &events[i]);
			else if (rc)
				return rc;
		}
	} while (kept && wait_a_little(handler));
	return 0;
}

static void report_failure(struct fault_handler *handler, int code)
{
	struct pmig_error err;

	errno = -code;
	if (code == -ESRCH)
		pmig_fail(&err, code,
			  "the process whose page faults are handled has "
			  "ended");
	else
		pmig_fail_errno(&err, "the handler of page faults gave up, so "
				      "that the guest waits for ever");
	faults_fail(handler->faults, &err);
}

void *fault_handler_main(void *arg)
{
	struct fault_handler *handler = arg;
	struct pollfd fds[2] = {
		{.fd = handler->fd, .events = POLLIN},
		{.fd = handler->faults->stop_fd, .events = POLLIN},
	};
	int rc = 0;

	pmig_thread_hasten();
	while (!rc) {
		if (poll(fds, 2, -1) < 0) {
			rc = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (fds[1].revents)
			return NULL;
		if (fds[0].revents & POLLIN)
			rc = serve_batch(handler);
		else if (fds[0].revents)
			rc = -ESRCH;
		if (!rc)
			rc = faults_check_complete(handler->faults);
		/* whoever reads that event looks again */
		if (rc == -EAGAIN)
			rc = 0;
	}
	report_failure(handler, rc);
	return NULL;
}
