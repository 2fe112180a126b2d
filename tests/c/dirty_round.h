/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_round.h - what a consumer of dirty pages does, for tests
 */
#ifndef TESTS_C_DIRTY_ROUND_H
#define TESTS_C_DIRTY_ROUND_H

#include "pymigrate.h"

/* Make a started tracker; skips the test when it is not to be had. */
struct pmig_dirty *dirty_start(const struct pmig_memory *memory,
			       const struct pmig_dirty_config *config);

/* A view of it. */
struct pmig_view *dirty_view(struct pmig_dirty *dirty);

/*
 * One round: harvest, rearm in chunks of 64 blocks, take. words[] receives
 * one word per block of what was taken. The pages are committed.
 */
void dirty_round(const struct pmig_memory *memory, struct pmig_view *view,
		 uint64_t *words);

/* A round must find these pages, and no others. */
void dirty_expect(const struct pmig_memory *memory, struct pmig_view *view,
		  const uint64_t *pages, uint32_t n);

/* A round must find these pages, and may find others. */
void dirty_expect_among(const struct pmig_memory *memory,
			struct pmig_view *view, const uint64_t *pages,
			uint32_t n);

#endif
