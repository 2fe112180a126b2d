/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic.c - the local APIC and its deadline timer
 *
 * When the deadline passes, KVM raises the interrupt and clears the MSR, and
 * it may do so at any moment, also while a paused vCPU is being saved: with
 * the APIC page read before and the MSR after, the interrupt is in neither.
 * So the deadline is read first. If it passes afterwards, the destination
 * arms a deadline in the past, which fires at once; if the interrupt had got
 * into the page as well, the two are one bit there.
 */
#include "kvm/job.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/msrs.h"
#include "kvm/x86.h"

PMIG_KVM_SAVE(lapic)
{
	if (!(job->kvm->flags & (PMIG_KVM_IRQCHIP | PMIG_KVM_SPLIT_IRQCHIP)))
		return 0;
	return GET_STRUCT(job, vcpu, KVM_GET_LAPIC, struct kvm_lapic_state,
			  err);
}

PMIG_KVM_LOAD(lapic)
{
	return SET_STRUCT(job, vcpu, KVM_SET_LAPIC, item, err);
}

PMIG_KVM_SAVE(tsc_deadline)
{
	uint64_t deadline;
	uint64_t *room;

	if (!(job->kvm->flags & (PMIG_KVM_IRQCHIP | PMIG_KVM_SPLIT_IRQCHIP)))
		return 0;
	if (!pmig_kvm_read_msr(job->kvm->vcpu_fds[vcpu], MSR_IA32_TSC_DEADLINE,
			       &deadline))
		return 0; /* this guest has no such timer */
	room = pmig_kvm_room(job, sizeof(*room), err);
	if (!room)
		return -ENOMEM;
	*room = deadline;
	return 0;
}

/* KVM ignores the deadline unless the loaded APIC is in deadline mode. */
PMIG_KVM_LOAD(tsc_deadline)
{
	uint64_t deadline;

	memcpy(&deadline, item->data, sizeof(deadline));
	return pmig_kvm_write_msr(job, vcpu, MSR_IA32_TSC_DEADLINE, deadline,
				  err);
}
