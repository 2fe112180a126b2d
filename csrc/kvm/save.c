/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c - the order in which a paused machine is read
 *
 * Reading one thing may change another, so the order is part of correctness;
 * docs/kvm-state.md gives the reason for each place. Reading may also write
 * guest memory (kvmclock, steal time): dirty pages are harvested once more
 * after it.
 */
#include "kvm/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"

struct save_step {
	const char *name;
	int (*save)(struct pmig_kvm_job *job, uint32_t vcpu,
		    struct pmig_error *err);
};

/* Before any vCPU: all have stopped, and time has just stopped for them. */
static const struct save_step vm_first[] = {
	{"clock", pmig_kvm_save_clock},
	{NULL},
};

static const struct save_step vcpu_steps[] = {
	{"mp_state", pmig_kvm_save_mp_state},
	{"events", pmig_kvm_save_events},
	{"regs", pmig_kvm_save_regs},
	{"sregs", pmig_kvm_save_sregs},
	{"sregs2", pmig_kvm_save_sregs2},
	{"debugregs", pmig_kvm_save_debugregs},
	{"xcrs", pmig_kvm_save_xcrs},
	{"xsave", pmig_kvm_save_xsave},
	{"tsc_deadline", pmig_kvm_save_tsc_deadline},
	{"lapic", pmig_kvm_save_lapic},
	{"tsc", pmig_kvm_save_tsc},
	{"cpuid", pmig_kvm_save_cpuid},
	{"msrs", pmig_kvm_save_msrs},
	{"nested", pmig_kvm_save_nested},
	{NULL},
};

static const struct save_step vm_last[] = {
	{"pit", pmig_kvm_save_pit},
	{"pic0", pmig_kvm_save_pic0},
	{"pic1", pmig_kvm_save_pic1},
	{"ioapic", pmig_kvm_save_ioapic},
	{NULL},
};

void *pmig_kvm_room(struct pmig_kvm_job *job, size_t size_bytes,
		    struct pmig_error *err)
{
	struct pmig_kvm_blob *blob = &job->blob;
	uint8_t *grown;

	if (size_bytes > blob->capacity_bytes) {
		grown = realloc(blob->data, size_bytes);
		if (!grown) {
			pmig_fail_errno(err, "%zu bytes of state", size_bytes);
			return NULL;
		}
		blob->data = grown;
		blob->capacity_bytes = size_bytes;
	}
	memset(blob->data, 0, size_bytes);
	blob->size_bytes = size_bytes;
	return blob->data;
}

static int run_step(struct pmig_kvm_job *job, uint32_t vcpu,
		    const struct save_step *step, struct pmig_state *state,
		    struct pmig_error *err)
{
	const struct pmig_kvm_type *type = pmig_kvm_type_find(vcpu, step->name);
	char full[PMIG_KVM_NAME_BYTES];
	int rc;

	job->blob.size_bytes = 0;
	job->blob.flags = 0;
	rc = step->save(job, vcpu, err);
	if (rc < 0)
		return rc;
	if (!job->blob.size_bytes)
		return 0;
	pmig_kvm_item_name(full, vcpu, step->name);
	return pmig_state_add(state, full, type->version, job->blob.flags,
			      job->blob.data, job->blob.size_bytes, err);
}

static int run_steps(struct pmig_kvm_job *job, uint32_t vcpu,
		     const struct save_step *steps, struct pmig_state *state,
		     struct pmig_error *err)
{
	int rc = 0;

	for (; steps->name && !rc; steps++)
		rc = run_step(job, vcpu, steps, state, err);
	return rc;
}

/*
 * Tell each kvmclock that the guest was stopped, so that its watchdogs do not
 * take the gap for a hang. EINVAL: the guest does not use kvmclock.
 */
int pmig_kvm_before_run(const struct pmig_kvm *kvm, struct pmig_error *err)
{
	for (uint32_t v = 0; v < kvm->n_vcpus; v++)
		if (ioctl(kvm->vcpu_fds[v], KVM_KVMCLOCK_CTRL, 0) < 0 &&
		    errno != EINVAL)
			return pmig_fail_errno(err,
					       "vCPU %u: KVM_KVMCLOCK_CTRL", v);
	return 0;
}

static int save_all(struct pmig_kvm_job *job, struct pmig_state *state,
		    struct pmig_error *err)
{
	int rc = pmig_kvm_before_run(job->kvm, err);

	if (!rc)
		rc = run_steps(job, PMIG_KVM_VM, vm_first, state, err);
	for (uint32_t v = 0; v < job->kvm->n_vcpus && !rc; v++)
		rc = run_steps(job, v, vcpu_steps, state, err);
	if (!rc)
		rc = run_steps(job, PMIG_KVM_VM, vm_last, state, err);
	return rc;
}

int pmig_kvm_save(const struct pmig_kvm *kvm, struct pmig_state *state,
		  struct pmig_error *err)
{
	struct pmig_kvm_job job = {.kvm = kvm};
	int rc = pmig_kvm_check(kvm, err);

	if (rc)
		return rc;
	pmig_kvm_probe(kvm, &job.caps);
	rc = save_all(&job, state, err);
	free(job.blob.data);
	return rc;
}
