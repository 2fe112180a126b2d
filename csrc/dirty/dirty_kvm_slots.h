/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_kvm_slots.h - KVM memory slots and the blocks they back
 */
#ifndef PMIG_DIRTY_DIRTY_KVM_SLOTS_H
#define PMIG_DIRTY_DIRTY_KVM_SLOTS_H

#include "dirty/dirty.h"

/**
 * struct kvm_slot_map - a slot in block numbers
 * @slot:	as the caller set it
 * @first_block: block of the slot's first page; a slot begins with a block
 * @n_blocks:	blocks it covers, the last one possibly in part
 * @n_pages:	pages it covers
 */
struct kvm_slot_map {
	struct pmig_kvm_slot slot;
	uint64_t first_block;
	uint64_t n_blocks;
	uint64_t n_pages;
};

/**
 * struct kvm_slots - all slots of a tracker
 * @vm_fd:	not owned
 * @n:		number of slots
 * @maps:	in the order given
 * @max_blocks:	of the largest
 */
struct kvm_slots {
	int vm_fd;
	uint32_t n;
	struct kvm_slot_map *maps;
	uint64_t max_blocks;
};

/* -ENOTSUP without a VM or without slots; release with the other. */
int kvm_slots_init(struct kvm_slots *slots, const struct pmig_dirty *dirty,
		   struct pmig_error *err);
void kvm_slots_release(struct kvm_slots *slots);

/* Switch logging of all slots on, all or none, or off. */
int kvm_slots_log(struct kvm_slots *slots, bool on, struct pmig_error *err);

/* Set KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 of the VM to modes; 0 or -errno. */
int kvm_slots_set_manual(struct kvm_slots *slots, uint64_t modes);

/* KVM_CHECK_EXTENSION on the VM; 0 when it is not there. */
int kvm_slots_extension(const struct kvm_slots *slots, int capability);

/* The slot with that number, or NULL. */
const struct kvm_slot_map *kvm_slots_find(const struct kvm_slots *slots,
					  uint32_t slot);

#endif
