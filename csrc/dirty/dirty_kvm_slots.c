/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty_kvm_slots.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/error.h"

static void map_slot(struct kvm_slot_map *map, const struct pmig_kvm_slot *slot,
		     const struct pmig_memory *memory)
{
	const struct pmig_region_map *region =
		pmig_memory_by_hva(memory, slot->hva, slot->size_bytes);
	uint64_t offset = slot->hva - (uint64_t)(uintptr_t)region->region.hva;

	map->slot = *slot;
	map->first_block = region->first_block + offset / PMIG_BLOCK_BYTES;
	map->n_pages = slot->size_bytes / PMIG_PAGE_BYTES;
	map->n_blocks = pmig_bitmap_words(map->n_pages);
}

int kvm_slots_init(struct kvm_slots *slots, const struct pmig_dirty *dirty,
		   struct pmig_error *err)
{
	const struct pmig_dirty_config *config = &dirty->config;

	if (config->vm_fd < 0 || !config->n_slots)
		return pmig_fail(err, -ENOTSUP, "KVM logs need %s",
				 config->vm_fd < 0 ? "a VM (vm_fd)"
						   : "memory slots");
	*slots = (struct kvm_slots){
		.vm_fd = config->vm_fd,
		.n = config->n_slots,
		.maps = calloc(config->n_slots, sizeof(*slots->maps)),
	};
	if (!slots->maps)
		return pmig_fail(err, -ENOMEM, "no memory for slots");
	for (uint32_t i = 0; i < slots->n; i++) {
		map_slot(&slots->maps[i], &config->slots[i], dirty->memory);
		if (slots->maps[i].n_blocks > slots->max_blocks)
			slots->max_blocks = slots->maps[i].n_blocks;
	}
	return 0;
}

void kvm_slots_release(struct kvm_slots *slots)
{
	free(slots->maps);
	slots->maps = NULL;
}

static int set_flags(const struct kvm_slots *slots,
		     const struct pmig_kvm_slot *slot, bool on)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot->slot,
		.flags = slot->flags | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size_bytes,
		.userspace_addr = slot->hva,
	};

	return ioctl(slots->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int log_off(struct kvm_slots *slots, uint32_t n, struct pmig_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < n; i++)
		if (set_flags(slots, &slots->maps[i].slot, false) && !rc)
			rc = pmig_fail_errno(err, "slot %u: cannot end logging",
					     slots->maps[i].slot.slot);
	return rc;
}

int kvm_slots_log(struct kvm_slots *slots, bool on, struct pmig_error *err)
{
	if (!on)
		return log_off(slots, slots->n, err);
	for (uint32_t i = 0; i < slots->n; i++) {
		int rc;

		if (!set_flags(slots, &slots->maps[i].slot, true))
			continue;
		rc = pmig_fail_errno(
			err,
			"slot %u: cannot log dirty pages (do its "
			"gpa, size, hva and flags match the VM's?)",
			slots->maps[i].slot.slot);
		log_off(slots, i, NULL);
		return rc;
	}
	return 0;
}

int kvm_slots_set_manual(struct kvm_slots *slots, uint64_t modes)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {modes},
	};

	return ioctl(slots->vm_fd, KVM_ENABLE_CAP, &cap) ? -errno : 0;
}

int kvm_slots_extension(const struct kvm_slots *slots, int capability)
{
	int value = ioctl(slots->vm_fd, KVM_CHECK_EXTENSION, capability);

	return value > 0 ? value : 0;
}

const struct kvm_slot_map *kvm_slots_find(const struct kvm_slots *slots,
					  uint32_t slot)
{
	for (uint32_t i = 0; i < slots->n; i++)
		if (slots->maps[i].slot.slot == slot)
			return &slots->maps[i];
	return NULL;
}
