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

/* vCPU 0: decide on its offset here. */
static int choose_offset(struct pmig_kvm_job *job,
			 const struct pmig_kvm_tsc_item *tsc,
			 struct pmig_error *err)
{
	uint64_t elapsed_ns = pmig_kvm_elapsed_ns(tsc->realtime_ns);
	uint64_t wanted = tsc->tsc + ticks(elapsed_ns, tsc->tsc_khz);
	uint64_t current = 0, offset = 0, kept;
	bool settled = false;
	int rc = read_both(job, 0, &current, &offset, &settled, err);

	if (rc)
		return rc;
	job->tsc_offset = offset + (wanted - current);
	kept = current - offset + tsc->offset;
	if (settled && (tsc->flags & PMIG_KVM_TSC_OFFSET_VALID) &&
	    kept >= tsc->tsc &&
	    is_same_time(kept, wanted, elapsed_ns, tsc->tsc_khz))
		job->tsc_offset = tsc->offset;
	return 0;
}

/*
 * How far a vCPU's TSC is ahead of that of vCPU 0. Without offsets it is
 * known only as well as two clocks can be read together, so that a small
 * distance is taken as none.
 */
static uint64_t skew(const struct pmig_kvm_tsc_item *tsc,
		     const struct pmig_kvm_tsc_item *first)
{
	uint64_t then_ns = tsc->realtime_ns - first->realtime_ns;
	uint64_t expected;

	if (tsc->flags & first->flags & PMIG_KVM_TSC_OFFSET_VALID)
		return tsc->offset - first->offset;
	if (tsc->realtime_ns < first->realtime_ns)
		then_ns = 0;
	expected = first->tsc + ticks(then_ns, first->tsc_khz);
	if (is_same_time(tsc->tsc, expected, then_ns, first->tsc_khz))
		return 0;
	return tsc->tsc - expected;
}

/*
 * Without the offset attribute (before Linux 5.16) the counter is written.
 * KVM takes writes that are within a second of each other's time as meant to
 * be equal, and gives the vCPUs one offset.
 */
static int write_counter(struct pmig_kvm_job *job, uint32_t vcpu,
			 const struct pmig_kvm_tsc_item *first, uint64_t ahead,
			 struct pmig_error *err)
{
	uint64_t elapsed_ns = pmig_kvm_elapsed_ns(first->realtime_ns);
	uint64_t wanted = first->tsc + ticks(elapsed_ns, first->tsc_khz);

	return pmig_kvm_write_msr(job, vcpu, MSR_IA32_TSC, wanted + ahead, err);
}

PMIG_KVM_LOAD(tsc)
{
	struct pmig_kvm_tsc_item tsc, first;
	struct pmig_item first_item;
	int rc;

	/* pmig_kvm_check_items() found it */
	pmig_state_find(job->state, "kvm/vcpu0/tsc", &first_item);
	memcpy(&first, first_item.data, sizeof(first));
	memcpy(&tsc, item->data, sizeof(tsc));
	if (!job->caps.tsc_offset)
		return write_counter(job, vcpu, &first, skew(&tsc, &first),
				     err);
	if (vcpu == 0) {
		rc = choose_offset(job, &first, err);
		if (rc)
			return rc;
	}
	return set_offset(job, vcpu, job->tsc_offset + skew(&tsc, &first), err);
}
