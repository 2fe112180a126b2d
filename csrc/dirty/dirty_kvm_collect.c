/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "dirty/dirty_kvm_rings.h"

enum {
	RESYNC_TURNS = 4, /* attempts per entry of a ring, before giving up */
};

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

/* At most one turn: a ring may be filled as fast as it is emptied. */
static int collect_in_order(struct kvm_rings *r, struct kvm_ring *ring,
			    struct pmig_error *err)
{
	struct kvm_ring_entry entry;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < ring->n_entries; i++) {
		if (!kvm_ring_next(ring, &entry))
			break;
		if (i + 1 >= ring->n_entries / 2)
			ring->is_suspect = true;
		r->reset_due = true;
		rc = collect_entry(r, &entry, err);
	}
	if (kvm_ring_is_exhausted(ring))
		r->is_lossy = true;
	return rc;
}

static int collect_any(struct kvm_rings *r, struct kvm_ring *ring,
		       struct pmig_error *err)
{
	struct kvm_ring_entry entry;
	bool is_stray;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < ring->n_entries; i++) {
		if (!kvm_ring_take_any(ring, &entry, &is_stray))
			break;
		if (is_stray)
			r->is_lossy = true;
		r->reset_due = true;
		rc = collect_entry(r, &entry, err);
	}
	if (kvm_ring_is_exhausted(ring))
		r->is_lossy = true;
	return rc;
}

static int collect_ring(struct kvm_rings *r, struct kvm_ring *ring,
			struct pmig_error *err)
{
	int rc = collect_in_order(r, ring, err);

	if (!rc && ring->is_suspect)
		rc = collect_any(r, ring, err);
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
 * may still be appending, until it finds its ring full at last.
 */
static int resynchronise(struct kvm_rings *r, struct kvm_ring *ring,
			 struct pmig_error *err)
{
	if (!ring->is_gapped)
		r->is_lossy = true;
	ring->is_suspect = true;
	for (uint32_t i = 0; i < RESYNC_TURNS * ring->n_entries; i++) {
		int rc = collect_any(r, ring, err);

		if (!rc)
			rc = reset_ioctl(r, err);
		if (rc || !kvm_ring_any_unreset(ring))
			return rc;
		kvm_ring_bridge(ring);
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
			rc = resynchronise(r, ring, err);
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

int kvm_rings_collect(struct pmig_dirty *dirty, struct pmig_error *err)
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

int kvm_rings_drain(struct kvm_rings *r, struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&r->lock);
	collect(r, NULL);
	rc = reset(r, err);
	pthread_mutex_unlock(&r->lock);
	return rc;
}
