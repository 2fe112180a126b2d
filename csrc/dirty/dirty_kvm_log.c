/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM dirty bitmap, in two variants.
 *
 * With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_GET_DIRTY_LOG only looks, and
 * KVM_CLEAR_DIRTY_LOG clears bits and write-protects their pages, for a part
 * of a slot just before that part is read. Where KVM offers "initially set",
 * logging starts with all bits set and nothing protected, so that switching
 * it on costs nothing and the first round's clear does the protecting.
 *
 * Without it, KVM_GET_DIRTY_LOG does it all at once: it hands out the
 * bitmap, clears it and protects the pages, so a harvest leaves nothing to
 * re-arm.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "dirty/dirty_kvm_slots.h"

/**
 * struct kvm_log - state of this tracker
 * @slots:	what is logged
 * @manual:	modes of manual protection, 0 for the plain variant
 * @bitmap:	where KVM puts the log of a slot; used under harvest_lock
 */
struct kvm_log {
	struct kvm_slots slots;
	uint64_t manual;
	uint64_t *bitmap;
};

static void kvm_log_free(struct pmig_dirty *dirty)
{
	struct kvm_log *log = dirty->impl;

	kvm_slots_release(&log->slots);
	free(log->bitmap);
	free(log);
	dirty->impl = NULL;
}

static int create(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_log *log = calloc(1, sizeof(*log));
	int rc;

	if (!log)
		return pmig_fail(err, -ENOMEM, "no memory for the KVM log");
	dirty->impl = log;
	rc = kvm_slots_init(&log->slots, dirty, err);
	if (!rc) {
		log->bitmap =
			calloc(log->slots.max_blocks, sizeof(*log->bitmap));
		if (!log->bitmap)
			rc = pmig_fail(err, -ENOMEM,
				       "no memory for the KVM log");
	}
	if (rc)
		kvm_log_free(dirty);
	return rc;
}

static int manual_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	const uint64_t wanted = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				KVM_DIRTY_LOG_INITIALLY_SET;
	struct kvm_log *log;
	int offered, rc;

	if (dirty->config.flags & PMIG_DIRTY_NO_MANUAL_PROTECT)
		return pmig_fail(err, -ENOTSUP,
				 "manual protection of the KVM log is switched "
				 "off by config.flags");
	rc = create(dirty, err);
	if (rc)
		return rc;
	log = dirty->impl;
	offered = kvm_slots_extension(&log->slots,
				      KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	log->manual = (uint64_t)offered & wanted;
	if (!(log->manual & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)) {
		kvm_log_free(dirty);
		return pmig_fail(err, -ENOTSUP,
				 "KVM does not offer manual protection of the "
				 "dirty log (Linux 5.0, "
				 "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)");
	}
	dirty_explain(dirty,
		      log->manual & KVM_DIRTY_LOG_INITIALLY_SET
			      ? "manual-protect, initially-set"
			      : "manual-protect",
		      "KVM dirty log with manual protection: the VM offers it "
		      "(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = %d)",
		      offered);
	return 0;
}

static int get_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	int rc = create(dirty, err);

	if (!rc)
		dirty_explain(dirty, "get",
			      "KVM dirty log, protected again by every "
			      "KVM_GET_DIRTY_LOG: every VM offers it");
	return rc;
}

static int kvm_log_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_log *log = dirty->impl;
	int rc = kvm_slots_set_manual(&log->slots, log->manual);

	if (rc && log->manual)
		return pmig_fail(err, rc,
				 "KVM refuses manual protection of the dirty "
				 "log (modes %llu)",
				 (unsigned long long)log->manual);
	return kvm_slots_log(&log->slots, true, err);
}

static int kvm_log_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_log *log = dirty->impl;

	return kvm_slots_log(&log->slots, false, err);
}

static int kvm_log_harvest(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct kvm_log *log = dirty->impl;

	for (uint32_t i = 0; i < log->slots.n; i++) {
		const struct kvm_slot_map *map = &log->slots.maps[i];
		struct kvm_dirty_log get = {
			.slot = map->slot.slot,
			.dirty_bitmap = log->bitmap,
		};

		if (ioctl(log->slots.vm_fd, KVM_GET_DIRTY_LOG, &get))
			return pmig_fail_errno(err,
					       "slot %u: KVM_GET_DIRTY_LOG "
					       "fails",
					       map->slot.slot);
		dirty_found(dirty, map->first_block, log->bitmap,
			    map->n_blocks);
	}
	return 0;
}

/* Clear blocks [first, end) of memory in one slot, all of them in it. */
static int clear_blocks(const struct pmig_dirty *dirty,
			const struct kvm_slot_map *map, uint64_t first,
			uint64_t end, struct pmig_error *err)
{
	uint64_t page = (first - map->first_block) * PMIG_BLOCK_PAGES;
	uint64_t n_pages = (end - first) * PMIG_BLOCK_PAGES;
	struct kvm_clear_dirty_log clear = {
		.slot = map->slot.slot,
		.first_page = page,
		.dirty_bitmap = &dirty->unarmed[first],
	};

	/* only the end of the slot may cut a block */
	if (n_pages > map->n_pages - page)
		n_pages = map->n_pages - page;
	clear.num_pages = (uint32_t)n_pages;
	if (!ioctl(dirty->config.vm_fd, KVM_CLEAR_DIRTY_LOG, &clear))
		return 0;
	return pmig_fail_errno(err, "slot %u: KVM_CLEAR_DIRTY_LOG fails",
			       map->slot.slot);
}

/* Shrink [*first, *end) to where pages are unarmed; false: nowhere. */
static bool trim(const struct pmig_dirty *dirty, uint64_t *first, uint64_t *end)
{
	while (*first < *end && !pmig_bits_load(&dirty->unarmed[*first]))
		++*first;
	while (*first < *end && !pmig_bits_load(&dirty->unarmed[*end - 1]))
		--*end;
	return *first < *end;
}

/* Two slots may show the same memory to the guest; both are cleared. */
static int manual_rearm(struct pmig_dirty *dirty, const struct pmig_span *span,
			struct pmig_error *err)
{
	const struct kvm_log *log = dirty->impl;

	for (uint32_t i = 0; i < log->slots.n; i++) {
		const struct kvm_slot_map *map = &log->slots.maps[i];
		uint64_t first = span->first_block;
		uint64_t end = first + span->n_blocks;
		int rc;

		if (first < map->first_block)
			first = map->first_block;
		if (end > map->first_block + map->n_blocks)
			end = map->first_block + map->n_blocks;
		if (!trim(dirty, &first, &end))
			continue;
		rc = clear_blocks(dirty, map, first, end, err);
		if (rc)
			return rc;
	}
	dirty_armed_locked(dirty, span);
	return 0;
}

const struct dirty_ops dirty_kvm_manual_ops = {
	.tracker = PMIG_TRACKER_KVM_LOG,
	.probe = manual_probe,
	.start = kvm_log_start,
	.harvest = kvm_log_harvest,
	.rearm = manual_rearm,
	.stop = kvm_log_stop,
	.free = kvm_log_free,
};

const struct dirty_ops dirty_kvm_get_ops = {
	.tracker = PMIG_TRACKER_KVM_LOG,
	.probe = get_probe,
	.start = kvm_log_start,
	.harvest = kvm_log_harvest,
	.stop = kvm_log_stop,
	.free = kvm_log_free,
};
