/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msr_list.c - which MSRs to save
 *
 * KVM_GET_MSR_INDEX_LIST names most of what a guest can change, but leaves
 * out the memory type ranges and the banks of machine checks; these are added
 * as far as the vCPU's own capability MSRs say that it has them.
 */
#include "kvm/msrs.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "kvm/x86.h"

static void append(struct pmig_kvm_msr_list *list, uint32_t first,
		   uint32_t count)
{
	for (uint32_t i = 0; i < count && list->count < PMIG_KVM_MSR_LIST; i++)
		list->indices[list->count++] = first + i;
}

static void append_mtrrs(struct pmig_kvm_msr_list *list, int vcpu_fd)
{
	uint64_t cap;

	if (!pmig_kvm_read_msr(vcpu_fd, MSR_MTRR_CAP, &cap))
		return;
	append(list, MSR_MTRR_DEF_TYPE, 1);
	append(list, MSR_MTRR_PHYS_BASE0, 2 * (cap & MTRR_CAP_VARIABLE));
	if (!(cap & MTRR_CAP_FIXED))
		return;
	append(list, MSR_MTRR_FIX64K_00000, 1);
	append(list, MSR_MTRR_FIX16K_80000, 2);
	append(list, MSR_MTRR_FIX4K_C0000, 8);
}

/* Each bank has four registers: control, status, address, miscellaneous. */
static void append_mce_banks(struct pmig_kvm_msr_list *list, int vcpu_fd)
{
	uint64_t cap;

	if (!pmig_kvm_read_msr(vcpu_fd, MSR_IA32_MCG_CAP, &cap))
		return;
	append(list, MSR_IA32_MC0_CTL, 4 * (cap & MCG_CAP_BANKS));
	if (cap & MCG_CAP_CMCI)
		append(list, MSR_IA32_MC0_CTL2, cap & MCG_CAP_BANKS);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* In order, each once, without those that have items of their own. */
static void tidy(struct pmig_kvm_msr_list *list)
{
	uint32_t kept = 0;

	qsort(list->indices, list->count, sizeof(*list->indices), compare);
	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t index = list->indices[i];

		if (pmig_kvm_msr_is_apart(index))
			continue;
		if (kept && list->indices[kept - 1] == index)
			continue;
		list->indices[kept++] = index;
	}
	list->count = kept;
}

int pmig_kvm_list_msrs(int kvm_fd, int vcpu_fd, struct pmig_kvm_msr_list *list,
		       struct pmig_error *err)
{
	/* the layout of struct kvm_msr_list; the count is room, then fill */
	list->count = PMIG_KVM_MSR_LIST;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return pmig_fail_errno(err, "KVM_GET_MSR_INDEX_LIST");
	if (vcpu_fd >= 0) {
		append_mtrrs(list, vcpu_fd);
		append_mce_banks(list, vcpu_fd);
	}
	tidy(list);
	return 0;
}
