/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/msrs.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "base/error.h"

/* KVM_GET_MSRS and KVM_SET_MSRS with one entry. */
struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

bool pmig_kvm_read_msr(int vcpu_fd, uint32_t index, uint64_t *value)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry.index = index};

	if (ioctl(vcpu_fd, KVM_GET_MSRS, &msr) != 1)
		return false;
	*value = msr.entry.data;
	return true;
}

/*
 * KVM refused the write. Read-only MSRs are in KVM's list too: what matters
 * is that the guest finds the value that it had.
 */
static int judge_refusal(struct pmig_kvm_job *job, uint32_t vcpu,
			 uint32_t index, uint64_t value, struct pmig_error *err)
{
	const char *reason = pmig_kvm_msr_skippable(index);
	char name[PMIG_KVM_MSR_NAME_BYTES];
	uint64_t current;

	if (pmig_kvm_read_msr(job->kvm->vcpu_fds[vcpu], index, &current) &&
	    current == value)
		return 0;
	pmig_kvm_msr_name(index, name);
	if (!reason)
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: this host does not take the value "
				 "0x%llx in MSR %s",
				 vcpu, (unsigned long long)value, name);
	pmig_kvm_skip(job, "vCPU %u: MSR %s: %s", vcpu, name, reason);
	return 0;
}

int pmig_kvm_write_msr(struct pmig_kvm_job *job, uint32_t vcpu, uint32_t index,
		       uint64_t value, struct pmig_error *err)
{
	struct one_msr msr = {
		.head.nmsrs = 1,
		.entry = {.index = index, .data = value},
	};
	int rc = VCPU_CALL(job, vcpu, KVM_SET_MSRS, &msr, err);

	if (rc < 0)
		return rc;
	if (rc == 1)
		return 0;
	return judge_refusal(job, vcpu, index, value, err);
}
