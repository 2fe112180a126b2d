/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/spot.h"

bool spot_find(const struct pmig_faults *faults, uint64_t address,
	       struct spot *spot)
{
	for (uint32_t i = 0; i < faults->n_landings; i++) {
		const struct landing *landing = &faults->landings[i];
		uint64_t offset = address - landing->base;

		if (address < landing->base ||
		    offset >= landing->map->region.size_bytes)
			continue;
		spot->landing = landing;
		spot->offset_bytes = offset;
		spot->block =
			landing->map->first_block + offset / PMIG_BLOCK_BYTES;
		spot->page =
			(uint32_t)(offset % PMIG_BLOCK_BYTES / PMIG_PAGE_BYTES);
		return true;
	}
	return false;
}
