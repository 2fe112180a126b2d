/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - the order in which a machine is written
 *
 * It differs from the order of reading; docs/kvm-state.md gives the reason
 * for each place.  Every step overwrites what an earlier load left, so that a
 * rehearsal's state does not shine through.
 */
#include "kvm/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

struct load_step {
	const char *name; /* of the item; a missing one skips the step */
	int (*load)(struct pmig_kvm_job *job, uint32_t vcpu,
		    const struct pmig_item *item, struct pmig_error *err);
};

static const struct load_step vcpu_steps[] = {
	{"cpuid", pmig_kvm_load_cpuid},
	{"tsc", pmig_kvm_load_tsc_khz},
	{"msrs", pmig_kvm_load_feature_control},
	{"sregs", pmig_kvm_load_sregs},
	{"sregs2", pmig_kvm_load_sregs2},
	{"nested", pmig_kvm_load_nested},
	{"regs", pmig_kvm_load_regs},
	{"xcrs", pmig_kvm_load_xcrs},
	{"xsave", pmig_kvm_load_xsave},
	{"debugregs", pmig_kvm_load_debugregs},
	{"lapic", pmig_kvm_load_lapic},
	{"msrs", pmig_kvm_load_msrs},
	{"tsc", pmig_kvm_load_tsc},
	{"tsc_deadline", pmig_kvm_load_tsc_deadline},
	{"events", pmig_kvm_load_events},
	{"mp_state", pmig_kvm_load_mp_state},
	{NULL},
};

static const struct load_step vm_steps[] = {
	{"pit", pmig_kvm_load_pit},	{"pic0", pmig_kvm_load_pic0},
	{"pic1", pmig_kvm_load_pic1},	{"ioapic", pmig_kvm_load_ioapic},
	{"clock", pmig_kvm_load_clock}, {NULL},
};

/* Once the machine's clock stands. */
static const struct load_step vcpu_last[] = {
	{"msrs", pmig_kvm_load_wall_clock},
	{NULL},
};

void pmig_kvm_skip(struct pmig_kvm_job *job, const char *format, ...)
{
	char note[256];
	va_list args;

	va_start(args, format);
	vsnprintf(note, sizeof(note), format, args);
	va_end(args);
	pmig_text_add(&job->skipped, "%s%s",
		      job->skipped.length ? "; " : "left out: ", note);
}

static int run_steps(struct pmig_kvm_job *job, uint32_t vcpu,
		     const struct load_step *steps, struct pmig_error *err)
{
	char full[PMIG_KVM_NAME_BYTES];
	struct pmig_item item;

	for (; steps->name; steps++) {
		int rc;

		pmig_kvm_item_name(full, vcpu, steps->name);
		/* another version was noted as skipped, or refused */
		if (pmig_state_find(job->state, full, &item) ||
		    item.version !=
			    pmig_kvm_type_find(vcpu, steps->name)->version)
			continue;
		rc = steps->load(job, vcpu, &item, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load_all(struct pmig_kvm_job *job, struct pmig_error *err)
{
	uint32_t n_vcpus = job->kvm->n_vcpus;
	int rc = pmig_kvm_check_items(job, err);

	for (uint32_t v = 0; v < n_vcpus && !rc; v++)
		rc = run_steps(job, v, vcpu_steps, err);
	if (!rc)
		rc = run_steps(job, PMIG_KVM_VM, vm_steps, err);
	for (uint32_t v = 0; v < n_vcpus && !rc; v++)
		rc = run_steps(job, v, vcpu_last, err);
	if (!rc && job->skipped.failed)
		rc = pmig_fail(err, -ENOMEM,
			       "no memory for the report of "
			       "what was skipped");
	return rc;
}

int pmig_kvm_load(const struct pmig_kvm *kvm, const struct pmig_state *state,
		  char **skipped, struct pmig_error *err)
{
	struct pmig_kvm_job job = {.kvm = kvm, .state = state};
	int rc = pmig_kvm_check(kvm, err);

	if (skipped)
		*skipped = NULL;
	if (rc)
		return rc;
	pmig_kvm_probe(kvm, &job.caps);
	rc = load_all(&job, err);
	if (!rc && skipped)
		*skipped = job.skipped.data;
	else
		free(job.skipped.data);
	return rc;
}
