/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc.c - the guest's time stamp counter
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
#include "kvm/time.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "kvm/msrs.h"
#include "kvm/x86.h"

/* As KVM itself allows between a guest's and its host's frequency. */
#define TSC_TOLERANCE_PPM 250

/* Adjusting clocks may slew by 500 ppm (adjtimex(2)). */
#define SLEW_DIVISOR 2000
#define SLACK_MIN_NS 1000000ULL
#define SLACK_MAX_NS 1000000000ULL

static uint64_t read_clock(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t pmig_kvm_realtime_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

uint64_t pmig_kvm_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t pmig_kvm_elapsed_ns(uint64_t realtime_ns)
{
	uint64_t now_ns = pmig_kvm_realtime_ns();

	return now_ns > realtime_ns ? now_ns - realtime_ns : 0;
}

static uint64_t ticks(uint64_t ns, uint32_t tsc_khz)
{
	return (unsigned __int128)ns * tsc_khz / 1000000;
}

static int offset_call(const struct pmig_kvm_job *job, uint32_t vcpu,
		       unsigned long request, const char *name,
		       uint64_t *offset, struct pmig_error *err)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return pmig_kvm_vcpu_call(job, vcpu, request, name, &attr, err);
}

static int get_offset(const struct pmig_kvm_job *job, uint32_t vcpu,
		      uint64_t *offset, struct pmig_error *err)
{
	return offset_call(job, vcpu, KVM_GET_DEVICE_ATTR,
			   "reading the TSC offset", offset, err);
}

static int get_khz(const struct pmig_kvm_job *job, uint32_t vcpu,
		   uint32_t *tsc_khz, struct pmig_error *err)
{
	int rc = VCPU_CALL(job, vcpu, KVM_GET_TSC_KHZ, NULL, err);

	if (rc < 0)
		return rc;
	*tsc_khz = rc;
	return 0;
}

static int get_tsc(const struct pmig_kvm_job *job, uint32_t vcpu, uint64_t *tsc,
		   struct pmig_error *err)
{
	if (!pmig_kvm_read_msr(job->kvm->vcpu_fds[vcpu], MSR_IA32_TSC, tsc))
		return pmig_fail(err, -ENOTSUP, "vCPU %u: cannot read its TSC",
				 vcpu);
	return 0;
}

/*
 * A counter together with the offset behind it.  On a host whose own TSC is
 * unstable KVM moves the offset whenever the vCPU is touched, so that the
 * guest's counter goes on from where it was: *settled tells whether the offset
 * means something beyond this moment.  The offset is that from before the
 * counter was read, which is the larger one then.
 */
static int read_both(const struct pmig_kvm_job *job, uint32_t vcpu,
		     uint64_t *tsc, uint64_t *offset, bool *settled,
		     struct pmig_error *err)
{
	uint64_t after = 0;
	int rc = get_offset(job, vcpu, offset, err);

	if (!rc)
		rc = get_tsc(job, vcpu, tsc, err);
	if (!rc)
		rc = get_offset(job, vcpu, &after, err);
	*settled = after == *offset;
	return rc;
}

static int set_offset(const struct pmig_kvm_job *job, uint32_t vcpu,
		      uint64_t offset, struct pmig_error *err)
{
	return offset_call(job, vcpu, KVM_SET_DEVICE_ATTR,
			   "writing the TSC offset", &offset, err);
}

/* KVM keeps a frequency for each vCPU; a guest expects one. */
static int check_one_frequency(const struct pmig_kvm_job *job, uint32_t vcpu,
			       uint32_t tsc_khz, struct pmig_error *err)
{
	uint32_t first_khz = 0;
	int rc = get_khz(job, 0, &first_khz, err);

	if (rc || tsc_khz == first_khz)
		return rc;
	return pmig_fail(err, -ENOTSUP,
			 "vCPU %u: its TSC runs at %u kHz and that of vCPU 0 "
			 "at %u kHz",
			 vcpu, tsc_khz, first_khz);
}

