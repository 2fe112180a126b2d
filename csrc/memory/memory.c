/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "memory/pagemap.h"
#include "memory/validate.h"

static void number_blocks(struct pmig_memory *memory)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		struct pmig_region_map *map = &memory->maps[i];
		uint64_t size_bytes = map->region.size_bytes;

		map->first_block = memory->n_blocks;
		map->n_blocks = size_bytes / PMIG_BLOCK_BYTES +
				(size_bytes % PMIG_BLOCK_BYTES != 0);
		memory->n_blocks += map->n_blocks;
		memory->n_bytes += size_bytes;
	}
}

/* Only page tables know the holes of anonymous and of hugetlbfs memory. */
static bool needs_pagemap(const struct pmig_memory *memory)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if (!(region->flags & PMIG_REGION_SHARED) ||
		    region->page_size_bytes > PMIG_PAGE_BYTES)
			return true;
	}
	return false;
}

static int open_pagemap(struct pmig_memory *memory, struct pmig_error *err)
{
	memory->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (memory->pagemap_fd < 0)
		return pmig_fail_errno(err, "cannot open /proc/self/pagemap, "
					    "which tells the holes of "
					    "anonymous and hugetlbfs memory");
	memory->zero_pfn = pmig_pagemap_zero_pfn(memory->pagemap_fd);
	return 0;
}

int pmig_memory_new(const struct pmig_region *regions, uint32_t n_regions,
		    struct pmig_memory **memory, struct pmig_error *err)
{
	struct pmig_memory *m;
	int rc;

	rc = pmig_regions_validate(regions, n_regions, err);
	if (rc)
		return rc;
	m = calloc(1, sizeof(*m));
	if (!m)
		return pmig_fail(err, -ENOMEM, "no memory for the regions");
	m->pagemap_fd = -1;
	m->n_maps = n_regions;
	m->maps = calloc(n_regions, sizeof(*m->maps));
	if (!m->maps) {
		rc = pmig_fail(err, -ENOMEM, "no memory for the regions");
		goto fail;
	}
	for (uint32_t i = 0; i < n_regions; i++)
		m->maps[i].region = regions[i];
	number_blocks(m);
	if (needs_pagemap(m)) {
		rc = open_pagemap(m, err);
		if (rc)
			goto fail;
	}
	*memory = m;
	return 0;
fail:
	pmig_memory_free(m);
	return rc;
}

void pmig_memory_free(struct pmig_memory *memory)
{
	if (!memory)
		return;
	if (memory->pagemap_fd >= 0)
		close(memory->pagemap_fd);
	free(memory->maps);
	free(memory);
}

uint32_t pmig_memory_regions(const struct pmig_memory *memory)
{
	return memory->n_maps;
}

uint64_t pmig_memory_blocks(const struct pmig_memory *memory)
{
	return memory->n_blocks;
}

uint64_t pmig_memory_bytes(const struct pmig_memory *memory)
{
	return memory->n_bytes;
}

int pmig_memory_region(const struct pmig_memory *memory, uint32_t index,
		       struct pmig_region *region)
{
	if (index >= memory->n_maps)
		return -ENOENT;
	*region = memory->maps[index].region;
	return 0;
}
