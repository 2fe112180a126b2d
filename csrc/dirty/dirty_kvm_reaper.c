/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <sys/eventfd.h>

#include "base/thread.h"
#include "dirty/dirty_kvm_rings.h"

enum {
	/*
	 * Every entry costs the vCPU a fault or an interpreted write, of which
	 * it does a million per second at most: a ring fills by a quarter
	 * between two looks.
	 */
	ENTRIES_PER_MS = 4096,
	MAX_INTERVAL_MS = 50,
};

static int interval_ms(const struct kvm_rings *r)
{
	uint32_t ms = r->rings[0].n_entries / ENTRIES_PER_MS;

	if (!ms)
		return 1;
	return ms < MAX_INTERVAL_MS ? (int)ms : MAX_INTERVAL_MS;
}

static bool any_half_full(struct kvm_rings *r)
{
	bool found = false;

	pthread_mutex_lock(&r->lock);
	for (uint32_t i = 0; i < r->n && !found; i++)
		found = kvm_ring_is_half_full(&r->rings[i]);
	pthread_mutex_unlock(&r->lock);
	return found;
}

/* A failure leaves what is to be done to the next harvest, which tells. */
static void reap(struct pmig_dirty *dirty)
{
	if (!any_half_full(dirty->impl))
		return;
	pthread_rwlock_rdlock(&dirty->views_lock);
	kvm_rings_collect(dirty, NULL);
	pthread_rwlock_unlock(&dirty->views_lock);
}

static void *reaper_main(void *arg)
{
	struct pmig_dirty *dirty = arg;
	struct kvm_rings *r = dirty->impl;
	struct pollfd stop = {.fd = r->stop_fd, .events = POLLIN};

	while (poll(&stop, 1, interval_ms(r)) <= 0)
		reap(dirty);
	return NULL;
}

int kvm_reaper_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc;

	if (dirty->config.flags & PMIG_DIRTY_NO_REAPER)
		return 0;
	rc = pmig_thread_start(&r->reaper, "kvm-ring", 0, reaper_main, dirty,
			       err);
	r->has_reaper = rc == 0;
	return rc;
}

void kvm_reaper_stop(struct kvm_rings *r)
{
	eventfd_t value;

	if (!r->has_reaper)
		return;
	r->has_reaper = false;
	eventfd_write(r->stop_fd, 1);
	pthread_join(r->reaper, NULL);
	eventfd_read(r->stop_fd, &value);
}
