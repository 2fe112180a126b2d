/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_KVM_VM_H
#define PVMM_KVM_VM_H

#include "vmm/runner.h"

struct kvm_run;

/**
 * struct pvmm_kvm - the KVM side of a machine
 * @fd:		/dev/kvm
 * @vm_fd:	the VM
 * @run_bytes:	size of each mapped kvm_run
 * @vcpu_fds:	of each vCPU, -1 when not made
 * @runs:	of each vCPU
 * @api:	the same for the library
 */
struct pvmm_kvm {
	int fd;
	int vm_fd;
	size_t run_bytes;
	int32_t vcpu_fds[PVMM_MAX_VCPUS];
	struct kvm_run *runs[PVMM_MAX_VCPUS];
	struct pmig_kvm api;
};

/* Before pvmm_kvm_new() can fail: nothing is open yet. */
void pvmm_kvm_init(struct pvmm_kvm *kvm);

/* Make the VM of vm with its slots, irqchip, PIT and vCPUs. */
int pvmm_kvm_new(struct pvmm *vm, struct pmig_error *err);
void pvmm_kvm_free(struct pvmm_kvm *kvm);

/* Frequency of a vCPU's TSC in kHz, 0 when KVM does not say. */
uint64_t pvmm_kvm_tsc_khz(const struct pvmm_kvm *kvm);

/* Put guest memory and all vCPUs in the state to start the program. */
int pvmm_boot(struct pvmm *vm, struct pmig_error *err);

/* vCPU threads. */
extern const struct pvmm_backend_ops pvmm_vcpu_ops;

#endif
