/* SPDX-License-Identifier: Apache-2.0 */
/*
 * item.c - the kinds of items, and the check of a list before it is loaded
 *
 * All checks that need no kernel come before the first ioctl, so that a list
 * which does not fit leaves the machine as it was.
 */
#include "kvm/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "kvm/time.h"

#define LAPIC_ANY (PMIG_KVM_IRQCHIP | PMIG_KVM_SPLIT_IRQCHIP)

/* Of a machine's segment registers, exactly one layout: checked below. */
static const struct pmig_kvm_type vcpu_types[] = {
	{.name = "cpuid",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_cpuid2),
	 .element_bytes = sizeof(struct kvm_cpuid_entry2)},
	{.name = "debugregs",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_debugregs)},
	{.name = "events",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_vcpu_events)},
	{.name = "lapic",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_lapic_state),
	 .needs = LAPIC_ANY},
	{.name = "mp_state",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_mp_state)},
	{.name = "msrs",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_msrs),
	 .element_bytes = sizeof(struct kvm_msr_entry)},
	{.name = "nested",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_nested_state),
	 .element_bytes = 1,
	 .optional = true},
	{.name = "regs", .version = 1, .size_bytes = sizeof(struct kvm_regs)},
	{.name = "sregs",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_sregs),
	 .optional = true},
	{.name = "sregs2",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_sregs2),
	 .optional = true},
	{.name = "tsc",
	 .version = 1,
	 .size_bytes = sizeof(struct pmig_kvm_tsc_item)},
	{.name = "tsc_deadline",
	 .version = 1,
	 .size_bytes = sizeof(uint64_t),
	 .needs = LAPIC_ANY,
	 .optional = true},
	{.name = "xcrs",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_xcrs),
	 .optional = true},
	{.name = "xsave",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_xsave),
	 .element_bytes = 1},
	{.name = NULL},
};

static const struct pmig_kvm_type vm_types[] = {
	{.name = "clock",
	 .version = 1,
	 .size_bytes = sizeof(struct pmig_kvm_clock_item)},
	{.name = "ioapic",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_irqchip),
	 .needs = PMIG_KVM_IRQCHIP},
	{.name = "pic0",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_irqchip),
	 .needs = PMIG_KVM_IRQCHIP},
	{.name = "pic1",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_irqchip),
	 .needs = PMIG_KVM_IRQCHIP},
	{.name = "pit",
	 .version = 1,
	 .size_bytes = sizeof(struct kvm_pit_state2),
	 .needs = PMIG_KVM_PIT},
	{.name = NULL},
};

static const struct pmig_kvm_type *types_of(uint32_t vcpu)
{
	return vcpu == PMIG_KVM_VM ? vm_types : vcpu_types;
}

