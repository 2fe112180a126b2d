/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xsave.c - FPU, SSE, AVX and further extended state
 *
 * The area is in the standard (not compacted) layout of XSAVE. Its size is
 * the kernel's choice: 4096 bytes, or more where AMX may be used. A longer
 * area than the destination's is fine as long as no component lies in the
 * part that is cut off.
 */
#include "kvm/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"

/* Which components the area holds: the first word after the legacy part. */
#define XSTATE_BV_OFFSET 512

PMIG_KVM_SAVE(xsave)
{
	void *room = pmig_kvm_room(job, job->caps.xsave_bytes, err);

	if (!room)
		return -ENOMEM;
	if (job->caps.xsave2)
		return VCPU_CALL(job, vcpu, KVM_GET_XSAVE2, room, err);
	return VCPU_CALL(job, vcpu, KVM_GET_XSAVE, room, err);
}

static uint64_t components(const struct pmig_item *item)
{
	uint64_t xstate_bv;

	memcpy(&xstate_bv, item->data + XSTATE_BV_OFFSET, sizeof(xstate_bv));
	return xstate_bv;
}

static bool is_zero(const uint8_t *data, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++)
		if (data[i])
			return false;
	return true;
}

/* EINVAL without more: say what the kernel may have minded. */
static int explain(struct pmig_kvm_job *job, uint32_t vcpu, uint64_t in_use,
		   int rc, struct pmig_error *err)
{
	struct kvm_device_attr attr = {
		.group = 0,
		.attr = KVM_X86_XCOMP_GUEST_SUPP,
	};
	uint64_t supported = 0;

	attr.addr = (uintptr_t)&supported;
	if (rc != -EINVAL ||
	    ioctl(job->kvm->kvm_fd, KVM_GET_DEVICE_ATTR, &attr) < 0 ||
	    !(in_use & ~supported))
		return rc;
	return pmig_fail(err, -ENOTSUP,
			 "vCPU %u: the guest uses the XSAVE components 0x%llx, "
			 "of which this host lacks 0x%llx",
			 vcpu, (unsigned long long)in_use,
			 (unsigned long long)(in_use & ~supported));
}

static int set_area(struct pmig_kvm_job *job, uint32_t vcpu,
		    const struct pmig_item *item, size_t used_bytes,
		    struct pmig_error *err)
{
	void *area = calloc(1, job->caps.xsave_bytes);
	int rc;

	if (!area)
		return pmig_fail_errno(err, "XSAVE area");
	memcpy(area, item->data, used_bytes);
	rc = VCPU_CALL(job, vcpu, KVM_SET_XSAVE, area, err);
	free(area);
	if (rc)
		return explain(job, vcpu, components(item), rc, err);
	return 0;
}

PMIG_KVM_LOAD(xsave)
{
	size_t used_bytes = item->size_bytes;

	if (used_bytes > job->caps.xsave_bytes) {
		used_bytes = job->caps.xsave_bytes;
		if (!is_zero(item->data + used_bytes,
			     item->size_bytes - used_bytes))
			return pmig_fail(
				err, -ENOTSUP,
				"vCPU %u: the guest uses %llu bytes of XSAVE "
				"state, this machine has %zu (AMX needs "
				"ARCH_REQ_XCOMP_GUEST_PERM before the vCPU is "
				"created)",
				vcpu, (unsigned long long)item->size_bytes,
				used_bytes);
	}
	return set_area(job, vcpu, item, used_bytes, err);
}
