/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86.h - architectural numbers that the kernel's uapi headers do not give
 *
 * MSR indices are those of the Intel SDM volume 4 and the AMD APM volume 2;
 * the 0x400000.. ones of the Hyper-V top-level functional specification, the
 * 0x4b564d.. ones of Documentation/virt/kvm/x86/msr.rst.
 */
#ifndef PMIG_KVM_X86_H
#define PMIG_KVM_X86_H

#define MSR_IA32_TSC		  0x00000010
#define MSR_KVM_WALL_CLOCK	  0x00000011
#define MSR_SMI_COUNT		  0x00000034
#define MSR_IA32_FEAT_CTL	  0x0000003a
#define MSR_IA32_UCODE_REV	  0x0000008b
#define MSR_MTRR_CAP		  0x000000fe
#define MSR_IA32_MCG_CAP	  0x00000179
#define MSR_IA32_LASTBRANCHFROMIP 0x000001db
#define MSR_IA32_LASTBRANCHTOIP	  0x000001dc
#define MSR_IA32_LASTINTFROMIP	  0x000001dd
#define MSR_IA32_LASTINTTOIP	  0x000001de
#define MSR_IA32_POWER_CTL	  0x000001fc
#define MSR_MTRR_PHYS_BASE0	  0x00000200
#define MSR_MTRR_FIX64K_00000	  0x00000250
#define MSR_MTRR_FIX16K_80000	  0x00000258
#define MSR_MTRR_FIX4K_C0000	  0x00000268
#define MSR_IA32_MC0_CTL2	  0x00000280
#define MSR_MTRR_DEF_TYPE	  0x000002ff
#define MSR_IA32_MC0_CTL	  0x00000400
#define MSR_IA32_TSC_DEADLINE	  0x000006e0
#define MSR_HV_TIME_REF_COUNT	  0x40000020
#define MSR_KVM_WALL_CLOCK_NEW	  0x4b564d00
#define MSR_KVM_POLL_CONTROL	  0x4b564d05

/* IA32_MCG_CAP */
#define MCG_CAP_BANKS 0xff
#define MCG_CAP_CMCI  (1ULL << 10)

/* IA32_MTRRCAP */
#define MTRR_CAP_VARIABLE 0xff
#define MTRR_CAP_FIXED	  (1ULL << 8)

#define CR4_CET		  (1ULL << 23)

#define CPUID_XSTATE	  0xd

#endif
