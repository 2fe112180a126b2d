/* SPDX-License-Identifier: Apache-2.0 */
/* handler.c - the threads that listen to faults; theory in faults.h */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/haste.h"
#include "fault/pages.h"
#include "fault/spot.h"

enum {
	BATCH = 64,	 /* events read together */
	MAX_KEPT = 1024, /* faults that wait for a removal: threads */
	RETRY_MS = 1,	 /* which takes microseconds */
};

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

	if (spot_find(faults, event->start, &spot))
		uffd_wake(faults_fd(faults, spot.offset_bytes),
			  event->start / PMIG_PAGE_BYTES * PMIG_PAGE_BYTES,
			  PMIG_PAGE_BYTES);
}

static int serve_fault(struct pmig_faults *faults,
		       const struct uffd_event *event, uint64_t since_ns)
{
	struct spot spot;
	int rc;

	if (!spot_find(faults, event->start, &spot))
		return 0;
	if (ask_source(faults, &spot, event, since_ns))
		return 0;
	pthread_rwlock_rdlock(&faults->events_lock);
	rc = spot_place(faults, &spot, event->is_minor);
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

	pmig_thread_hasten(PMIG_HASTE_FAULT);
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
