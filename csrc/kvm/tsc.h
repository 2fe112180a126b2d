/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_KVM_TSC_H
#define PMIG_KVM_TSC_H

#include "kvm/time.h"

int pmig_kvm_get_tsc_khz(const struct pmig_kvm_job *job, uint32_t vcpu,
			 uint32_t *tsc_khz, struct pmig_error *err);
int pmig_kvm_get_tsc(const struct pmig_kvm_job *job, uint32_t vcpu,
		     uint64_t *tsc, struct pmig_error *err);
int pmig_kvm_set_tsc_offset(const struct pmig_kvm_job *job, uint32_t vcpu,
			    uint64_t offset, struct pmig_error *err);

/*
 * A counter together with the offset behind it.  On a host whose own TSC is
 * unstable KVM moves the offset whenever the vCPU is touched, so that the
 * guest's counter goes on from where it was: *settled tells whether the offset
 * means something beyond this moment.  The offset is that from before the
 * counter was read, which is the larger one then.
 */
int pmig_kvm_read_tsc(const struct pmig_kvm_job *job, uint32_t vcpu,
		      uint64_t *tsc, uint64_t *offset, bool *settled,
		      struct pmig_error *err);

#endif
