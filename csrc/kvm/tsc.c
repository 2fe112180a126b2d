/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc.c - reading the guest's time stamp counter, and its frequency
 */
#include "kvm/tsc.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "kvm/msrs.h"
#include "kvm/x86.h"

/* As KVM itself allows between a guest's and its host's frequency. */
#define TSC_TOLERANCE_PPM 250

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

int pmig_kvm_get_tsc_khz(const struct pmig_kvm_job *job, uint32_t vcpu,
			 uint32_t *tsc_khz, struct pmig_error *err)
{
	int rc = VCPU_CALL(job, vcpu, KVM_GET_TSC_KHZ, NULL, err);

	if (rc < 0)
		return rc;
	*tsc_khz = rc;
	return 0;
}

int pmig_kvm_get_tsc(const struct pmig_kvm_job *job, uint32_t vcpu,
		     uint64_t *tsc, struct pmig_error *err)
{
	if (!pmig_kvm_read_msr(job->kvm->vcpu_fds[vcpu], MSR_IA32_TSC, tsc))
		return pmig_fail(err, -ENOTSUP, "vCPU %u: cannot read its TSC",
				 vcpu);
	return 0;
}

int pmig_kvm_read_tsc(const struct pmig_kvm_job *job, uint32_t vcpu,
		      uint64_t *tsc, uint64_t *offset, bool *settled,
		      struct pmig_error *err)
{
	uint64_t after = 0;
	int rc = get_offset(job, vcpu, offset, err);

	if (!rc)
		rc = pmig_kvm_get_tsc(job, vcpu, tsc, err);
	if (!rc)
		rc = get_offset(job, vcpu, &after, err);
	*settled = after == *offset;
	return rc;
}

int pmig_kvm_set_tsc_offset(const struct pmig_kvm_job *job, uint32_t vcpu,
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
	int rc = pmig_kvm_get_tsc_khz(job, 0, &first_khz, err);

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
	rc = pmig_kvm_get_tsc_khz(job, vcpu, &tsc->tsc_khz, err);
	if (!rc)
		rc = check_one_frequency(job, vcpu, tsc->tsc_khz, err);
	if (rc)
		return rc;
	tsc->realtime_ns = pmig_kvm_realtime_ns();
	if (!job->caps.tsc_offset)
		return pmig_kvm_get_tsc(job, vcpu, &tsc->tsc, err);
	rc = pmig_kvm_read_tsc(job, vcpu, &tsc->tsc, &tsc->offset, &settled,
			       err);
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
	rc = pmig_kvm_get_tsc_khz(job, vcpu, &here_khz, err);
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
