/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_kvm_rings.h - all dirty rings of a VM as one tracker
 *
 * The KVM dirty ring: every vCPU appends the pages it dirties to a ring of
 * its own, and leaves the guest when the ring is nearly full.
 *
 * A harvest collects all rings, lets KVM protect the collected pages again
 * (KVM_RESET_DIRTY_RINGS), and only then hands them to the views: a page that
 * a view could take before it is protected might be written unseen. What was
 * collected waits in a set, so it survives a failing reset. The whole is
 * serialised, since a vCPU that found its ring full does the same.
 *
 * A ring that overflowed has lost pages, which are neither known nor
 * protected. Then logging of all slots is switched off and on, which protects
 * everything, and all of memory counts as written.
 *
 * A thread looks at the rings from time to time and collects when one is
 * half full, so that vCPUs seldom have to leave the guest for it. There is no
 * event for that: KVM tells only the vCPU, and only at the end.
 *
 * The ring needs the plain form of write protection: with "initially set"
 * the pages of a slot would not be protected when logging starts.
 */
#ifndef PMIG_DIRTY_DIRTY_KVM_RINGS_H
#define PMIG_DIRTY_DIRTY_KVM_RINGS_H

#include <pthread.h>

#include "dirty/dirty_kvm_ring.h"
#include "dirty/dirty_kvm_slots.h"

/**
 * struct kvm_rings - state of this tracker
 * @slots:	what is logged
 * @reaper:	the thread, while @has_reaper
 * @stop_fd:	eventfd that ends it
 * @lock:	over all that follows
 * @n:		number of rings
 * @rings:	one per vCPU
 * @reset_due:	entries were collected and not yet reset
 * @is_lossy:	a ring has overflowed since all was protected
 * @collected:	pages of entries that were collected
 */
struct kvm_rings {
	struct kvm_slots slots;
	pthread_t reaper;
	bool has_reaper;
	int stop_fd;
	pthread_mutex_t lock;
	uint32_t n;
	struct kvm_ring *rings;
	bool reset_due;
	bool is_lossy;
	struct page_set collected;
};

/*
 * Collect, reset, and hand what was found to the views; on any thread, with
 * views_lock held shared.
 */
int kvm_rings_collect(struct pmig_dirty *dirty, struct pmig_error *err);

/* Empty the rings of a tracker that is being stopped. */
int kvm_rings_drain(struct kvm_rings *r, struct pmig_error *err);

/* Start and end the thread. */
int kvm_reaper_start(struct pmig_dirty *dirty, struct pmig_error *err);
void kvm_reaper_stop(struct kvm_rings *r);

#endif
