/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/foreign.h"

#include <assert.h>
#include <poll.h>
#include <stddef.h>

#include "fault/faults.h"

static_assert(offsetof(struct foreign_record, words) ==
		      PMIG_FAULTS_RECORD_BYTES,
	      "where the words begin");

enum {
	/* a removal gets under way, or is over, within microseconds */
	DRAIN_STEP_MS = 1,
	DRAIN_STEPS = 1000,
};

/* Removals that were read and perhaps not acted on any more. */
static void repeat_removals(struct pmig_faults *faults)
{
	struct uffd_event events[UFFD_MESSAGES];
	int n = uffd_decode(faults->record->messages, events);

	pthread_rwlock_wrlock(&faults->events_lock);
	for (int i = 0; i < n; i++)
		if (!events[i].is_fault)
			faults_remove(faults, events[i].start, events[i].end);
	pthread_rwlock_unlock(&faults->events_lock);
}

void foreign_begin(struct pmig_faults *faults)
{
	if (!faults->record)
		return;
	repeat_removals(faults);
	/* holes of the source are not missing, and must never become so */
	pthread_mutex_lock(&faults->lock);
	for (uint64_t i = 0; i < faults->memory->n_blocks; i++)
		foreign_forget(faults->record, i, ~faults->missing[i]);
	pthread_mutex_unlock(&faults->lock);
}

void foreign_wake(struct pmig_faults *faults)
{
	for (uint32_t i = 0; i < faults->n_landings; i++)
		uffd_wake(faults_fd(faults, 0), faults->landings[i].base,
			  faults->landings[i].map->region.size_bytes);
}

void foreign_end(struct pmig_faults *faults)
{
	struct fault_handler *handler = &faults->handlers[0];
	struct pollfd fd = {.fd = handler->fd, .events = POLLIN};
	struct uffd_event events[UFFD_MESSAGES];

	for (int i = 0; i < DRAIN_STEPS; i++) {
		int n = uffd_read(handler->fd, handler->messages, events,
				  UFFD_MESSAGES);

		if (n < 0 || (n == 0 && !uffd_is_changing(handler->fd)))
			break;
		if (n == 0)
			poll(&fd, 1, DRAIN_STEP_MS);
	}
}
