/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.c - what is about to happen to a vCPU: its MP state, and pending
 * exceptions, interrupts, NMIs and SMIs
 */
#include "kvm/job.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

PMIG_KVM_SAVE(mp_state)
{
	return GET_STRUCT(job, vcpu, KVM_GET_MP_STATE, struct kvm_mp_state,
			  err);
}

PMIG_KVM_LOAD(mp_state)
{
	return SET_STRUCT(job, vcpu, KVM_SET_MP_STATE, item, err);
}

PMIG_KVM_SAVE(events)
{
	return GET_STRUCT(job, vcpu, KVM_GET_VCPU_EVENTS,
			  struct kvm_vcpu_events, err);
}

static int refuse_event(uint32_t vcpu, const char *what, const char *capability,
			struct pmig_error *err)
{
	return pmig_fail(err, -ENOTSUP,
			 "vCPU %u: a %s is pending, which this machine cannot "
			 "take (%s is missing or was not enabled by "
			 "pmig_kvm_prepare())",
			 vcpu, what, capability);
}

/*
 * The flags say which members KVM shall take over. All that this machine
 * knows must be taken, so that an earlier load leaves nothing behind; one
 * that it does not know is an error to KVM, and may be dropped only while
 * the member says that nothing is pending.
 */
static int fit_events(const struct pmig_kvm_job *job, uint32_t vcpu,
		      uint32_t known, struct kvm_vcpu_events *events,
		      struct pmig_error *err)
{
	uint32_t unknown = events->flags & ~known;

	if ((unknown & KVM_VCPUEVENT_VALID_PAYLOAD) &&
	    (events->exception.pending || events->exception_has_payload))
		return refuse_event(vcpu, "exception with a payload",
				    "KVM_CAP_EXCEPTION_PAYLOAD", err);
	if ((unknown & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) &&
	    events->triple_fault.pending)
		return refuse_event(vcpu, "triple fault",
				    "KVM_CAP_X86_TRIPLE_FAULT_EVENT", err);
	if ((events->smi.smm || events->smi.pending) &&
	    !pmig_kvm_extension(job->kvm, KVM_CAP_X86_SMM))
		return refuse_event(vcpu, "system management interrupt",
				    "KVM_CAP_X86_SMM", err);
	events->flags = known;
	return 0;
}

PMIG_KVM_LOAD(events)
{
	struct kvm_vcpu_events current = {0};
	struct kvm_vcpu_events events;
	int rc;

	memcpy(&events, item->data, sizeof(events));
	rc = VCPU_CALL(job, vcpu, KVM_GET_VCPU_EVENTS, &current, err);
	if (rc)
		return rc;
	rc = fit_events(job, vcpu, current.flags, &events, err);
	if (rc)
		return rc;
	return VCPU_CALL(job, vcpu, KVM_SET_VCPU_EVENTS, &events, err);
}
