/* SPDX-License-Identifier: Apache-2.0 */
/*
 * throttle.h - keeping vCPUs from running for a part of the time
 *
 * Theory of operation.  Time is cut into turns of TURN_NS: for the first
 * part of a turn a vCPU may run, for the rest its thread waits.  An alarm,
 * which for vCPUs is a timer that sends them the signal of a kick, ends
 * KVM_RUN when the first part is over.  A kick ends the wait, so a pause is
 * as prompt as ever.
 *
 * Only vCPUs that write are held back.  Which do shows in the steps that the
 * guest program counts in its mailbox: every LOOK_NS of the time that it
 * ran, a vCPU is looked at again.
 */
#ifndef PVMM_THROTTLE_H
#define PVMM_THROTTLE_H

#include <stdatomic.h>
#include <time.h>

#include "vmm/runner.h"

/**
 * struct pvmm_turn - where a worker is in its turn; its thread's own
 * @run_until_ns: the wait begins then; 0 when not held back
 * @wait_until_ns: the wait ends then; 0 when it may run
 * @look_at_ns:	of time that it ran: when to look at its steps again
 * @ran_ns:	time that it ran, or was held back while it did not write
 * @seen_ns:	when that was last counted
 * @steps:	as of the last look
 * @is_writing:	as of the last look
 */
struct pvmm_turn {
	uint64_t run_until_ns;
	uint64_t wait_until_ns;
	uint64_t look_at_ns;
	uint64_t ran_ns;
	uint64_t seen_ns;
	uint64_t steps;
	bool is_writing;
};

/**
 * struct pvmm_throttle - of a machine
 * @percent:	of each turn that is waited
 * @held_back:	bit n: worker n is being held back
 * @waits:	that began
 * @waited_ns:	by all workers together
 * @n_timers:	that were made
 * @timers:	alarm of each vCPU
 * @turns:	of each worker
 */
struct pvmm_throttle {
	atomic_uint percent;
	atomic_uint_least64_t held_back;
	atomic_uint_least64_t waits;
	atomic_uint_least64_t waited_ns;
	uint32_t n_timers;
	timer_t timers[PVMM_MAX_VCPUS];
	struct pvmm_turn turns[PVMM_MAX_VCPUS];
};

/* After the threads have ended. */
void pvmm_throttle_free(struct pvmm_throttle *throttle);

/* A worker begins to run: what it did before is no guide. */
void pvmm_turn_begin(struct pvmm_worker *worker);

/*
 * Whether the worker was made to wait: then it may have to park. To be called
 * on its thread, without a lock, before it runs on.
 */
bool pvmm_turn_waited(struct pvmm_worker *worker);

/* Set a vCPU's alarm, ns from now. */
void pvmm_throttle_alarm(struct pvmm_worker *worker, uint64_t ns);

#endif
