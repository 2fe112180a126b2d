/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nested.c - the guest's own guests
 *
 * The pages that hold the guest's VMCS12 or VMCB12 are ordinary guest memory:
 * they must be there before the first run.
 */
#include "kvm/job.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

_Static_assert(sizeof(struct kvm_nested_state) == 128, "nested state header");

/* No nested guest, and the guest's hypervisor is not switched on. */
static bool is_idle(const struct kvm_nested_state *nested)
{
	const uint16_t busy =
		KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING;

	if (nested->flags & busy)
		return false;
	if (nested->format == KVM_STATE_NESTED_FORMAT_VMX)
		return nested->hdr.vmx.vmxon_pa == UINT64_MAX;
	return nested->flags & KVM_STATE_NESTED_GIF_SET;
}

PMIG_KVM_SAVE(nested)
{
	struct kvm_nested_state *nested;
	int rc;

	if (!job->caps.nested_bytes)
		return 0;
	nested = pmig_kvm_room(job, job->caps.nested_bytes, err);
	if (!nested)
		return -ENOMEM;
	nested->size = job->caps.nested_bytes;
	rc = VCPU_CALL(job, vcpu, KVM_GET_NESTED_STATE, nested, err);
	if (rc)
		return rc;
	job->blob.size_bytes = nested->size;
	if (is_idle(nested))
		job->blob.flags = PMIG_ITEM_SKIPPABLE;
	return 0;
}

PMIG_KVM_LOAD(nested)
{
	struct kvm_nested_state head;

	memcpy(&head, item->data, sizeof(head));
	if (head.size != item->size_bytes)
		return pmig_fail(err, -EBADMSG,
				 "kvm/vcpu%u/nested: it says %u bytes and "
				 "holds %llu",
				 vcpu, head.size,
				 (unsigned long long)item->size_bytes);
	if (job->caps.nested_bytes)
		return SET_STRUCT(job, vcpu, KVM_SET_NESTED_STATE, item, err);
	if (!is_idle(&head))
		return pmig_fail(err, -ENOTSUP,
				 "vCPU %u: the guest runs a hypervisor, and "
				 "this host does not have nested "
				 "virtualization (KVM_CAP_NESTED_STATE)",
				 vcpu);
	pmig_kvm_skip(job, "vCPU %u: nested state: not in use", vcpu);
	return 0;
}