const struct pmig_kvm_type *pmig_kvm_type_find(uint32_t vcpu, const char *name)
{
	for (const struct pmig_kvm_type *t = types_of(vcpu); t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

void pmig_kvm_item_name(char *full, uint32_t vcpu, const char *name)
{
	if (vcpu == PMIG_KVM_VM)
		snprintf(full, PMIG_KVM_NAME_BYTES, "kvm/vm/%s", name);
	else
		snprintf(full, PMIG_KVM_NAME_BYTES, "kvm/vcpu%u/%s", vcpu,
			 name);
}

/* "vcpu3/regs" into 3 and "regs"; NULL for what no source writes. */
static const char *parse_name(const char *rest, uint32_t *vcpu)
{
	unsigned long number;
	char *end;

	*vcpu = PMIG_KVM_VM;
	if (!strncmp(rest, "vm/", 3))
		return rest + 3;
	if (strncmp(rest, "vcpu", 4) || rest[4] < '0' || rest[4] > '9' ||
	    (rest[4] == '0' && rest[5] != '/'))
		return NULL;
	errno = 0;
	number = strtoul(rest + 4, &end, 10);
	if (errno || number >= PMIG_KVM_VM || *end != '/')
		return NULL;
	*vcpu = number;
	return end + 1;
}

static int check_size(const struct pmig_item *item,
		      const struct pmig_kvm_type *type, struct pmig_error *err)
{
	bool fits = item->size_bytes == type->size_bytes;

	if (type->element_bytes)
		fits = item->size_bytes >= type->size_bytes &&
		       (item->size_bytes - type->size_bytes) %
				       type->element_bytes ==
			       0;
	if (fits)
		return 0;
	return pmig_fail(
		err, -EBADMSG, "%s: %llu bytes, where %s%u are expected",
		item->name, (unsigned long long)item->size_bytes,
		type->element_bytes ? "at least " : "", type->size_bytes);
}

static int check_fit(struct pmig_kvm_job *job, const struct pmig_item *item,
		     uint32_t vcpu, const struct pmig_kvm_type *type,
		     struct pmig_error *err)
{
	if (vcpu != PMIG_KVM_VM && vcpu >= job->kvm->n_vcpus)
		return pmig_fail(err, -ENOTSUP, "%s: this machine has %u vCPUs",
				 item->name, job->kvm->n_vcpus);
	if (type->needs && !(job->kvm->flags & type->needs))
		return pmig_fail(err, -ENOTSUP,
				 "%s: this machine has no such device in the "
				 "kernel",
				 item->name);
	return check_size(item, type, err);
}

static int check_item(struct pmig_kvm_job *job, const struct pmig_item *item,
		      struct pmig_error *err)
{
	const struct pmig_kvm_type *type = NULL;
	uint32_t vcpu;
	const char *name;

	name = parse_name(item->name + strlen("kvm/"), &vcpu);
	if (name)
		type = pmig_kvm_type_find(vcpu, name);
	if (type && item->version == type->version)
		return check_fit(job, item, vcpu, type, err);
	if (item->flags & PMIG_ITEM_SKIPPABLE) {
		pmig_kvm_skip(job, "%s version %u: not known here", item->name,
			      item->version);
		return 0;
	}
	if (type)
		return pmig_fail(err, -ENOTSUP,
				 "%s: version %u, this library knows version "
				 "%u",
				 item->name, item->version, type->version);
	return pmig_fail(err, -ENOTSUP, "%s: this library does not know it",
			 item->name);
}

static int check_scope(struct pmig_kvm_job *job, uint32_t vcpu,
		       struct pmig_error *err)
{
	char full[PMIG_KVM_NAME_BYTES];
	struct pmig_item item;

	for (const struct pmig_kvm_type *t = types_of(vcpu); t->name; t++) {
		bool here = !t->needs || (job->kvm->flags & t->needs);

		pmig_kvm_item_name(full, vcpu, t->name);
		if (here && !t->optional &&
		    pmig_state_find(job->state, full, &item))
			return pmig_fail(err, -EBADMSG,
					 "%s: the state lacks it", full);
	}
	return 0;
}

/* Segment registers come in one of two layouts. */
static int check_sregs(struct pmig_kvm_job *job, uint32_t vcpu,
		       struct pmig_error *err)
{
	char full[PMIG_KVM_NAME_BYTES];
	struct pmig_item item;
	int found = 0;

	pmig_kvm_item_name(full, vcpu, "sregs2");
	found += !pmig_state_find(job->state, full, &item);
	pmig_kvm_item_name(full, vcpu, "sregs");
	found += !pmig_state_find(job->state, full, &item);
	if (found == 1)
		return 0;
	return pmig_fail(err, -EBADMSG, "%s: the state %s", full,
			 found ? "has it in two layouts" : "lacks it");
}

int pmig_kvm_check_items(struct pmig_kvm_job *job, struct pmig_error *err)
{
	struct pmig_item item;
	int rc = 0;

	for (uint32_t i = 0; !pmig_state_item(job->state, i, &item); i++) {
		if (strncmp(item.name, "kvm/", strlen("kvm/")))
			continue;
		rc = check_item(job, &item, err);
		if (rc)
			return rc;
	}
	for (uint32_t v = 0; v < job->kvm->n_vcpus && !rc; v++) {
		rc = check_scope(job, v, err);
		if (!rc)
			rc = check_sregs(job, v, err);
	}
	return rc ? rc : check_scope(job, PMIG_KVM_VM, err);
}
