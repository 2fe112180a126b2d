/* SPDX-License-Identifier: Apache-2.0 */
/* here.c - pages that are touched and not missing; theory in faults.h */
#include <errno.h>

#include "fault/pages.h"
#include "fault/probe.h"
#include "fault/spot.h"

enum {
	ZERO_PAGES = 16, /* holes filled at once */
};

static struct uffd_range range_at(const struct spot *spot, uint64_t bytes)
{
	uint64_t page_bytes = spot->landing->map->region.page_size_bytes;
	uint64_t offset = spot->offset_bytes / page_bytes * page_bytes;

	return (struct uffd_range){
		.start = spot->landing->base + offset,
		.size_bytes = bytes,
		.page_bytes = page_bytes,
	};
}

/* A hole, or what the file has. */
static int place_large(const struct pmig_faults *faults,
		       const struct spot *spot)
{
	const struct landing *landing = spot->landing;
	uint64_t bytes = landing->map->region.page_size_bytes;
	uint64_t offset = spot->offset_bytes / bytes * bytes;
	struct uffd_range range = range_at(spot, bytes);
	uint64_t done;
	int rc;

	range.from = landing->zeros;
	/* the file has no zeros until somebody touches it */
	if (landing->mapped)
		*(volatile uint8_t *)(landing->alias + offset);
	rc = uffd_place(faults_fd(faults, offset),
			landing->mapped ? UFFD_CONTINUE : UFFD_COPY, &range,
			&done);
	/* removed since it was touched: once more */
	return rc == -EFAULT && landing->mapped ? -EAGAIN : rc;
}

/* Zeros for a hole, and for those behind it as far as nothing is missing. */
static int place_zeros(struct pmig_faults *faults, const struct spot *spot)
{
	uint64_t free_pages, bytes, done = 0;
	struct uffd_range range;
	unsigned int n;
	int rc;

	pthread_mutex_lock(&faults->lock);
	free_pages =
		~(faults->missing[spot->block] | faults->probes[spot->block]) >>
		spot->page;
	pthread_mutex_unlock(&faults->lock);
	n = ~free_pages ? (unsigned int)__builtin_ctzll(~free_pages)
			: PMIG_BLOCK_PAGES;
	if (n > ZERO_PAGES)
		n = ZERO_PAGES;
	bytes = (uint64_t)n * PMIG_PAGE_BYTES;
	if (bytes > spot->landing->map->region.size_bytes - spot->offset_bytes)
		bytes = spot->landing->map->region.size_bytes -
			spot->offset_bytes;
	range = range_at(spot, bytes);
	rc = uffd_place(faults_fd(faults, spot->offset_bytes), UFFD_ZERO,
			&range, &done);
	return done ? 0 : rc;
}

int spot_place(struct pmig_faults *faults, const struct spot *spot,
	       bool is_minor)
{
	struct uffd_range range = range_at(spot, PMIG_PAGE_BYTES);
	uint64_t done;
	bool found;
	int rc;

	if (fault_is_large(spot->landing->map))
		return place_large(faults, spot);
	rc = probe_use(faults, spot->landing, spot->block, spot->offset_bytes,
		       &found);
	if (rc || found)
		return rc;
	if (is_minor) {
		rc = uffd_place(faults_fd(faults, spot->offset_bytes),
				UFFD_CONTINUE, &range, &done);
		if (rc != -EFAULT)
			return rc;
	}
	/* the file has no page there, or none any more: it was removed */
	return place_zeros(faults, spot);
}