PMIG_KVM_SAVE(tsc)
{
	struct pmig_kvm_tsc_item *tsc = pmig_kvm_room(job, sizeof(*tsc), err);
	bool settled = false;
	int rc;

	if (!tsc)
		return -ENOMEM;
	rc = get_khz(job, vcpu, &tsc->tsc_khz, err);
	if (!rc)
		rc = check_one_frequency(job, vcpu, tsc->tsc_khz, err);
	if (rc)
		return rc;
	tsc->realtime_ns = pmig_kvm_realtime_ns();
	if (!job->caps.tsc_offset)
		return get_tsc(job, vcpu, &tsc->tsc, err);
	rc = read_both(job, vcpu, &tsc->tsc, &tsc->offset, &settled, err);
	if (settled)
		tsc->flags = PMIG_KVM_TSC_OFFSET_VALID;
	else
		tsc->offset = 0;
	return rc;
}

static bool within_tolerance(uint32_t a_khz, uint32_t b_khz)
{
	uint64_t apart = a_khz > b_khz ? a_khz - b_khz : b_khz - a_khz;

	return apart * 1000000 <= (uint64_t)b_khz * TSC_TOLERANCE_PPM;
}

PMIG_KVM_LOAD(tsc_khz)
{
	struct pmig_kvm_tsc_item tsc;
	uint32_t here_khz = 0;
	int rc;

	memcpy(&tsc, item->data, sizeof(tsc));
	rc = get_khz(job, vcpu, &here_khz, err);
	if (rc)
		return rc;
	if (tsc.tsc_khz == here_khz)
		return 0;
	if (!job->caps.tsc_scaling && !within_tolerance(tsc.tsc_khz, here_khz))
		return pmig_fail(
			err, -ENOTSUP,
			"vCPU %u: the guest's TSC runs at %u kHz, this "
			"host's at %u kHz, and it cannot scale it "
			"(KVM_CAP_TSC_CONTROL)",
			vcpu, tsc.tsc_khz, here_khz);
	return VCPU_CALL(job, vcpu, KVM_SET_TSC_KHZ,
			 (void *)(uintptr_t)tsc.tsc_khz, err);
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

/* What vCPU 0 is to count, and what all are without offsets. */
static uint64_t wanted_now(const struct pmig_kvm_job *job)
{
	struct pmig_kvm_tsc_item tsc = item_of(job, 0);
	uint64_t wanted = counter_now(&tsc);

	if (tsc.flags & PMIG_KVM_TSC_OFFSET_VALID)
		return wanted;
	for (uint32_t v = 1; v < job->kvm->n_vcpus; v++) {
		uint64_t other;

		tsc = item_of(job, v);
		other = counter_now(&tsc);
		if (other > wanted)
			wanted = other;
	}
	return wanted;
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
 * vCPU 0: decide on its offset here. A counter that is not scaled is the
 * host's plus the offset, which holds also where KVM moves the offset.
 */
static int choose_offset(struct pmig_kvm_job *job, struct pmig_error *err)
{
	struct pmig_kvm_tsc_item tsc = item_of(job, 0);
	uint64_t elapsed_ns = pmig_kvm_elapsed_ns(tsc.realtime_ns);
	uint64_t current = 0, offset = 0, wanted, kept;
	bool settled = false;
	int rc = read_both(job, 0, &current, &offset, &settled, err);

	if (rc)
		return rc;
	wanted = wanted_now(job);
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

	if (!job->caps.tsc_offset)
		return pmig_kvm_write_msr(job, vcpu, MSR_IA32_TSC,
					  wanted_now(job) + distance(job, vcpu),
					  err);
	if (vcpu == 0)
		rc = choose_offset(job, err);
	if (rc)
		return rc;
	return set_offset(job, vcpu, job->tsc_offset + distance(job, vcpu),
			  err);
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
	int rc = get_tsc(job, vcpu, &now, err);

	if (rc)
		return rc;
	if (now < tsc.tsc)
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: this host's KVM does not set a "
				 "guest's TSC, and the guest's would go back "
				 "by %llu ticks",
				 vcpu, (unsigned long long)(tsc.tsc - now));
	if (now > wanted_now(job) + distance(job, vcpu) + slack)
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
