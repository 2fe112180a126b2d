/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/oracle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/content.h"
#include "vmm/error.h"
#include "vmm/vm.h"

/* Program read writes one of this many pages it reads. */
#define READS_PER_WRITE 64

/*
 * The counters must add up to the steps that the vCPU counted elsewhere,
 * give or take the batch that it was stopped in. Catches a whole slice that
 * is old.
 */
static bool steps_add_up(const struct pvmm *vm, uint32_t vcpu,
			 const struct pvmm_verdict *verdict,
			 struct pvmm_oracle *oracle)
{
	void *mailbox = pvmm_mailbox(vm, vcpu);
	uint64_t least = *pvmm_word(mailbox, M_STEPS);
	uint64_t most = least + *pvmm_word(mailbox, M_RUNNING);
	uint64_t n_pages = vm->plan.slices[vcpu].n_pages;

	if (vm->plan.config.program == PVMM_PROGRAM_READ) {
		least = least / READS_PER_WRITE;
		most = most / READS_PER_WRITE +
		       most / n_pages / READS_PER_WRITE + 2;
	}
	if (verdict->n_steps + verdict->n_pending >= least &&
	    verdict->n_steps <= most)
		return true;
	snprintf(oracle->message, sizeof(oracle->message),
		 "vCPU %u: counters add up to %llu writes, it did %llu to %llu",
		 vcpu, (unsigned long long)verdict->n_steps,
		 (unsigned long long)least, (unsigned long long)most);
	return false;
}

static bool slice_is_right(const struct pvmm *vm, uint32_t vcpu,
			   struct pvmm_oracle *oracle)
{
	struct pvmm_verdict verdict;

	if (!pvmm_oracle_slice(vm, vcpu, &verdict, oracle->message,
			       sizeof(oracle->message)))
		return false;
	oracle->counters_checked += vm->plan.slices[vcpu].n_pages;
	oracle->steps += verdict.n_steps;
	if (verdict.n_sweeps < oracle->sweeps)
		oracle->sweeps = verdict.n_sweeps;
	return vm->plan.config.program == PVMM_PROGRAM_IDLE ||
	       steps_add_up(vm, vcpu, &verdict, oracle);
}

static bool heartbeat_is_right(const struct pvmm *vm, uint32_t vcpu,
			       struct pvmm_oracle *oracle)
{
	struct pvmm_heartbeat beat;
	const char *what = NULL;

	pvmm_heartbeat(vm, vcpu, &beat);
	if (beat.backwards)
		what = "saw its TSC go backwards";
	else if (beat.device_errors)
		what = "got a repeated or skipped number from the sequencer";
	else if (beat.content_errors)
		what = "read a page that was not as written";
	if (what)
		snprintf(oracle->message, sizeof(oracle->message), "vCPU %u %s",
			 vcpu, what);
	return !what;
}

static bool devices_are_right(struct pvmm *vm, struct pvmm_oracle *oracle)
{
	uint64_t n_errors, n_seen = 0;

	pvmm_devices_totals(&vm->devices, &oracle->device_reads, &n_errors);
	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++)
		n_seen +=
			*pvmm_word(pvmm_heartbeat_page(vm, i), H_DEVICE_READS);
	/* Each vCPU may have been stopped between its read and the count. */
	if (oracle->device_reads < n_seen ||
	    oracle->device_reads > n_seen + vm->plan.config.n_vcpus)
		snprintf(oracle->message, sizeof(oracle->message),
			 "the sequencer was read %llu times, vCPUs counted "
			 "%llu",
			 (unsigned long long)oracle->device_reads,
			 (unsigned long long)n_seen);
	else if (n_errors)
		snprintf(oracle->message, sizeof(oracle->message),
			 "%llu writes to the sequencer were lost or wrong",
			 (unsigned long long)n_errors);
	return !oracle->message[0];
}

static bool content_is_right(const struct pvmm *vm, struct pvmm_oracle *oracle)
{
	uint64_t bad_page;

	oracle->content_checked = pvmm_content_compare(vm, &bad_page);
	if (bad_page == UINT64_MAX)
		return true;
	snprintf(oracle->message, sizeof(oracle->message),
		 "page %llu, which nobody writes, has changed",
		 (unsigned long long)bad_page);
	return false;
}

static bool has_stopped(struct pvmm *vm, struct pvmm_oracle *oracle)
{
	struct pvmm_status status = {.struct_size = sizeof(status)};

	pvmm_status(vm, &status);
	if (status.stopped_vcpus)
		memcpy(oracle->message, status.message,
		       sizeof(oracle->message));
	return status.stopped_vcpus != 0;
}

static bool machine_is_right(struct pvmm *vm, uint32_t flags,
			     struct pvmm_oracle *oracle)
{
	if (has_stopped(vm, oracle))
		return false;
	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		if (!slice_is_right(vm, i, oracle) ||
		    !heartbeat_is_right(vm, i, oracle))
			return false;
	}
	if (!devices_are_right(vm, oracle))
		return false;
	return !(flags & PVMM_ORACLE_CONTENT) || content_is_right(vm, oracle);
}

/* Can the content be made again? */
static bool content_is_known(struct pvmm *vm, struct pvmm_oracle *oracle)
{
	struct pmig_error why;
	int rc = pvmm_content_open(vm, &why);

	if (!rc)
		rc = pvmm_content_check(vm, &why);
	if (!rc)
		return true;
	snprintf(oracle->message, sizeof(oracle->message), "%.*s",
		 (int)sizeof(oracle->message) - 1, why.message);
	return false;
}

int pvmm_oracle(struct pvmm *vm, uint32_t flags, struct pvmm_oracle *oracle,
		struct pmig_error *err)
{
	if (!pvmm_runner_paused(&vm->runner))
		return pvmm_fail(err, -EBUSY,
				 "the oracle needs a paused machine");
	*oracle = (struct pvmm_oracle){
		.struct_size = sizeof(*oracle),
		.sweeps = UINT64_MAX,
	};
	oracle->ok = content_is_known(vm, oracle) &&
		     machine_is_right(vm, flags, oracle);
	pvmm_content_close(vm);
	if (oracle->sweeps == UINT64_MAX)
		oracle->sweeps = 0;
	return 0;
}
