/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mailbox.h"

#include "vmm/guest_image.h"
#include "vmm/vm.h"

/* Unlimited: steps between two heartbeats. */
#define BATCH_STEPS 256

/* Heartbeats between two device accesses. */
#define DEVICE_EVERY 16

/* Ticks of lateness that are caught up; more and a new series begins. */
#define LATE_TICKS 4

static void put(void *mailbox, uint64_t offset, uint64_t value)
{
	*pvmm_word(mailbox, offset) = value;
}

static void fill_one(struct pvmm *vm, uint32_t id, uint64_t tick)
{
	const struct pvmm_plan *plan = &vm->plan;
	const struct pvmm_slice *slice = &plan->slices[id];
	void *mailbox = pvmm_mailbox(vm, id);

	put(mailbox, M_ENTRY,
	    pvmm_image_entry(plan->config.program, vm->track.log != NULL));
	put(mailbox, M_SLICE, slice->offset);
	put(mailbox, M_PAGES, slice->n_pages);
	put(mailbox, M_SHADOW, slice->shadow);
	put(mailbox, M_UNLIMITED, plan->config.flags & PVMM_UNLIMITED);
	put(mailbox, M_BATCH, BATCH_STEPS);
	put(mailbox, M_TICK, tick);
	put(mailbox, M_LATE, tick * LATE_TICKS);
	put(mailbox, M_PER_TICK, plan->per_tick);
	put(mailbox, M_WORDS, plan->partial_words);
	put(mailbox, M_OFFSET_MASK, plan->partial_mask);
	put(mailbox, M_DEVICE_EVERY, DEVICE_EVERY);
	put(mailbox, M_STACK_TOP,
	    PVMM_VCPU_AREA + id * PVMM_VCPU_STRIDE + PVMM_VCPU_WRITTEN);
	put(mailbox, M_LETTER, 'a' + id % 26);
	put(mailbox, M_RANDOM, plan->config.seed + id);
	put(mailbox, M_SEQUENCE, id);
	put(mailbox, M_COUNTDOWN, 1 + id % DEVICE_EVERY);
}

void pvmm_mailbox_fill(struct pvmm *vm)
{
	uint64_t tick = pvmm_tsc_khz(vm) * 1000 / vm->plan.config.tick_hz;

	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++)
		fill_one(vm, i, tick);
}
