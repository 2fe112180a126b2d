/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pit.c - the in-kernel i8254
 *
 * A channel's count is kept as the time of the source's CLOCK_MONOTONIC at
 * which it was loaded.  That clock starts with its host, so the time is moved
 * to where the destination's clock stood as long ago.  Channel 0, which raises
 * interrupts, KVM starts anew with its full count.
 */
#include "kvm/time.h"

#include <errno.h>
#include <string.h>

#define PIT_CHANNELS 3

_Static_assert(sizeof(struct kvm_pit_state2) == 112, "kvm_pit_state2");

PMIG_KVM_SAVE(pit)
{
	void *room;

	(void)vcpu;
	if (!(job->kvm->flags & PMIG_KVM_PIT))
		return 0;
	room = pmig_kvm_room(job, sizeof(struct kvm_pit_state2), err);
	if (!room)
		return -ENOMEM;
	return VM_CALL(job, KVM_GET_PIT2, room, err);
}

PMIG_KVM_LOAD(pit)
{
	struct pmig_kvm_clock_item clock;
	struct pmig_item clock_item;
	struct kvm_pit_state2 pit;
	uint64_t saved_at_ns;

	(void)vcpu;
	/* pmig_kvm_check_items() found it */
	pmig_state_find(job->state, "kvm/vm/clock", &clock_item);
	memcpy(&clock, clock_item.data, sizeof(clock));
	memcpy(&pit, item->data, sizeof(pit));
	/* when the source was saved, in time of this host */
	saved_at_ns = pmig_kvm_monotonic_ns() -
		      pmig_kvm_elapsed_ns(clock.realtime_ns);
	for (int i = 0; i < PIT_CHANNELS; i++)
		pit.channels[i].count_load_time +=
			saved_at_ns - clock.monotonic_ns;
	return VM_CALL(job, KVM_SET_PIT2, &pit, err);
}
