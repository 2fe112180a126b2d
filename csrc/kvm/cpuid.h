/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_KVM_CPUID_H
#define PMIG_KVM_CPUID_H

#include "kvm/job.h"

/* The most entries that KVM keeps for a vCPU (KVM_MAX_CPUID_ENTRIES). */
#define PMIG_KVM_CPUID_ENTRIES 256

#endif
