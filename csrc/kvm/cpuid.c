/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"

/* The item is a struct kvm_cpuid2: count, 0, then these. */
_Static_assert(sizeof(struct kvm_cpuid2) == 8, "head of the item");
_Static_assert(sizeof(struct kvm_cpuid_entry2) == 40, "entry of the item");

#define ITEM_BYTES                                                             \
	(sizeof(struct kvm_cpuid2) +                                           \
	 PMIG_KVM_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2))

PMIG_KVM_SAVE(cpuid)
{
	struct kvm_cpuid2 *cpuid = pmig_kvm_room(job, ITEM_BYTES, err);
	int rc;

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = PMIG_KVM_CPUID_ENTRIES;
	rc = VCPU_CALL(job, vcpu, KVM_GET_CPUID2, cpuid, err);
	if (rc)
		return rc;
	job->blob.size_bytes =
		sizeof(*cpuid) + cpuid->nent * sizeof(*cpuid->entries);
	return 0;
}

/*
 * A vCPU that has run takes only the CPUID that it has, and older kernels
 * not even that.
 */
static bool is_there_already(const struct pmig_kvm_job *job, uint32_t vcpu,
			     const struct pmig_item *item)
{
	struct kvm_cpuid2 *current = calloc(1, ITEM_BYTES);
	bool same = false;

	if (!current)
		return false;
	current->nent = PMIG_KVM_CPUID_ENTRIES;
	if (!ioctl(job->kvm->vcpu_fds[vcpu], KVM_GET_CPUID2, current))
		same = item->size_bytes ==
			       sizeof(*current) +
				       current->nent *
					       sizeof(*current->entries) &&
		       !memcmp(item->data, current, item->size_bytes);
	free(current);
	return same;
}

PMIG_KVM_LOAD(cpuid)
{
	uint64_t n = (item->size_bytes - sizeof(struct kvm_cpuid2)) /
		     sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 head;

	memcpy(&head, item->data, sizeof(head));
	if (head.nent != n)
		return pmig_fail(err, -EBADMSG,
				 "kvm/vcpu%u/cpuid: it says %u entries and "
				 "holds %llu",
				 vcpu, head.nent, (unsigned long long)n);
	if (is_there_already(job, vcpu, item))
		return 0;
	return SET_STRUCT(job, vcpu, KVM_SET_CPUID2, item, err);
}
