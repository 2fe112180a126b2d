/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_KVM_MSRS_H
#define PMIG_KVM_MSRS_H

#include "kvm/job.h"

/* The most entries that KVM takes in one call (MAX_IO_MSRS). */
#define PMIG_KVM_MSR_CHUNK 256

struct pmig_kvm_msr_chunk {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[PMIG_KVM_MSR_CHUNK];
};

/* msr_call.c */

/* One MSR; false where KVM does not give it out for this vCPU. */
bool pmig_kvm_read_msr(int vcpu_fd, uint32_t index, uint64_t *value);

/*
 * Write one MSR. A value that is there already counts as written; one that
 * cannot be written is an error that names the MSR, or is noted as skipped
 * where the table of skippable MSRs has it.
 */
int pmig_kvm_write_msr(struct pmig_kvm_job *job, uint32_t vcpu, uint32_t index,
		       uint64_t value, struct pmig_error *err);

/* msr_table.c */

/* "0x277 (PAT)" needs this much room. */
#define PMIG_KVM_MSR_NAME_BYTES 48
const char *pmig_kvm_msr_name(uint32_t index, char *room);

/* Why a destination may go without this MSR; NULL: it may not. */
const char *pmig_kvm_msr_skippable(uint32_t index);

/* Items of their own carry these. */
bool pmig_kvm_msr_is_apart(uint32_t index);

/* msr_list.c */

/* A host's list has some hundred entries, the banks add up to 1275. */
#define PMIG_KVM_MSR_LIST 4096

struct pmig_kvm_msr_list {
	uint32_t count;
	uint32_t indices[PMIG_KVM_MSR_LIST];
};

/*
 * The MSRs to save, in ascending order. vcpu_fd may be -1: without those of
 * which a vCPU's own capabilities say how many there are.
 */
int pmig_kvm_list_msrs(int kvm_fd, int vcpu_fd, struct pmig_kvm_msr_list *list,
		       struct pmig_error *err);

#endif
