/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - inside of a machine
 */
#ifndef PVMM_VM_H
#define PVMM_VM_H

#include "vmm/corpus.h"
#include "vmm/devices.h"
#include "vmm/kvm_vm.h"
#include "vmm/plan.h"
#include "vmm/ram.h"
#include "vmm/runner.h"
#include "vmm/throttle.h"
#include "vmm/track.h"
#include "vmm/writer.h"

/**
 * struct pvmm - a machine
 * @plan:	constant after pvmm_new()
 * @ram:	constant after pvmm_new()
 * @corpus:	while content is made of it
 * @track:	how writes are found
 * @devices:	has its own lock
 * @kvm:	of the KVM backend
 * @writers:	of the threads backend
 * @runner:	has its own lock
 * @throttle:	percent for any thread, turns each for its worker
 */
struct pvmm {
	struct pvmm_plan plan;
	struct pvmm_ram ram;
	struct pvmm_corpus corpus;
	struct pvmm_track track;
	struct pvmm_devices devices;
	struct pvmm_kvm kvm;
	struct pvmm_writers writers;
	struct pvmm_runner runner;
	struct pvmm_throttle throttle;
};

/* The mailbox page, or the heartbeat page, of a vCPU. */
static inline void *pvmm_mailbox(const struct pvmm *vm, uint32_t vcpu)
{
	return vm->ram.base + PVMM_VCPU_AREA + vcpu * PVMM_VCPU_STRIDE;
}

static inline void *pvmm_heartbeat_page(const struct pvmm *vm, uint32_t vcpu)
{
	return (uint8_t *)pvmm_mailbox(vm, vcpu) + PVMM_HEARTBEAT;
}

static inline bool pvmm_is_kvm(const struct pvmm *vm)
{
	return vm->plan.config.backend == PVMM_BACKEND_KVM;
}

#endif
