/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - memory as it is, in a file
 *
 * Each region lies in the file in one piece, as VMMs write it for a snapshot.
 * A hole of the file is a hole of memory, found without reading it. Pages of
 * zeros that the file does store are recognised when they are read. The file
 * has no sums, so what it holds is believed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "page/zero.h"
#include "restore/store.h"

/**
 * struct raw_store - see above
 * @base:	the common part
 * @offsets:	where each region begins; owned
 * @zero:	tells pages of zeros
 */
struct raw_store {
	struct page_store base;
	uint64_t *offsets;
	const struct pmig_zero_kernel *zero;
};

static int survey(const struct page_store *store, struct store_bench *bench,
		  uint64_t number, uint64_t pages, uint64_t *gain,
		  struct pmig_error *err)
{
	(void)store;
	(void)bench;
	(void)number;
	(void)err;
	*gain = pages;
	return 0;
}

static uint64_t find_zeros(const struct raw_store *raw, const uint8_t *at,
			   uint64_t pages)
{
	uint64_t zero = 0;

	for (; pages; pages &= pages - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(pages);

		if (raw->zero->is_zero(at + (size_t)page * PMIG_PAGE_BYTES))
			zero |= UINT64_C(1) << page;
	}
	return zero;
}

static int fetch(const struct page_store *store, struct store_bench *bench,
		 struct store_lot *lot, struct pmig_error *err)
{
	const struct raw_store *raw = (const void *)store;
	const struct pmig_block *block = &lot->block;
	uint64_t begin = raw->offsets[block->map - store->memory->maps] +
			 block->offset_bytes;
	uint64_t first, n, at = 0;
	int rc = 0;

	while (!rc && (n = pmig_bitmap_next_run(&lot->wanted, PMIG_BLOCK_PAGES,
						at, &first))) {
		struct iovec iov = {lot->at + first * PMIG_PAGE_BYTES,
				    n * PMIG_PAGE_BYTES};

		rc = store_read(store, bench, &iov, 1,
				begin + first * PMIG_PAGE_BYTES, err);
		at = first + n;
	}
	lot->zero = find_zeros(raw, lot->at, rc ? 0 : lot->wanted);
	return rc;
}

static void raw_free(struct page_store *store)
{
	struct raw_store *raw = (struct raw_store *)store;

	free(raw->offsets);
	store_fini(store);
	free(raw);
}

static const struct page_store_ops raw_ops = {survey, fetch, raw_free};

/* ---- what the file holds ----------------------------------------------- */

/* Pages from one offset into a region to another may hold something. */
static void add_data(struct page_store *store,
		     const struct pmig_region_map *map, uint64_t from_bytes,
		     uint64_t to_bytes)
{
	uint64_t first = from_bytes / PMIG_PAGE_BYTES;
	uint64_t end = (to_bytes + PMIG_PAGE_BYTES - 1) / PMIG_PAGE_BYTES;

	pmig_bitmap_set(store->stored,
			map->first_block * PMIG_BLOCK_PAGES + first,
			end - first);
}

/* A file system that knows no holes says that all of it is data. */
static int find_data(struct page_store *store,
		     const struct pmig_region_map *map, uint64_t begin,
		     struct pmig_error *err)
{
	uint64_t end = begin + map->region.size_bytes, at = begin;

	while (at < end) {
		off_t data = lseek(store->fd, (off_t)at, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return pmig_fail_errno(err, "cannot look for holes");
		if ((uint64_t)data >= end)
			return 0;
		hole = lseek(store->fd, data, SEEK_HOLE);
		if (hole < 0)
			return pmig_fail_errno(err, "cannot look for holes");
		at = (uint64_t)hole < end ? (uint64_t)hole : end;
		add_data(store, map, (uint64_t)data - begin, at - begin);
	}
	return 0;
}

static int check_region(const struct raw_store *raw,
			const struct pmig_region *region, uint64_t begin,
			struct pmig_error *err)
{
	if (begin % PMIG_PAGE_BYTES)
		return pmig_fail(err, -EINVAL,
				 "region %s begins at %" PRIu64
				 " in the file, which is no multiple of %d",
				 region->name, begin, PMIG_PAGE_BYTES);
	if (begin > raw->base.size_bytes ||
	    region->size_bytes > raw->base.size_bytes - begin)
		return pmig_fail(err, -EBADMSG,
				 "region %s has %" PRIu64 " bytes at %" PRIu64
				 ", the file ends at %" PRIu64
				 ": it is cut off, or of another machine",
				 region->name, region->size_bytes, begin,
				 raw->base.size_bytes);
	return 0;
}

static int find_regions(struct raw_store *raw, struct pmig_error *err)
{
	const struct pmig_memory *memory = raw->base.memory;
	off_t before = lseek(raw->base.fd, 0, SEEK_CUR);
	int rc = 0;

	for (uint32_t i = 0; i < memory->n_maps && !rc; i++) {
		const struct pmig_region_map *map = &memory->maps[i];

		rc = check_region(raw, &map->region, raw->offsets[i], err);
		if (!rc)
			rc = find_data(&raw->base, map, raw->offsets[i], err);
	}
	/* the file's position is the caller's */
	lseek(raw->base.fd, before, SEEK_SET);
	return rc;
}

int raw_store_new(const struct pmig_memory *memory, int fd,
		  const uint64_t *offsets, struct page_store **store,
		  struct pmig_error *err)
{
	struct raw_store *raw = calloc(1, sizeof(*raw));
	size_t bytes = memory->n_maps * sizeof(*offsets);
	int rc;

	if (!raw)
		return pmig_fail(err, -ENOMEM, "no memory for an index");
	raw->zero = pmig_zero_best();
	raw->offsets = malloc(bytes);
	rc = store_init(&raw->base, &raw_ops, memory, fd, err);
	if (!rc && !raw->offsets)
		rc = pmig_fail(err, -ENOMEM, "no memory for an index");
	if (!rc) {
		memcpy(raw->offsets, offsets, bytes);
		rc = find_regions(raw, err);
	}
	if (rc) {
		raw_free(&raw->base);
		return rc;
	}
	*store = &raw->base;
	return 0;
}
