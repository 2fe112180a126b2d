/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "dirty/dirty.h"

enum {
	MAX_SLOTS = 65536,
	MAX_VCPUS = 65536,
	KNOWN_FLAGS = PMIG_DIRTY_NO_MANUAL_PROTECT | PMIG_DIRTY_NO_ASYNC_WP |
		      PMIG_DIRTY_NO_REAPER,
};

static int check_slot(const struct pmig_memory *memory,
		      const struct pmig_kvm_slot *slot, struct pmig_error *err)
{
	const struct pmig_region_map *map;
	uint64_t offset;

	if (!slot->size_bytes || slot->size_bytes % PMIG_PAGE_BYTES)
		return pmig_fail(err, -EINVAL,
				 "slot %u: size_bytes is 0 or not a multiple "
				 "of 4096",
				 slot->slot);
	map = pmig_memory_by_hva(memory, slot->hva, slot->size_bytes);
	if (!map)
		return pmig_fail(err, -EINVAL,
				 "slot %u: its hva range does not lie in one "
				 "region of memory",
				 slot->slot);
	offset = slot->hva - (uint64_t)(uintptr_t)map->region.hva;
	if (offset % PMIG_BLOCK_BYTES)
		return pmig_fail(err, -EINVAL,
				 "slot %u: begins 0x%llx bytes into region %s, "
				 "which is not a multiple of 0x%x",
				 slot->slot, (unsigned long long)offset,
				 map->region.name, PMIG_BLOCK_BYTES);
	return 0;
}

static int check_ring(const struct pmig_dirty_config *config,
		      struct pmig_error *err)
{
	uint32_t bytes = config->ring_bytes;

	if (!bytes)
		return 0;
	if (bytes % PMIG_PAGE_BYTES || (bytes & (bytes - 1)))
		return pmig_fail(err, -EINVAL,
				 "ring_bytes is %u, not a power of two of at "
				 "least 4096",
				 bytes);
	if (!config->n_vcpus || !config->vcpu_fds)
		return pmig_fail(err, -EINVAL,
				 "ring_bytes is set, but vcpu_fds is not");
	return 0;
}

static int check(const struct pmig_memory *memory,
		 const struct pmig_dirty_config *config, struct pmig_error *err)
{
	int rc;

	if (!config || config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_dirty_config.struct_size is not set");
	if (config->tracker > PMIG_TRACKER_MARKED)
		return pmig_fail(err, -EINVAL, "tracker %u is unknown",
				 config->tracker);
	if (config->flags & ~(uint32_t)KNOWN_FLAGS)
		return pmig_fail(err, -EINVAL, "flags 0x%x are unknown",
				 config->flags & ~(uint32_t)KNOWN_FLAGS);
	if (config->n_slots > MAX_SLOTS || config->n_vcpus > MAX_VCPUS)
		return pmig_fail(err, -EINVAL, "n_slots or n_vcpus is absurd");
	if ((config->n_slots && !config->slots) ||
	    (config->n_vcpus && !config->vcpu_fds))
		return pmig_fail(err, -EINVAL, "slots or vcpu_fds is NULL");
	rc = check_ring(config, err);
	for (uint32_t i = 0; !rc && i < config->n_slots; i++)
		rc = check_slot(memory, &config->slots[i], err);
	return rc;
}

/* A copy of an array; NULL when it is empty or memory is short. */
static void *copy_array(const void *from, uint32_t n, size_t size)
{
	void *to = n ? calloc(n, size) : NULL;

	if (to)
		memcpy(to, from, n * size);
	return to;
}

int dirty_config_copy(struct pmig_dirty *dirty,
		      const struct pmig_dirty_config *config,
		      struct pmig_error *err)
{
	int rc = check(dirty->memory, config, err);

	if (rc)
		return rc;
	dirty->config = *config;
	dirty->config.slots = copy_array(config->slots, config->n_slots,
					 sizeof(*config->slots));
	dirty->config.vcpu_fds = copy_array(config->vcpu_fds, config->n_vcpus,
					    sizeof(*config->vcpu_fds));
	if ((config->n_slots && !dirty->config.slots) ||
	    (config->n_vcpus && !dirty->config.vcpu_fds))
		return pmig_fail(err, -ENOMEM, "no memory for a tracker");
	return 0;
}

void dirty_config_release(struct pmig_dirty *dirty)
{
	free((void *)(uintptr_t)dirty->config.slots);
	free((void *)(uintptr_t)dirty->config.vcpu_fds);
}
