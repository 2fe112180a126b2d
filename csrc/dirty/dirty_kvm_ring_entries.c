/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/mman.h>

#include "dirty/dirty_kvm_ring.h"
#include "pymigrate.h"

int kvm_ring_map(struct kvm_ring *ring, int vcpu_fd, uint32_t ring_bytes)
{
	void *entries =
		mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		     vcpu_fd, KVM_DIRTY_LOG_PAGE_OFFSET * PMIG_PAGE_BYTES);

	if (entries == MAP_FAILED)
		return -errno;
	*ring = (struct kvm_ring){
		.entries = entries,
		.n_entries = ring_bytes / sizeof(struct kvm_dirty_gfn),
	};
	return 0;
}

void kvm_ring_unmap(struct kvm_ring *ring)
{
	if (ring->entries)
		munmap(ring->entries, ring->n_entries * sizeof(*ring->entries));
	ring->entries = NULL;
}

static struct kvm_dirty_gfn *entry_at(const struct kvm_ring *ring,
				      uint32_t index)
{
	return &ring->entries[index & (ring->n_entries - 1)];
}

/* Acquire: the entry was filled in before its flag was set. */
static uint32_t flags_at(const struct kvm_ring *ring, uint32_t index)
{
	return __atomic_load_n(&entry_at(ring, index)->flags,
			       __ATOMIC_ACQUIRE) &
	       KVM_DIRTY_GFN_F_MASK;
}

static bool is_waiting(const struct kvm_ring *ring, uint32_t index)
{
	return flags_at(ring, index) == KVM_DIRTY_GFN_F_DIRTY;
}

/* Release: the entry is done with before KVM may use it again. */
static void set_reset(struct kvm_dirty_gfn *entry)
{
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET,
			 __ATOMIC_RELEASE);
}

/* Where all entries wait, one start is as good as another. */
static bool find_first(struct kvm_ring *ring)
{
	uint32_t n_waiting = 0;

	for (uint32_t i = 0; i < ring->n_entries; i++) {
		if (!is_waiting(ring, i))
			continue;
		n_waiting++;
		if (is_waiting(ring, i - 1) && n_waiting < ring->n_entries)
			continue;
		ring->next = i;
		ring->is_known = true;
		return true;
	}
	return false;
}

static void take(struct kvm_ring *ring, uint32_t index,
		 struct kvm_ring_entry *entry)
{
	struct kvm_dirty_gfn *gfn = entry_at(ring, index);

	entry->slot = gfn->slot;
	entry->page = gfn->offset;
	set_reset(gfn);
}

bool kvm_ring_next(struct kvm_ring *ring, struct kvm_ring_entry *entry)
{
	if (!ring->is_known && !find_first(ring))
		return false;
	if (!is_waiting(ring, ring->next))
		return false;
	take(ring, ring->next++, entry);
	if (!kvm_ring_is_exhausted(ring))
		ring->n_unreset++;
	return true;
}

bool kvm_ring_is_half_full(struct kvm_ring *ring)
{
	if (!ring->is_known && !find_first(ring))
		return false;
	return is_waiting(ring, ring->next + ring->n_entries / 2 - 1);
}

bool kvm_ring_is_exhausted(const struct kvm_ring *ring)
{
	return ring->n_unreset == ring->n_entries;
}

/*
 * KVM goes in order, so the ends tell of all. The last one alone does not:
 * out of step, KVM may come to it from the other side of the gap.
 */
bool kvm_ring_is_reset(const struct kvm_ring *ring)
{
	return !ring->n_unreset ||
	       (flags_at(ring, ring->next - 1) != KVM_DIRTY_GFN_F_RESET &&
		flags_at(ring, ring->next - ring->n_unreset) !=
			KVM_DIRTY_GFN_F_RESET);
}

void kvm_ring_forget(struct kvm_ring *ring)
{
	if (kvm_ring_is_exhausted(ring)) {
		/* KVM may go on anywhere */
		ring->is_known = false;
		ring->is_gapped = true;
	} else if (ring->n_unreset) {
		ring->is_gapped = false;
	}
	ring->n_unreset = 0;
}

static bool find_waiting(const struct kvm_ring *ring, uint32_t *index)
{
	for (uint32_t i = 0; i < ring->n_entries; i++) {
		*index = ring->next + i;
		if (is_waiting(ring, *index))
			return true;
	}
	return false;
}

bool kvm_ring_take_any(struct kvm_ring *ring, struct kvm_ring_entry *entry,
		       bool *is_stray)
{
	uint32_t index;

	*is_stray = false;
	if (kvm_ring_next(ring, entry))
		return true;
	if (!find_waiting(ring, &index))
		return false;
	/* it may have been appended in order just now, and another behind */
	if (kvm_ring_next(ring, entry))
		return true;
	*is_stray = true;
	take(ring, index, entry);
	ring->is_known = false;
	ring->n_unreset = ring->n_entries;
	return true;
}

bool kvm_ring_any_unreset(const struct kvm_ring *ring)
{
	for (uint32_t i = 0; i < ring->n_entries; i++)
		if (flags_at(ring, i) == KVM_DIRTY_GFN_F_RESET)
			return true;
	return false;
}

void kvm_ring_bridge(struct kvm_ring *ring)
{
	for (uint32_t i = 0; i < ring->n_entries; i++) {
		struct kvm_dirty_gfn *after = entry_at(ring, i);
		struct kvm_dirty_gfn *gap = entry_at(ring, i - 1);

		if (flags_at(ring, i) != KVM_DIRTY_GFN_F_RESET ||
		    flags_at(ring, i - 1))
			continue;
		/* protecting a page twice does no harm */
		gap->slot = after->slot;
		gap->offset = after->offset;
		set_reset(gap);
		return;
	}
}
