/* SPDX-License-Identifier: Apache-2.0 */
/*
 * describe.c - a machine and its host in JSON, for a destination to compare
 *
 * docs/kvm-state.md says what each member means. All strings in it are
 * constants of this file, so nothing needs escaping.
 */
#include "kvm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "kvm/msrs.h"
#include "kvm/x86.h"

#define CAP(name)                                                              \
	{                                                                      \
#name, name                                                    \
	}

/* Those that saving or loading relies on. */
static const struct {
	const char *name;
	int number;
} capabilities[] = {
	CAP(KVM_CAP_ADJUST_CLOCK),
	CAP(KVM_CAP_DEBUGREGS),
	CAP(KVM_CAP_EXCEPTION_PAYLOAD),
	CAP(KVM_CAP_GET_TSC_KHZ),
	CAP(KVM_CAP_IMMEDIATE_EXIT),
	CAP(KVM_CAP_IRQCHIP),
	CAP(KVM_CAP_KVMCLOCK_CTRL),
	CAP(KVM_CAP_MP_STATE),
	CAP(KVM_CAP_NESTED_STATE),
	CAP(KVM_CAP_PIT2),
	CAP(KVM_CAP_PIT_STATE2),
	CAP(KVM_CAP_SPLIT_IRQCHIP),
	CAP(KVM_CAP_SREGS2),
	CAP(KVM_CAP_TSC_DEADLINE_TIMER),
	CAP(KVM_CAP_VCPU_ATTRIBUTES),
	CAP(KVM_CAP_VCPU_EVENTS),
	CAP(KVM_CAP_X2APIC_API),
	CAP(KVM_CAP_X86_SMM),
	CAP(KVM_CAP_X86_TRIPLE_FAULT_EVENT),
	CAP(KVM_CAP_XCRS),
	CAP(KVM_CAP_XSAVE),
	CAP(KVM_CAP_XSAVE2),
};

static void add_capabilities(struct pmig_text *json, const struct pmig_kvm *kvm)
{
	pmig_text_add(json, "\"caps\":{");
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(*capabilities);
	     i++)
		pmig_text_add(json, "%s\"%s\":%d", i ? "," : "",
			      capabilities[i].name,
			      pmig_kvm_extension(kvm, capabilities[i].number));
	pmig_text_add(json, "}");
}

static void add_cpuid(struct pmig_text *json, const char *name,
		      const struct kvm_cpuid2 *cpuid)
{
	pmig_text_add(json, ",\"%s\":[", name);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		pmig_text_add(json,
			      "%s{\"function\":%u,\"index\":%u,\"flags\":%u,"
			      "\"eax\":%u,\"ebx\":%u,\"ecx\":%u,\"edx\":%u}",
			      i ? "," : "", e->function, e->index, e->flags,
			      e->eax, e->ebx, e->ecx, e->edx);
	}
	pmig_text_add(json, "]");
}

/* The components that a CPUID allows in XCR0. */
static uint64_t xcr0_of(const struct kvm_cpuid2 *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == CPUID_XSTATE && e->index == 0)
			return (uint64_t)e->edx << 32 | e->eax;
	}
	return 0;
}

