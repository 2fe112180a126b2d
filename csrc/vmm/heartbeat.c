/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "vmm/vm.h"

/* The guest writes while this reads: one word at a time, nothing more. */
#define GUEST_ACCESS	__attribute__((no_sanitize("thread")))

#define THREADS_TSC_KHZ 1000000

GUEST_ACCESS static uint64_t peek(void *page, uint64_t offset)
{
	return *pvmm_word(page, offset);
}

int pvmm_heartbeat(const struct pvmm *vm, uint32_t vcpu,
		   struct pvmm_heartbeat *heartbeat)
{
	void *page;

	if (vcpu >= vm->plan.config.n_vcpus)
		return -ENOENT;
	page = pvmm_heartbeat_page(vm, vcpu);
	*heartbeat = (struct pvmm_heartbeat){
		.count = peek(page, H_COUNT),
		.last_tsc = peek(page, H_LAST),
		.max_gap_tsc = peek(page, H_MAX_GAP),
		.max_gap_at_tsc = peek(page, H_MAX_GAP_AT),
		.backwards = peek(page, H_BACKWARDS),
		.device_reads = peek(page, H_DEVICE_READS),
		.device_errors = peek(page, H_DEVICE_ERRORS),
		.content_errors = peek(page, H_CONTENT_ERRORS),
		.steps = peek(pvmm_mailbox(vm, vcpu), M_STEPS),
	};
	return 0;
}

uint64_t pvmm_tsc_khz(const struct pvmm *vm)
{
	return pvmm_is_kvm(vm) ? pvmm_kvm_tsc_khz(&vm->kvm) : THREADS_TSC_KHZ;
}

static uint64_t to_ns(const struct pvmm *vm, uint64_t ticks)
{
	uint64_t khz = pvmm_tsc_khz(vm);

	return khz ? (uint64_t)((__uint128_t)ticks * 1000000 / khz) : 0;
}

uint64_t pvmm_guest_gap_ns(const struct pvmm *vm)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		uint64_t gap = peek(pvmm_heartbeat_page(vm, i), H_FIRST_GAP);

		if (!gap)
			return 0;
		longest = gap > longest ? gap : longest;
	}
	return to_ns(vm, longest);
}

uint64_t pvmm_longest_gap_ns(const struct pvmm *vm)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		uint64_t gap = peek(pvmm_heartbeat_page(vm, i), H_MAX_GAP);

		longest = gap > longest ? gap : longest;
	}
	return to_ns(vm, longest);
}
