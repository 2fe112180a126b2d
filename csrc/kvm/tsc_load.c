/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc_load.c - setting the guest's time stamp counter
 *
 * The guest's TSC goes on counting while the guest is moved, as the one of
 * real hardware does: at the destination it stands at what it was, plus the
 * time that passed by CLOCK_REALTIME of both hosts, and never lower.
 *
 * It is set by its offset from the host's TSC: writing the counter itself on
 * one vCPU after the other would leave them apart, and KVM would give up the
 * master clock.  The offset is found once, for vCPU 0; each other vCPU keeps
 * the distance that it had from vCPU 0.
 *
 * If keeping the source's offset gives the same time, within what clocks are
 * slewed by, then both sides read one TSC (they are on one host) and it is
 * kept: exact, where clocks are only close.
 *
 * Where the source could not tell offsets (before Linux 5.16, or its own TSC
 * was unstable), its vCPUs are taken as meant to be equal, and all get the
 * counter of the one that was furthest: no counter goes back.
 */
#include "kvm/tsc.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "kvm/msrs.h"
#include "kvm/x86.h"

/* Adjusting clocks may slew by 500 ppm (adjtimex(2)). */
#define SLEW_DIVISOR 2000
#define SLACK_MIN_NS 1000000ULL
#define SLACK_MAX_NS 1000000000ULL

static uint64_t ticks(uint64_t ns, uint32_t tsc_khz)
{
	return (unsigned __int128)ns * tsc_khz / 1000000;
}

/* Do a and b differ by no more than the clocks of elapsed_ns may? */
static bool is_same_time(uint64_t a, uint64_t b, uint64_t elapsed_ns,
			 uint32_t tsc_khz)
{
	uint64_t slack_ns = elapsed_ns / SLEW_DIVISOR;
	uint64_t apart = a > b ? a - b : b - a;

	if (slack_ns < SLACK_MIN_NS)
		slack_ns = SLACK_MIN_NS;
	if (slack_ns > SLACK_MAX_NS)
		slack_ns = SLACK_MAX_NS;
	return apart <= ticks(slack_ns, tsc_khz);
}

/* The item of a vCPU, which pmig_kvm_check_items() has found. */
static struct pmig_kvm_tsc_item item_of(const struct pmig_kvm_job *job,
					uint32_t vcpu)
{
	char name[PMIG_KVM_NAME_BYTES];
	struct pmig_kvm_tsc_item tsc;
	struct pmig_item item;

	pmig_kvm_item_name(name, vcpu, "tsc");
	pmig_state_find(job->state, name, &item);
	memcpy(&tsc, item.data, sizeof(tsc));
	return tsc;
}

/* Where a vCPU's counter ought to be by now. */
static uint64_t counter_now(const struct pmig_kvm_tsc_item *tsc)
{
	return tsc->tsc +
	       ticks(pmig_kvm_elapsed_ns(tsc->realtime_ns), tsc->tsc_khz);
}

/* How far a vCPU's counter is ahead of that of vCPU 0. */
static uint64_t distance(const struct pmig_kvm_job *job, uint32_t vcpu)
{
	struct pmig_kvm_tsc_item first = item_of(job, 0);
	struct pmig_kvm_tsc_item tsc = item_of(job, vcpu);

	if (!(tsc.flags & first.flags & PMIG_KVM_TSC_OFFSET_VALID))
		return 0;
	return tsc.offset - first.offset;
}

/*
 * How much further than its own saved counter vCPU 0's has to be, so that no
 * other vCPU's counter falls behind its saved one.
 */
static uint64_t find_lead(const struct pmig_kvm_job *job)
{
	struct pmig_kvm_tsc_item tsc = item_of(job, 0);
	uint64_t first = counter_now(&tsc);
	int64_t lead = 0;

	for (uint32_t v = 1; v < job->kvm->n_vcpus; v++) {
		int64_t beyond;

		tsc = item_of(job, v);
		beyond = counter_now(&tsc) - distance(job, v) - first;
		if (beyond > lead)
			lead = beyond;
	}
	return lead;
}

/* What a vCPU's counter is to be at this moment. */
static uint64_t wanted_now(const struct pmig_kvm_job *job, uint32_t vcpu)
{
	struct pmig_kvm_tsc_item first = item_of(job, 0);

	return counter_now(&first) + job->tsc_lead + distance(job, vcpu);
}

/*
 * vCPU 0: decide on its offset here. A counter that is not scaled is the
 * host's plus the offset, which holds also where KVM moves the offset.
 */
static int choose_offset(struct pmig_kvm_job *job, struct pmig_error *err)
{
	struct pmig_kvm_tsc_item tsc = item_of(job, 0);
	uint64_t elapsed_ns = pmig_kvm_elapsed_ns(tsc.realtime_ns);
	uint64_t current = 0, offset = 0, wanted, kept;
	bool settled = false;
	int rc = pmig_kvm_read_tsc(job, 0, &current, &offset, &settled, err);

	if (rc)
		return rc;
	wanted = wanted_now(job, 0);
	job->tsc_offset = wanted - __builtin_ia32_rdtsc();
	if (job->caps.tsc_scaling)
		job->tsc_offset = offset + (wanted - current);
	kept = current - offset + tsc.offset;
	if (settled && (tsc.flags & PMIG_KVM_TSC_OFFSET_VALID) &&
	    kept >= tsc.tsc &&
	    is_same_time(kept, wanted, elapsed_ns, tsc.tsc_khz))
		job->tsc_offset = tsc.offset;
	return 0;
}

/*
 * Without the offset attribute (before Linux 5.16) the counter is written.
 * KVM takes writes that are within a second of each other's time as meant to
 * be equal, and gives the vCPUs one offset.
 */
static int set_tsc(struct pmig_kvm_job *job, uint32_t vcpu,
		   struct pmig_error *err)
{
	int rc = 0;

	if (vcpu == 0)
		job->tsc_lead = find_lead(job);
	if (!job->caps.tsc_offset)
		return pmig_kvm_write_msr(job, vcpu, MSR_IA32_TSC,
					  wanted_now(job, vcpu), err);
	if (vcpu == 0)
		rc = choose_offset(job, err);
	if (rc)
		return rc;
	return pmig_kvm_set_tsc_offset(
		job, vcpu, job->tsc_offset + distance(job, vcpu), err);
}

/*
 * There are KVM backends whose guests see the host's own counter, whatever
 * KVM is told. Then all is well on one host, and elsewhere only a guest whose
 * counter jumps ahead may run.
 */
static int check_tsc(struct pmig_kvm_job *job, uint32_t vcpu,
		     struct pmig_error *err)
{
	struct pmig_kvm_tsc_item tsc = item_of(job, vcpu);
	uint64_t slack = ticks(SLACK_MAX_NS, tsc.tsc_khz);
	uint64_t now = 0;
	int rc = pmig_kvm_get_tsc(job, vcpu, &now, err);

	if (rc)
		return rc;
	if (now < tsc.tsc)
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: this host's KVM does not set a "
				 "guest's TSC, and the guest's would go back "
				 "by %llu ticks",
				 vcpu, (unsigned long long)(tsc.tsc - now));
	if (now > wanted_now(job, vcpu) + slack)
		pmig_kvm_skip(job,
			      "vCPU %u: TSC: this host's KVM does not set it, "
			      "it jumps ahead",
			      vcpu);
	return 0;
}

PMIG_KVM_LOAD(tsc)
{
	int rc = set_tsc(job, vcpu, err);

	(void)item;
	return rc ? rc : check_tsc(job, vcpu, err);
}