/* The host's CPUID, then vCPU 0's where there is one. */
static int add_cpuids(struct pmig_text *json, const struct pmig_kvm *kvm,
		      const struct pmig_kvm_caps *caps,
		      struct kvm_cpuid2 *cpuid, struct pmig_error *err)
{
	cpuid->nent = PMIG_KVM_CPUID_ENTRIES;
	if (ioctl(kvm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return pmig_fail_errno(err, "KVM_GET_SUPPORTED_CPUID");
	add_cpuid(json, "host_cpuid", cpuid);
	if (kvm->n_vcpus) {
		cpuid->nent = PMIG_KVM_CPUID_ENTRIES;
		if (ioctl(kvm->vcpu_fds[0], KVM_GET_CPUID2, cpuid) < 0)
			return pmig_fail_errno(err, "vCPU 0: KVM_GET_CPUID2");
	}
	add_cpuid(json, "cpuid", cpuid);
	pmig_text_add(json, ",\"xsave\":{\"size\":%u,\"xcr0\":%llu}",
		      caps->xsave_bytes, (unsigned long long)xcr0_of(cpuid));
	return 0;
}

/* Those that a destination has to have. */
static int add_msrs(struct pmig_text *json, const struct pmig_kvm *kvm,
		    struct pmig_kvm_msr_list *list, struct pmig_error *err)
{
	const char *separator = "";
	int rc = pmig_kvm_list_msrs(kvm->kvm_fd, -1, list, err);

	if (rc)
		return rc;
	pmig_text_add(json, ",\"msrs\":[");
	for (uint32_t i = 0; i < list->count; i++) {
		if (pmig_kvm_msr_skippable(list->indices[i]))
			continue;
		pmig_text_add(json, "%s%u", separator, list->indices[i]);
		separator = ",";
	}
	pmig_text_add(json, "]");
	return 0;
}

/* 0: not known (a host without a machine, before Linux 5.18). */
static uint32_t tsc_khz_of(const struct pmig_kvm *kvm)
{
	int fd = kvm->n_vcpus ? kvm->vcpu_fds[0] : kvm->vm_fd;
	int tsc_khz = fd >= 0 ? ioctl(fd, KVM_GET_TSC_KHZ, 0) : -1;

	return tsc_khz > 0 ? tsc_khz : 0;
}

static const char *irqchip_of(const struct pmig_kvm *kvm)
{
	if (kvm->flags & PMIG_KVM_IRQCHIP)
		return "full";
	return kvm->flags & PMIG_KVM_SPLIT_IRQCHIP ? "split" : "none";
}

static void add_machine(struct pmig_text *json, const struct pmig_kvm *kvm,
			const struct pmig_kvm_caps *caps)
{
	pmig_text_add(json,
		      ",\"tsc_khz\":%u,\"tsc_scaling\":%s,\"n_vcpus\":%u,"
		      "\"irqchip\":\"%s\",\"pit\":%s",
		      tsc_khz_of(kvm), caps->tsc_scaling ? "true" : "false",
		      kvm->n_vcpus, irqchip_of(kvm),
		      kvm->flags & PMIG_KVM_PIT ? "true" : "false");
}

/* What the lists of CPUID entries and MSRs need, in one allocation. */
struct scratch {
	struct pmig_kvm_msr_list msrs;
	_Alignas(8) uint8_t
		cpuid[sizeof(struct kvm_cpuid2) +
		      PMIG_KVM_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

static int describe(struct pmig_text *json, const struct pmig_kvm *kvm,
		    struct scratch *scratch, struct pmig_error *err)
{
	struct pmig_kvm_caps caps;
	int rc;

	pmig_kvm_probe(kvm, &caps);
	pmig_text_add(json, "{\"arch\":\"x86_64\",");
	add_capabilities(json, kvm);
	rc = add_cpuids(json, kvm, &caps, (void *)scratch->cpuid, err);
	if (!rc)
		rc = add_msrs(json, kvm, &scratch->msrs, err);
	if (rc)
		return rc;
	add_machine(json, kvm, &caps);
	pmig_text_add(json, "}");
	if (json->failed)
		return pmig_fail(err, -ENOMEM, "no memory for the description");
	return 0;
}

int pmig_kvm_describe(const struct pmig_kvm *kvm, char **json,
		      struct pmig_error *err)
{
	struct pmig_text text = {0};
	struct scratch *scratch;
	int rc = pmig_kvm_check(kvm, err);

	*json = NULL;
	if (rc)
		return rc;
	scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return pmig_fail_errno(err, "description of the machine");
	rc = describe(&text, kvm, scratch, err);
	free(scratch);
	if (rc)
		free(text.data);
	else
		*json = text.data;
	return rc;
}
