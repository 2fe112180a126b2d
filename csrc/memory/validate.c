/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/validate.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

#define REFUSE(member, why)                                                    \
	pmig_fail(err, -EINVAL, "region %u (%.32s): " member " %s", index,     \
		  region->name, why)

static int check_shape(uint32_t index, const struct pmig_region *region,
		       struct pmig_error *err)
{
	uint64_t hva = (uint64_t)(uintptr_t)region->hva;
	uint64_t end;

	if (region->kind != PMIG_REGION_RAM)
		return REFUSE("kind", "is unknown");
	if (region->flags & ~(uint32_t)PMIG_REGION_SHARED)
		return REFUSE("flags", "has unknown bits");
	if (!region->size_bytes || region->size_bytes % PMIG_PAGE_BYTES)
		return REFUSE("size_bytes", "is 0 or not a multiple of 4096");
	if (region->gpa % PMIG_PAGE_BYTES)
		return REFUSE("gpa", "is not a multiple of 4096");
	if (__builtin_add_overflow(region->gpa, region->size_bytes, &end))
		return REFUSE("gpa", "plus size_bytes exceeds 64 bits");
	if (!region->hva)
		return REFUSE("hva", "is NULL");
	if (__builtin_add_overflow(hva, region->size_bytes, &end))
		return REFUSE("hva", "plus size_bytes exceeds 64 bits");
	return 0;
}

/* Huge pages are mapped, allocated and protected only as a whole. */
static int check_backing(uint32_t index, const struct pmig_region *region,
			 struct pmig_error *err)
{
	uint64_t page = region->page_size_bytes;

	if (page < PMIG_PAGE_BYTES || (page & (page - 1)) ||
	    page > UINT64_C(1) << 30)
		return REFUSE("page_size_bytes",
			      "is not a power of two from 4096 to 1 GiB");
	if ((uint64_t)(uintptr_t)region->hva % page)
		return REFUSE("hva", "is not a multiple of page_size_bytes");
	if (region->size_bytes % page)
		return REFUSE("size_bytes",
			      "is not a multiple of page_size_bytes");
	if (region->fd_offset_bytes % page)
		return REFUSE("fd_offset_bytes",
			      "is not a multiple of page_size_bytes");
	return 0;
}

static int check_file(uint32_t index, const struct pmig_region *region,
		      struct pmig_error *err)
{
	int64_t end;

	if (!(region->flags & PMIG_REGION_SHARED)) {
		if (region->fd >= 0)
			return REFUSE("fd", "is set, but flags says private "
					    "anonymous memory");
		return 0;
	}
	if (region->fd < 0)
		return REFUSE("fd", "is missing for a shared region");
	if (__builtin_add_overflow(region->fd_offset_bytes, region->size_bytes,
				   &end))
		return REFUSE("fd_offset_bytes",
			      "plus size_bytes exceeds 63 bits");
	return 0;
}

static int check_name(uint32_t index, const struct pmig_region *region,
		      struct pmig_error *err)
{
	if (!memchr(region->name, '\0', sizeof(region->name)))
		return REFUSE("name", "is not NUL-terminated");
	return 0;
}

static int check_region(uint32_t index, const struct pmig_region *region,
			struct pmig_error *err)
{
	int rc;

	if (region->struct_size != sizeof(*region))
		return pmig_fail(err, -EINVAL,
				 "region %u: struct_size is %u, this library "
				 "knows %zu",
				 index, region->struct_size, sizeof(*region));
	rc = check_name(index, region, err);
	if (!rc)
		rc = check_shape(index, region, err);
	if (!rc)
		rc = check_backing(index, region, err);
	if (!rc)
		rc = check_file(index, region, err);
	return rc;
}

static bool overlap(const struct pmig_region *a, const struct pmig_region *b)
{
	return a->gpa < b->gpa + b->size_bytes &&
	       b->gpa < a->gpa + a->size_bytes;
}

int pmig_regions_validate(const struct pmig_region *regions, uint32_t n_regions,
			  struct pmig_error *err)
{
	uint64_t total_bytes = 0;
	int rc;

	if (!regions || !n_regions || n_regions > PMIG_MAX_REGIONS)
		return pmig_fail(err, -EINVAL,
				 "memory needs 1 to %d regions, not %u",
				 PMIG_MAX_REGIONS, n_regions);
	for (uint32_t i = 0; i < n_regions; i++) {
		rc = check_region(i, &regions[i], err);
		if (rc)
			return rc;
		if (__builtin_add_overflow(total_bytes, regions[i].size_bytes,
					   &total_bytes))
			return pmig_fail(err, -EINVAL,
					 "the regions exceed 64 bits of bytes");
		for (uint32_t j = 0; j < i; j++)
			if (overlap(&regions[i], &regions[j]))
				return pmig_fail(
					err, -EINVAL,
					"regions %u and %u overlap in guest "
					"physical space",
					j, i);
	}
	return 0;
}
