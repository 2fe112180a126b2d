/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty_round.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"
#include "unit.h"

enum {
	CHUNK_BLOCKS = 64,
};

struct pmig_dirty *dirty_start(const struct pmig_memory *memory,
			       const struct pmig_dirty_config *config)
{
	struct pmig_error err = {0};
	struct pmig_dirty *dirty;
	int rc = pmig_dirty_new(memory, config, &dirty, &err);

	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	CHECK_OK(pmig_dirty_start(dirty, &err), err);
	return dirty;
}

struct pmig_view *dirty_view(struct pmig_dirty *dirty)
{
	struct pmig_error err = {0};
	struct pmig_view *view;

	CHECK_OK(pmig_view_new(dirty, &view, &err), err);
	return view;
}

void dirty_round(const struct pmig_memory *memory, struct pmig_view *view,
		 uint64_t *words)
{
	uint64_t n_blocks = pmig_memory_blocks(memory);
	struct pmig_error err = {0};

	CHECK_OK(pmig_view_harvest(view, &err), err);
	for (uint64_t block = 0; block < n_blocks; block++) {
		uint64_t left = n_blocks - block;

		if (block % CHUNK_BLOCKS == 0)
			CHECK_OK(pmig_view_rearm(view, block,
						 left < CHUNK_BLOCKS
							 ? left
							 : CHUNK_BLOCKS,
						 &err),
				 err);
		words[block] = pmig_view_take(view, block);
	}
	pmig_view_commit(view);
}

static uint64_t *round_and_check(const struct pmig_memory *memory,
				 struct pmig_view *view, const uint64_t *pages,
				 uint32_t n)
{
	uint64_t *words = calloc(pmig_memory_blocks(memory), sizeof(*words));

	CHECK(words);
	dirty_round(memory, view, words);
	for (uint32_t i = 0; i < n; i++)
		if (!pmig_bitmap_test(words, pages[i]))
			UNIT_FAIL("page %llu was written and is not found",
				  (unsigned long long)pages[i]);
	return words;
}

void dirty_expect(const struct pmig_memory *memory, struct pmig_view *view,
		  const uint64_t *pages, uint32_t n)
{
	uint64_t *words = round_and_check(memory, view, pages, n);

	for (uint32_t i = 0; i < n; i++)
		words[pages[i] / 64] &= ~(UINT64_C(1) << (pages[i] % 64));
	for (uint64_t block = 0; block < pmig_memory_blocks(memory); block++)
		if (words[block])
			UNIT_FAIL("block %llu: pages %#llx were not written",
				  (unsigned long long)block,
				  (unsigned long long)words[block]);
	free(words);
}

void dirty_expect_among(const struct pmig_memory *memory,
			struct pmig_view *view, const uint64_t *pages,
			uint32_t n)
{
	free(round_and_check(memory, view, pages, n));
}
