/* SPDX-License-Identifier: Apache-2.0 */
/*
 * time.h - the time that passed between a save and its load
 */
#ifndef PMIG_KVM_TIME_H
#define PMIG_KVM_TIME_H

#include "kvm/job.h"

/**
 * struct pmig_kvm_clock_item - the item "kvm/vm/clock"
 * @clock:	as KVM_GET_CLOCK gave it
 * @realtime_ns: CLOCK_REALTIME just after it
 * @monotonic_ns: CLOCK_MONOTONIC just after it
 */
struct pmig_kvm_clock_item {
	struct kvm_clock_data clock;
	uint64_t realtime_ns;
	uint64_t monotonic_ns;
};

_Static_assert(sizeof(struct kvm_clock_data) == 48, "kvm_clock_data");
_Static_assert(sizeof(struct pmig_kvm_clock_item) == 64, "clock item");

enum {
	PMIG_KVM_TSC_OFFSET_VALID = 1,
};

/**
 * struct pmig_kvm_tsc_item - the item "kvm/vcpuN/tsc"
 * @tsc_khz:	frequency of the guest's TSC
 * @flags:	PMIG_KVM_TSC_OFFSET_VALID
 * @offset:	guest TSC - scaled host TSC, where the kernel tells it
 * @tsc:	guest TSC at @realtime_ns
 * @realtime_ns: CLOCK_REALTIME just before @tsc was read
 */
struct pmig_kvm_tsc_item {
	uint32_t tsc_khz;
	uint32_t flags;
	uint64_t offset;
	uint64_t tsc;
	uint64_t realtime_ns;
};

_Static_assert(sizeof(struct pmig_kvm_tsc_item) == 32, "TSC item");

uint64_t pmig_kvm_realtime_ns(void);
uint64_t pmig_kvm_monotonic_ns(void);

/*
 * Nanoseconds from the source's realtime_ns to now, by the clocks of both
 * hosts. 0 where this host's clock is behind: guest time stands still for a
 * moment rather than going backwards.
 */
uint64_t pmig_kvm_elapsed_ns(uint64_t realtime_ns);

#endif
