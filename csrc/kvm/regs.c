/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regs.c - general, segment, control, debug and extended control registers
 */
#include "kvm/job.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "kvm/x86.h"

/*
 * The registers of a guest whose memory and state are encrypted (SEV-ES,
 * TDX) are not the host's to read: KVM answers EINVAL.
 */
PMIG_KVM_SAVE(regs)
{
	int rc = GET_STRUCT(job, vcpu, KVM_GET_REGS, struct kvm_regs, err);

	if (rc == -EINVAL)
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: KVM does not give its registers "
				 "out: this is a protected guest (SEV-ES or "
				 "TDX), which cannot be migrated this way",
				 vcpu);
	return rc;
}

PMIG_KVM_LOAD(regs)
{
	return SET_STRUCT(job, vcpu, KVM_SET_REGS, item, err);
}

/* The shadow stack pointer is in no structure that is saved here. */
static int refuse_shadow_stack(uint32_t vcpu, uint64_t cr4,
			       struct pmig_error *err)
{
	if (!(cr4 & CR4_CET))
		return 0;
	return pmig_fail(err, -ENOTSUP,
			 "vCPU %u: the guest has switched on control-flow "
			 "enforcement (CR4.CET), whose shadow stack pointer "
			 "is not carried over",
			 vcpu);
}

PMIG_KVM_SAVE(sregs)
{
	const struct kvm_sregs *sregs;
	int rc;

	if (job->caps.sregs2)
		return 0;
	rc = GET_STRUCT(job, vcpu, KVM_GET_SREGS, struct kvm_sregs, err);
	if (rc)
		return rc;
	sregs = (const void *)job->blob.data;
	return refuse_shadow_stack(vcpu, sregs->cr4, err);
}

PMIG_KVM_SAVE(sregs2)
{
	const struct kvm_sregs2 *sregs;
	int rc;

	if (!job->caps.sregs2)
		return 0;
	rc = GET_STRUCT(job, vcpu, KVM_GET_SREGS2, struct kvm_sregs2, err);
	if (rc)
		return rc;
	sregs = (const void *)job->blob.data;
	return refuse_shadow_stack(vcpu, sregs->cr4, err);
}

PMIG_KVM_LOAD(sregs)
{
	return SET_STRUCT(job, vcpu, KVM_SET_SREGS, item, err);
}

/*
 * struct kvm_sregs2 adds the PDPTRs, so that a guest in PAE paging resumes
 * with those it had loaded, whatever its memory says now. Without them in
 * use the rest is what struct kvm_sregs holds.
 */
static int load_as_sregs(struct pmig_kvm_job *job, uint32_t vcpu,
			 const struct pmig_item *item, struct pmig_error *err)
{
	struct kvm_sregs sregs = {0};
	struct kvm_sregs2 sregs2;

	memcpy(&sregs2, item->data, sizeof(sregs2));
	if (sregs2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: the guest uses PAE paging, and this "
				 "kernel cannot load its PDPTRs "
				 "(KVM_CAP_SREGS2, Linux 5.14)",
				 vcpu);
	memcpy(&sregs, &sregs2, offsetof(struct kvm_sregs, interrupt_bitmap));
	return VCPU_CALL(job, vcpu, KVM_SET_SREGS, &sregs, err);
}

PMIG_KVM_LOAD(sregs2)
{
	if (!job->caps.sregs2)
		return load_as_sregs(job, vcpu, item, err);
	return SET_STRUCT(job, vcpu, KVM_SET_SREGS2, item, err);
}

PMIG_KVM_SAVE(debugregs)
{
	return GET_STRUCT(job, vcpu, KVM_GET_DEBUGREGS, struct kvm_debugregs,
			  err);
}

PMIG_KVM_LOAD(debugregs)
{
	return SET_STRUCT(job, vcpu, KVM_SET_DEBUGREGS, item, err);
}

PMIG_KVM_SAVE(xcrs)
{
	if (!job->caps.xcrs)
		return 0;
	return GET_STRUCT(job, vcpu, KVM_GET_XCRS, struct kvm_xcrs, err);
}

PMIG_KVM_LOAD(xcrs)
{
	struct kvm_xcrs xcrs;

	memcpy(&xcrs, item->data, sizeof(xcrs));
	if (xcrs.nr_xcrs > KVM_MAX_XCRS)
		return pmig_fail(err, -EBADMSG,
				 "kvm/vcpu%u/xcrs: %u registers, at most %d "
				 "are allowed",
				 vcpu, xcrs.nr_xcrs, KVM_MAX_XCRS);
	return VCPU_CALL(job, vcpu, KVM_SET_XCRS, &xcrs, err);
}
