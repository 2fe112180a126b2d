/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/msrs.h"

#include <stdio.h>

#include "kvm/x86.h"

/* Names for messages, of those MSRs that an operator may have heard of. */
static const struct {
	uint32_t index;
	const char *name;
} names[] = {
	{MSR_IA32_TSC, "TSC"},
	{MSR_KVM_WALL_CLOCK, "KVM wall clock, old"},
	{0x00000012, "KVM system time, old"},
	{MSR_SMI_COUNT, "SMI count"},
	{MSR_IA32_FEAT_CTL, "feature control"},
	{0x0000003b, "TSC adjust"},
	{0x00000048, "speculation control"},
	{MSR_IA32_UCODE_REV, "microcode revision"},
	{0x000000ce, "platform info"},
	{0x0000010a, "arch capabilities"},
	{0x00000122, "TSX control"},
	{0x00000140, "misc features enable"},
	{0x00000174, "SYSENTER CS"},
	{0x00000175, "SYSENTER ESP"},
	{0x00000176, "SYSENTER EIP"},
	{0x0000017a, "MCG status"},
	{0x0000017b, "MCG control"},
	{0x000001a0, "misc enable"},
	{0x000001d9, "debug control"},
	{MSR_IA32_POWER_CTL, "power control"},
	{0x00000277, "PAT"},
	{MSR_MTRR_DEF_TYPE, "MTRR default type"},
	{0x00000345, "perf capabilities"},
	{MSR_IA32_TSC_DEADLINE, "TSC deadline"},
	{0x00000d90, "bounds configuration"},
	{0x00000da0, "XSS"},
	{MSR_KVM_WALL_CLOCK_NEW, "KVM wall clock"},
	{0x4b564d01, "KVM system time"},
	{0x4b564d02, "KVM async page fault"},
	{0x4b564d03, "KVM steal time"},
	{0x4b564d04, "KVM PV end of interrupt"},
	{MSR_KVM_POLL_CONTROL, "KVM poll control"},
	{0x4b564d06, "KVM async page fault interrupt"},
	{0x4b564d07, "KVM async page fault acknowledge"},
	{0xc0000081, "STAR"},
	{0xc0000082, "LSTAR"},
	{0xc0000083, "CSTAR"},
	{0xc0000084, "SYSCALL mask"},
	{0xc0000102, "kernel GS base"},
	{0xc0000103, "TSC aux"},
	{0xc0010015, "hardware configuration"},
	{0xc001011f, "virtual speculation control"},
};

static const struct {
	uint32_t index;
	const char *reason;
} skippable[] = {
	{MSR_IA32_UCODE_REV, "the guest reads it at boot only"},
	{MSR_SMI_COUNT, "a statistic"},
	{MSR_IA32_LASTBRANCHFROMIP, "a debugging aid, overwritten at once"},
	{MSR_IA32_LASTBRANCHTOIP, "a debugging aid, overwritten at once"},
	{MSR_IA32_LASTINTFROMIP, "a debugging aid, overwritten at once"},
	{MSR_IA32_LASTINTTOIP, "a debugging aid, overwritten at once"},
	{MSR_IA32_POWER_CTL, "KVM keeps it without effect"},
	{MSR_KVM_POLL_CONTROL, "a hint about idle polling on the host"},
};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))

const char *pmig_kvm_msr_name(uint32_t index, char *room)
{
	for (size_t i = 0; i < COUNT(names); i++) {
		if (names[i].index != index)
			continue;
		snprintf(room, PMIG_KVM_MSR_NAME_BYTES, "0x%x (%s)", index,
			 names[i].name);
		return room;
	}
	snprintf(room, PMIG_KVM_MSR_NAME_BYTES, "0x%x", index);
	return room;
}

const char *pmig_kvm_msr_skippable(uint32_t index)
{
	for (size_t i = 0; i < COUNT(skippable); i++)
		if (skippable[i].index == index)
			return skippable[i].reason;
	return NULL;
}

/* Hyper-V's reference time is kvmclock's in another unit. */
bool pmig_kvm_msr_is_apart(uint32_t index)
{
	return index == MSR_IA32_TSC || index == MSR_IA32_TSC_DEADLINE ||
	       index == MSR_HV_TIME_REF_COUNT;
}
