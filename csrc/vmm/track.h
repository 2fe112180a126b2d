/* SPDX-License-Identifier: Apache-2.0 */
/*
 * track.h - how the machine's writes are found
 *
 * For the marked tracker the machine keeps a log of its own, as a vhost
 * device would: after writing a page the program sets the page's bit.  The
 * tracker's collect callback takes the bits and marks the pages.  Pages that
 * are written without a bit are marked at every collect: the mailbox,
 * heartbeat and stack pages, and the page that a vCPU has announced as being
 * written, since it may be stopped between the write and the bit.
 */
#ifndef PVMM_TRACK_H
#define PVMM_TRACK_H

#include <pthread.h>

#include "vmm/layout.h"
#include "vmm/plan.h"
#include "vmm/ram.h"

struct pvmm;

/**
 * struct pvmm_track - tracker in use, and the log
 * @lock:	protects @dirty and the counters; held while a vCPU uses it
 * @dirty:	in use, or NULL
 * @log:	bit n: page n of RAM was written; NULL when there is none
 * @log_bytes:	of the mapping, whole pages
 * @n_ring_full: exits so far
 * @n_unserved:	of them without a tracker, since the last one was attached
 * @slots:	for the tracker's configuration
 */
struct pvmm_track {
	pthread_mutex_t lock;
	struct pmig_dirty *dirty;
	uint64_t *log;
	uint64_t log_bytes;
	uint64_t n_ring_full;
	uint64_t n_unserved;
	struct pmig_kvm_slot slots[2];
};

int pvmm_track_init(struct pvmm_track *track, const struct pvmm_plan *plan,
		    struct pmig_error *err);
void pvmm_track_destroy(struct pvmm_track *track);

/* Handle KVM_EXIT_DIRTY_RING_FULL of a vCPU, on its thread. */
int pvmm_track_ring_full(struct pvmm *vm, struct pmig_error *err);

/* Tell the tracker in use, if any, of a write by the VMM itself. */
void pvmm_track_wrote(struct pvmm *vm, uint64_t offset, uint64_t size_bytes);

/* Set a page's bit in the log, where there is one. Any thread. */
static inline void pvmm_track_log(struct pvmm_track *track, uint64_t offset)
{
	uint64_t page = offset / PVMM_PAGE_BYTES;

	if (track->log)
		__atomic_fetch_or(&track->log[page / 64], 1ull << (page % 64),
				  __ATOMIC_RELEASE);
}

#endif
