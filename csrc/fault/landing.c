/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/landing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "base/error.h"

static int map_file(struct landing *landing, const struct pmig_region *region,
		    struct pmig_error *err)
{
	void *alias =
		mmap(NULL, region->size_bytes, PROT_READ | PROT_WRITE,
		     MAP_SHARED, region->fd, (off_t)region->fd_offset_bytes);

	if (alias == MAP_FAILED)
		return pmig_fail_errno(err,
				       "region %s: cannot map its file again",
				       region->name);
	landing->alias = alias;
	return 0;
}

static void *map_anonymous(uint64_t size_bytes, int prot)
{
	void *at = mmap(NULL, size_bytes, prot,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static int map_attic(struct landing *landing, const struct pmig_region *region,
		     struct pmig_error *err)
{
	bool large = region->page_size_bytes > PMIG_PAGE_BYTES;

	landing->alias =
		map_anonymous(region->size_bytes, PROT_READ | PROT_WRITE);
	if (large)
		landing->zeros =
			map_anonymous(region->page_size_bytes, PROT_READ);
	if (landing->alias && (landing->zeros || !large))
		return 0;
	return pmig_fail_errno(err,
			       "region %s: no address space to put late pages "
			       "together",
			       region->name);
}

int landing_open(struct landing *landing, const struct pmig_region_map *map,
		 uint64_t foreign_base, bool may_map, struct pmig_error *err)
{
	const struct pmig_region *region = &map->region;
	bool shared = region->flags & PMIG_REGION_SHARED;

	*landing = (struct landing){
		.map = map,
		.own = foreign_base == 0,
		.base = foreign_base ? foreign_base
				     : (uint64_t)(uintptr_t)region->hva,
	};
	landing->mapped = shared && landing->own && may_map;
	return landing->mapped ? map_file(landing, region, err)
			       : map_attic(landing, region, err);
}

void landing_close(struct landing *landing)
{
	const struct pmig_region *region = &landing->map->region;

	if (landing->alias)
		munmap(landing->alias, region->size_bytes);
	if (landing->zeros)
		munmap((void *)landing->zeros, region->page_size_bytes);
	landing->alias = NULL;
	landing->zeros = NULL;
}

static uint8_t *alias_of(const struct landing *landing,
			 const struct pmig_block *block)
{
	return landing->alias + block->offset_bytes;
}

static void copy_pages(uint8_t *to, const uint8_t *from, uint64_t pages)
{
	for (; pages; pages &= pages - 1) {
		size_t at = (size_t)__builtin_ctzll(pages) * PMIG_PAGE_BYTES;

		memcpy(to + at, from + at, PMIG_PAGE_BYTES);
	}
}

/*
 * A shared mapping only loses its entries; an anonymous page is given back. A
 * file that is not mapped a second time loses the page itself.
 */
static int unmap(const struct landing *landing, uint64_t offset_bytes,
		 uint64_t size_bytes, struct pmig_error *err)
{
	const struct pmig_region *region = &landing->map->region;
	int failed;

	if (!landing->own)
		return pmig_fail(err, -EINVAL,
				 "region %s: pages of another process cannot "
				 "be taken away from it",
				 region->name);
	if (!landing->mapped && region->flags & PMIG_REGION_SHARED)
		failed = fallocate(
			region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(region->fd_offset_bytes + offset_bytes),
			(off_t)size_bytes);
	else
		failed = madvise((uint8_t *)region->hva + offset_bytes,
				 size_bytes, MADV_DONTNEED);
	if (failed)
		return pmig_fail_errno(err, "region %s: cannot take pages away",
				       region->name);
	return 0;
}

int landing_withdraw(const struct landing *landing,
		     const struct pmig_block *block, uint64_t pages,
		     uint64_t kept, struct pmig_error *err)
{
	uint64_t first, n, at = 0;
	int rc = 0;

	if (!landing->mapped)
		copy_pages(alias_of(landing, block), block->hva, pages & kept);
	while (!rc && (n = pmig_bitmap_next_run(&pages, PMIG_BLOCK_PAGES, at,
						&first))) {
		rc = unmap(landing,
			   block->offset_bytes + first * PMIG_PAGE_BYTES,
			   n * PMIG_PAGE_BYTES, err);
		at = first + n;
	}
	return rc;
}

int landing_withdraw_large(const struct landing *landing, uint64_t offset_bytes,
			   bool kept, struct pmig_error *err)
{
	const struct pmig_region *region = &landing->map->region;

	if (!landing->mapped && kept)
		memcpy(landing->alias + offset_bytes,
		       (uint8_t *)region->hva + offset_bytes,
		       region->page_size_bytes);
	return unmap(landing, offset_bytes, region->page_size_bytes, err);
}

void landing_fetch(const struct landing *landing,
		   const struct pmig_block *block, uint64_t pages,
		   uint8_t *buffer)
{
	copy_pages(buffer, alias_of(landing, block), pages);
}

void landing_store(const struct landing *landing,
		   const struct pmig_block *block, uint64_t pages,
		   uint64_t zero, const uint8_t *buffer)
{
	uint8_t *alias = alias_of(landing, block);

	copy_pages(alias, buffer, pages);
	for (; zero; zero &= zero - 1)
		memset(alias + (size_t)__builtin_ctzll(zero) * PMIG_PAGE_BYTES,
		       0, PMIG_PAGE_BYTES);
}

void landing_settle(const struct landing *landing, uint64_t offset_bytes,
		    uint64_t size_bytes)
{
	/* failing costs memory until the end, and nothing else */
	if (!landing->mapped)
		madvise(landing->alias + offset_bytes, size_bytes,
			MADV_DONTNEED);
}

void landing_remove(const struct landing *landing, uint64_t offset_bytes,
		    uint64_t size_bytes)
{
	const struct pmig_region *region = &landing->map->region;

	/* what the file, or the attic, still holds must not come back */
	if (!landing->mapped)
		madvise(landing->alias + offset_bytes, size_bytes,
			MADV_DONTNEED);
	else
		fallocate(region->fd,
			  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(region->fd_offset_bytes + offset_bytes),
			  (off_t)size_bytes);
}
