/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/holes.h"

#include <string.h>

#include "base/error.h"
#include "memory/pagemap.h"

static int span_present(const struct pmig_memory *memory,
			const struct pmig_span *span, uint64_t *bitmap,
			struct pmig_error *err)
{
	const struct pmig_region *region = &span->map->region;

	if (!(region->flags & PMIG_REGION_SHARED))
		return pmig_pagemap_allocated(memory, span->hva,
					      pmig_span_pages(span), true,
					      bitmap, err);
	if (region->page_size_bytes > PMIG_PAGE_BYTES)
		return pmig_holes_hugetlb(memory, span, bitmap, err);
	return pmig_holes_file(span, bitmap, err);
}

int pmig_memory_present(const struct pmig_memory *memory, uint64_t first_block,
			uint64_t n_blocks, uint64_t *bitmap,
			struct pmig_error *err)
{
	int rc;

	rc = pmig_memory_check_range(memory, first_block, n_blocks, err);
	if (rc)
		return rc;
	memset(bitmap, 0, n_blocks * sizeof(*bitmap));
	for (uint64_t done = 0; done < n_blocks;) {
		struct pmig_span span;

		pmig_memory_span(memory, first_block + done, n_blocks - done,
				 &span);
		rc = span_present(memory, &span, bitmap + done, err);
		if (rc)
			return rc;
		done += span.n_blocks;
	}
	return 0;
}
