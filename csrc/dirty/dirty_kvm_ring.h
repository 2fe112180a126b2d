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
 * then writes over entries that were not read or not reset. This shows in one
 * of two ways: the whole ring waits, or a reset does not get through, since
 * the entry where KVM would begin has become DIRTY again. Pages have been
 * lost then. KVM is also out of step: having been around, it appends some
 * entries ahead of where it resets, and would never get across the gap. The
 * consumer bridges it with entries of its own.
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
 * @n_unreset:	entries before next that were read and not yet reset
 * @is_gapped:	it has overflowed and the gap is not bridged yet
 */
struct kvm_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t n_entries;
	uint32_t next;
	bool is_known;
	uint32_t n_unreset;
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

/*
 * Take the next entry that waits; false when there is none, or when all
 * entries have been taken since the last reset.
 */
bool kvm_ring_next(struct kvm_ring *ring, struct kvm_ring_entry *entry);

/* Whether all entries have been taken: it has overflowed, or was about to. */
bool kvm_ring_is_exhausted(const struct kvm_ring *ring);

/* Whether KVM has reset all that was taken. */
bool kvm_ring_is_reset(const struct kvm_ring *ring);

/* It has: forget what was taken. */
void kvm_ring_forget(struct kvm_ring *ring);

/*
 * Put an entry for KVM to reset n_entries before those that were taken; to
 * be done from 1 on until they are reset. False: there is no room.
 */
bool kvm_ring_bridge(struct kvm_ring *ring, uint32_t n_entries);

#endif
