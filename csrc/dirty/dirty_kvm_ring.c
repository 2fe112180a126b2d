/* SPDX-License-Identifier: Apache-2.0 */
/*
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
 * The ring needs the plain form of write protection: with "initially set"
 * the pages of a slot would not be protected when logging starts.
 */
#include "dirty/dirty_kvm_ring.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "dirty/dirty_kvm_slots.h"

enum {
	BRIDGE_TURNS = 4, /* attempts per entry of a ring, before giving up */
};

/**
 * struct kvm_rings - state of this tracker
 * @slots:	what is logged
 * @lock:	over all that follows
 * @n:		number of rings
 * @rings:	one per vCPU
 * @reset_due:	entries were collected and not yet reset
 * @is_lossy:	a ring has overflowed since all was protected
 * @collected:	pages of entries that were collected
 */
struct kvm_rings {
	struct kvm_slots slots;
	pthread_mutex_t lock;
	uint32_t n;
	struct kvm_ring *rings;
	bool reset_due;
	bool is_lossy;
	struct page_set collected;
};

static void kvm_ring_free(struct pmig_dirty *dirty)
{
	struct kvm_rings *r = dirty->impl;

	for (uint32_t i = 0; i < r->n; i++)
		kvm_ring_unmap(&r->rings[i]);
	free(r->rings);
	page_set_release(&r->collected);
	kvm_slots_release(&r->slots);
	pthread_mutex_destroy(&r->lock);
	free(r);
	dirty->impl = NULL;
}

static int map_rings(struct kvm_rings *r,
		     const struct pmig_dirty_config *config,
		     struct pmig_error *err)
{
	r->rings = calloc(config->n_vcpus, sizeof(*r->rings));
	if (!r->rings)
		return pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	for (; r->n < config->n_vcpus; r->n++) {
		int rc = kvm_ring_map(&r->rings[r->n], config->vcpu_fds[r->n],
				      config->ring_bytes);

		if (!rc)
			continue;
		errno = -rc;
		return pmig_fail_errno(err,
				       "vCPU %u: cannot map its dirty ring of "
				       "%u bytes (was the VM made with "
				       "KVM_CAP_DIRTY_LOG_RING of that size?)",
				       r->n, config->ring_bytes);
	}
	return 0;
}

static int check_offered(const struct kvm_rings *r, struct pmig_error *err)
{
	if (kvm_slots_extension(&r->slots, KVM_CAP_DIRTY_LOG_RING) ||
	    kvm_slots_extension(&r->slots, KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		return 0;
	return pmig_fail(err, -ENOTSUP,
			 "KVM has no dirty ring (Linux 5.11, "
			 "KVM_CAP_DIRTY_LOG_RING)");
}

static int kvm_ring_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	const struct pmig_dirty_config *config = &dirty->config;
	struct kvm_rings *r;
	int rc;

	if (config->vm_fd < 0 || !config->ring_bytes)
		return pmig_fail(err, -ENOTSUP,
				 "the KVM dirty ring needs a VM that was made "
				 "with one (vm_fd, ring_bytes)");
	r = calloc(1, sizeof(*r));
	if (!r)
		return pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	dirty->impl = r;
	pthread_mutex_init(&r->lock, NULL);
	rc = kvm_slots_init(&r->slots, dirty, err);
	if (!rc)
		rc = check_offered(r, err);
	if (!rc && page_set_init(&r->collected, dirty->memory->n_blocks))
		rc = pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	if (!rc)
		rc = map_rings(r, config, err);
	if (rc) {
		kvm_ring_free(dirty);
		return rc;
	}
	dirty_explain(dirty, "ring",
		      "KVM dirty ring: the VM was made with rings of %zu "
		      "entries",
		      config->ring_bytes / sizeof(struct kvm_dirty_gfn));
	return 0;
}

static int collect_entry(struct kvm_rings *r,
			 const struct kvm_ring_entry *entry,
			 struct pmig_error *err)
{
	const struct kvm_slot_map *map = kvm_slots_find(&r->slots, entry->slot);

	/* a slot that somebody else logs is none of our business */
	if (!map)
		return 0;
	if (entry->page >= map->n_pages)
		return pmig_fail(err, -EIO,
				 "KVM reports page %llu of slot %u, which has "
				 "%llu",
				 (unsigned long long)entry->page, entry->slot,
				 (unsigned long long)map->n_pages);
	page_set_add(&r->collected,
		     map->first_block + entry->page / PMIG_BLOCK_PAGES,
		     UINT64_C(1) << (entry->page % PMIG_BLOCK_PAGES));
	return 0;
}

static int collect_ring(struct kvm_rings *r, struct kvm_ring *ring,
			struct pmig_error *err)
{
	struct kvm_ring_entry entry;
	int rc = 0;

	while (!rc && kvm_ring_next(ring, &entry)) {
		r->reset_due = true;
		rc = collect_entry(r, &entry, err);
	}
	if (kvm_ring_is_exhausted(ring))
		r->is_lossy = true;
	return rc;
}

static int collect(struct kvm_rings *r, struct pmig_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		int one = collect_ring(r, &r->rings[i], rc ? NULL : err);

		if (!rc)
			rc = one;
	}
	return rc;
}

