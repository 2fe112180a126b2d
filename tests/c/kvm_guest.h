/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_guest.h - a KVM guest that writes where it is told to
 *
 * The vCPUs run in 32-bit protected mode without paging. Their code and the
 * lists of what to touch lie in a slot of their own that is not logged, so
 * what a tracker reports is what the guest was told to write, exactly.
 */
#ifndef TESTS_C_KVM_GUEST_H
#define TESTS_C_KVM_GUEST_H

#include <pthread.h>

#include "pymigrate.h"

enum {
	KVM_GUEST_VCPUS = 2,
	KVM_GUEST_SLOTS = 4,
	KVM_GUEST_TOUCHES = 4096, /* in one call */
};

/**
 * struct kvm_guest_vcpu - a vCPU and the thread that may run it
 * @fd:		the vCPU
 * @run:	its shared page
 * @thread:	running it in the background, while is_started
 */
struct kvm_guest_vcpu {
	struct kvm_guest *guest;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool is_started;
	bool is_parked;
};

/**
 * struct kvm_guest - a VM
 * @slots:	those added, as pmig_dirty_config wants them
 * @vcpu_fds:	likewise
 * @dirty:	whose rings to empty when one is full; set by the test
 * @ring_fulls:	how often that happened; atomic
 */
struct kvm_guest {
	int kvm_fd;
	int vm_fd;
	uint32_t ring_bytes;
	struct kvm_guest_vcpu vcpus[KVM_GUEST_VCPUS];
	int32_t vcpu_fds[KVM_GUEST_VCPUS];
	struct pmig_kvm_slot slots[KVM_GUEST_SLOTS];
	uint32_t n_slots;
	uint8_t *code;
	struct pmig_dirty *dirty;
	unsigned int ring_fulls;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_paused;
	bool is_over;
};

/*
 * Make a VM, with dirty rings unless ring_bytes is 0. Skips the test when
 * there is no KVM or no ring.
 */
void kvm_guest_open(struct kvm_guest *guest, uint32_t ring_bytes);
void kvm_guest_close(struct kvm_guest *guest);

/* Give it memory. */
void kvm_guest_add_slot(struct kvm_guest *guest, uint64_t gpa, void *hva,
			uint64_t size_bytes);

/* Switch logging of a slot behind the back of its tracker. */
void kvm_guest_log_slot(struct kvm_guest *guest, uint32_t slot, bool on);

/* The configuration of a tracker for this guest. */
struct pmig_dirty_config kvm_guest_config(const struct kvm_guest *guest,
					  enum pmig_tracker tracker);

/* Add 1 to the first 32 bits at each gpa, on the calling thread. */
void kvm_guest_touch(struct kvm_guest *guest, int vcpu, const uint32_t *gpas,
		     uint32_t n);

/* Do that to n_pages from gpa on, over and over, on a thread. */
void kvm_guest_sweep(struct kvm_guest *guest, int vcpu, uint32_t gpa,
		     uint32_t n_pages);

/* When this returns no vCPU runs; and go on. */
void kvm_guest_pause(struct kvm_guest *guest);
void kvm_guest_resume(struct kvm_guest *guest);

#endif
