/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_kvm_ring.h - the consumer's end of one vCPU's dirty ring
 *
 * KVM appends entries and never says where it is. An entry is its own flag:
 * KVM sets DIRTY when it is filled in, the consumer sets RESET when it has
 * read it, and KVM, going through them in order, clears both when it protects
 * the page again. So the consumer only has to remember where it goes on, or,
 * as a ring may have been used by somebody before, to find out: entries that
 * wait form one run, which begins where the entry before is not waiting.
 *
 * Overflow. KVM keeps a reserve and makes the vCPU leave the guest before the
 * ring is full. A backend that interprets the guest may look too late; KVM
 * then writes over entries that were not read or not reset, and their pages
 * are lost. It shows in one of three ways: the whole ring waits; a reset does
 * not get through, as entries that it comes to have become DIRTY again; or
 * an entry waits elsewhere than where the next one should, because a reset
 * and an overflow met in one entry. The last is looked for only in rings that
 * have been half full at once, without which none of it can happen.
 *
 * KVM is also out of step afterwards: having been around, it appends ahead of
 * where it resets, and would never get across the gap. So the consumer then
 * takes what waits wherever it is, and bridges the gap with entries of its
 * own, one by one, until KVM has reset all there is.
 */
#ifndef PMIG_DIRTY_DIRTY_KVM_RING_H
#define PMIG_DIRTY_DIRTY_KVM_RING_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_dirty_gfn;

/**
 * struct kvm_ring - one ring
 * @entries:	the mapping, shared with KVM
 * @n_entries:	a power of two
 * @next:	where the next entry will be, when it is known
 * @is_known:	whether it is
 * @n_unreset:	entries before next that were read and not yet reset, at most
 *		n_entries
 * @is_suspect:	it has been half full at once
 * @is_gapped:	it has overflowed, and KVM may be out of step
 */
struct kvm_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t n_entries;
	uint32_t next;
	bool is_known;
	uint32_t n_unreset;
	bool is_suspect;
	bool is_gapped;
};

/**
 * struct kvm_ring_entry - one page
 * @slot:	address space id << 16 | slot id
 * @page:	number of the page in the slot
 */
struct kvm_ring_entry {
	uint32_t slot;
	uint64_t page;
};

/* Map the ring of a vCPU; 0 or -errno. */
int kvm_ring_map(struct kvm_ring *ring, int vcpu_fd, uint32_t ring_bytes);
void kvm_ring_unmap(struct kvm_ring *ring);

/* Take the next entry that waits; false when there is none. */
bool kvm_ring_next(struct kvm_ring *ring, struct kvm_ring_entry *entry);

/* Whether half of its entries wait. */
bool kvm_ring_is_half_full(struct kvm_ring *ring);

/* Whether all entries have been taken: it has overflowed, or was about to. */
bool kvm_ring_is_exhausted(const struct kvm_ring *ring);

/* Whether KVM has reset all that was taken in order. */
bool kvm_ring_is_reset(const struct kvm_ring *ring);

/* It has: forget what was taken. */
void kvm_ring_forget(struct kvm_ring *ring);

/*
 * Take an entry that waits anywhere; false when there is none. *is_stray says
 * that it was out of order, so that the ring has overflowed.
 */
bool kvm_ring_take_any(struct kvm_ring *ring, struct kvm_ring_entry *entry,
		       bool *is_stray);

/* Whether anything that was taken is not reset. */
bool kvm_ring_any_unreset(const struct kvm_ring *ring);

/* Put one entry for KVM to reset before one that it has not reset. */
void kvm_ring_bridge(struct kvm_ring *ring);

#endif