/* A vCPU thread may be sent a signal at any time. */
static int reset_ioctl(const struct kvm_rings *r, struct pmig_error *err)
{
	int n;

	do {
		n = ioctl(r->slots.vm_fd, KVM_RESET_DIRTY_RINGS, 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? pmig_fail_errno(err, "KVM_RESET_DIRTY_RINGS fails") : 0;
}

/*
 * A reset did not get through: the ring overflowed, now or before. The vCPU
 * may still be appending, over entries that were taken already, so these are
 * collected again. It stops when it finds its ring full at last.
 */
static int bridge_gap(struct kvm_rings *r, struct kvm_ring *ring,
		      struct pmig_error *err)
{
	uint32_t tries = BRIDGE_TURNS * ring->n_entries;
	uint32_t bridged = 0;
	int rc = 0;

	if (!ring->is_gapped)
		r->is_lossy = true;
	for (; tries && !rc; tries--) {
		rc = collect_ring(r, ring, err);
		if (!rc)
			rc = reset_ioctl(r, err);
		if (rc || kvm_ring_is_reset(ring))
			return rc;
		if (kvm_ring_bridge(ring, bridged + 1))
			bridged++;
	}
	return pmig_fail(err, -EIO,
			 "vCPU %u: KVM does not reset its dirty ring",
			 (unsigned int)(ring - r->rings));
}

static int reset(struct kvm_rings *r, struct pmig_error *err)
{
	int rc;

	if (!r->reset_due)
		return 0;
	rc = reset_ioctl(r, err);
	for (uint32_t i = 0; !rc && i < r->n; i++) {
		struct kvm_ring *ring = &r->rings[i];

		if (!kvm_ring_is_reset(ring))
			rc = bridge_gap(r, ring, err);
		if (!rc)
			kvm_ring_forget(ring);
	}
	r->reset_due = rc != 0;
	return rc;
}

/* Protect everything; until that succeeds it stays to be done. */
static int make_up_for_loss(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc;

	if (!r->is_lossy)
		return 0;
	rc = kvm_slots_log(&r->slots, false, err);
	if (!rc)
		rc = kvm_slots_log(&r->slots, true, err);
	if (rc)
		return rc;
	r->is_lossy = false;
	dirty_found_all(dirty);
	return 0;
}

static void hand_out(struct pmig_dirty *dirty)
{
	struct kvm_rings *r = dirty->impl;
	uint64_t words[PAGE_SET_GROUP_BLOCKS];
	uint64_t n_blocks = dirty->memory->n_blocks;

	for (uint64_t group = 0; group < r->collected.n_groups; group++) {
		uint64_t first = group * PAGE_SET_GROUP_BLOCKS;
		uint64_t left = n_blocks - first;

		if (page_set_take(&r->collected, group, words))
			dirty_found(dirty, first, words,
				    left < PAGE_SET_GROUP_BLOCKS
					    ? left
					    : PAGE_SET_GROUP_BLOCKS);
	}
}

static int kvm_ring_harvest(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc, reset_rc;

	pthread_mutex_lock(&r->lock);
	rc = collect(r, err);
	reset_rc = reset(r, rc ? NULL : err);
	if (!reset_rc)
		reset_rc = make_up_for_loss(dirty, rc ? NULL : err);
	if (!reset_rc)
		hand_out(dirty);
	pthread_mutex_unlock(&r->lock);
	return rc ? rc : reset_rc;
}

static int kvm_ring_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;

	r->is_lossy = false;
	/* somebody may have collected entries before us, and gone away */
	r->reset_due = true;
	/* fails where the VM never had it, which is as good */
	kvm_slots_set_manual(&r->slots, 0);
	return kvm_slots_log(&r->slots, true, err);
}

/* Leave the rings empty: a vCPU must not find its ring full ever after. */
static int kvm_ring_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc = kvm_slots_log(&r->slots, false, err);
	int reset_rc;

	pthread_mutex_lock(&r->lock);
	collect(r, NULL);
	reset_rc = reset(r, rc ? NULL : err);
	pthread_mutex_unlock(&r->lock);
	return rc ? rc : reset_rc;
}

const struct dirty_ops dirty_kvm_ring_ops = {
	.tracker = PMIG_TRACKER_KVM_RING,
	.probe = kvm_ring_probe,
	.start = kvm_ring_start,
	.harvest = kvm_ring_harvest,
	.ring_full = kvm_ring_harvest,
	.stop = kvm_ring_stop,
	.free = kvm_ring_free,
};
