/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "dirty/dirty_kvm_rings.h"

static void kvm_ring_free(struct pmig_dirty *dirty)
{
	struct kvm_rings *r = dirty->impl;

	for (uint32_t i = 0; i < r->n; i++)
		kvm_ring_unmap(&r->rings[i]);
	free(r->rings);
	page_set_release(&r->collected);
	kvm_slots_release(&r->slots);
	pthread_mutex_destroy(&r->lock);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	free(r);
	dirty->impl = NULL;
}

static int map_rings(struct kvm_rings *r,
		     const struct pmig_dirty_config *config,
		     struct pmig_error *err)
{
	r->rings = calloc(config->n_vcpus, sizeof(*r->rings));
	if (!r->rings)
		return pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	for (; r->n < config->n_vcpus; r->n++) {
		int rc = kvm_ring_map(&r->rings[r->n], config->vcpu_fds[r->n],
				      config->ring_bytes);

		if (!rc)
			continue;
		errno = -rc;
		return pmig_fail_errno(err,
				       "vCPU %u: cannot map its dirty ring of "
				       "%u bytes (was the VM made with "
				       "KVM_CAP_DIRTY_LOG_RING of that size?)",
				       r->n, config->ring_bytes);
	}
	return 0;
}

static int check_offered(const struct kvm_rings *r, struct pmig_error *err)
{
	if (kvm_slots_extension(&r->slots, KVM_CAP_DIRTY_LOG_RING) ||
	    kvm_slots_extension(&r->slots, KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		return 0;
	return pmig_fail(err, -ENOTSUP,
			 "KVM has no dirty ring (Linux 5.11, "
			 "KVM_CAP_DIRTY_LOG_RING)");
}

static int kvm_ring_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	const struct pmig_dirty_config *config = &dirty->config;
	struct kvm_rings *r;
	int rc;

	if (config->vm_fd < 0 || !config->ring_bytes)
		return pmig_fail(err, -ENOTSUP,
				 "the KVM dirty ring needs a VM that was made "
				 "with one (vm_fd, ring_bytes)");
	r = calloc(1, sizeof(*r));
	if (!r)
		return pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	dirty->impl = r;
	pthread_mutex_init(&r->lock, NULL);
	r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = r->stop_fd < 0 ? pmig_fail_errno(err, "cannot make an eventfd")
			    : 0;
	if (!rc)
		rc = kvm_slots_init(&r->slots, dirty, err);
	if (!rc)
		rc = check_offered(r, err);
	if (!rc && page_set_init(&r->collected, dirty->memory->n_blocks))
		rc = pmig_fail(err, -ENOMEM, "no memory for dirty rings");
	if (!rc)
		rc = map_rings(r, config, err);
	if (rc) {
		kvm_ring_free(dirty);
		return rc;
	}
	dirty_explain(dirty, "ring",
		      "KVM dirty ring: the VM was made with rings of %zu "
		      "entries",
		      config->ring_bytes / sizeof(struct kvm_dirty_gfn));
	return 0;
}

static int kvm_ring_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc;

	r->is_lossy = false;
	/* somebody may have collected entries before us, and gone away */
	r->reset_due = true;
	/* fails where the VM never had it, which is as good */
	kvm_slots_set_manual(&r->slots, 0);
	rc = kvm_slots_log(&r->slots, true, err);
	if (rc)
		return rc;
	rc = kvm_reaper_start(dirty, err);
	if (rc)
		kvm_slots_log(&r->slots, false, NULL);
	return rc;
}

/* Leave the rings empty: a vCPU must not find its ring full ever after. */
static int kvm_ring_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_rings *r = dirty->impl;
	int rc, drain_rc;

	kvm_reaper_stop(r);
	rc = kvm_slots_log(&r->slots, false, err);
	drain_rc = kvm_rings_drain(r, rc ? NULL : err);
	return rc ? rc : drain_rc;
}

const struct dirty_ops dirty_kvm_ring_ops = {
	.tracker = PMIG_TRACKER_KVM_RING,
	.probe = kvm_ring_probe,
	.start = kvm_ring_start,
	.harvest = kvm_rings_collect,
	.ring_full = kvm_rings_collect,
	.stop = kvm_ring_stop,
	.free = kvm_ring_free,
};
