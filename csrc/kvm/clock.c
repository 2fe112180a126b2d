/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - kvmclock, the machine's paravirtual clock
 *
 * Like the TSC it goes on counting while the guest is moved, by
 * CLOCK_REALTIME of both hosts.  KVM can read that at the same instant as its
 * own clock, and can add the difference itself, if the host's clock source is
 * its TSC (Linux 5.16); otherwise the two are read one after the other.
 */
#include "kvm/time.h"

#include <errno.h>
#include <string.h>

PMIG_KVM_SAVE(clock)
{
	struct pmig_kvm_clock_item *clock =
		pmig_kvm_room(job, sizeof(*clock), err);
	int rc;

	(void)vcpu;
	if (!clock)
		return -ENOMEM;
	rc = VM_CALL(job, KVM_GET_CLOCK, &clock->clock, err);
	if (rc)
		return rc;
	clock->realtime_ns = pmig_kvm_realtime_ns();
	clock->monotonic_ns = pmig_kvm_monotonic_ns();
	return 0;
}

PMIG_KVM_LOAD(clock)
{
	struct pmig_kvm_clock_item clock;
	struct kvm_clock_data data = {0};

	(void)vcpu;
	memcpy(&clock, item->data, sizeof(clock));
	data.clock = clock.clock.clock;
	data.realtime = clock.realtime_ns;
	if (clock.clock.flags & KVM_CLOCK_REALTIME)
		data.realtime = clock.clock.realtime;
	if (job->caps.clock_realtime)
		data.flags = KVM_CLOCK_REALTIME;
	else
		data.clock += pmig_kvm_elapsed_ns(data.realtime);
	return VM_CALL(job, KVM_SET_CLOCK, &data, err);
}
