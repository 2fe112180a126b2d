/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hint.h - which memory will be worth allocating ahead
 *
 * Only blocks that are wholly allocated at the source count, and of those
 * only the ones whose first and middle page are not zero: a destination that
 * allocated every touched-but-zero page would use more memory than it needs.
 * A wrong guess costs time or memory, never a page.
 */
#ifndef PMIG_TRANSFER_HINT_H
#define PMIG_TRANSFER_HINT_H

#include "stream/wire.h"
#include "transfer/prefault.h"

/*
 * Build the head of a RANGES frame for memory. *head is malloc'd and the
 * caller's; *head_bytes is its size.
 */
int hint_build(const struct pmig_memory *memory, struct wire_ranges **head,
	       uint32_t *head_bytes, struct pmig_error *err);

/*
 * The whole blocks inside one announced range; none (n_blocks 0) where it
 * covers no whole block. -EBADMSG when it lies outside memory.
 */
int hint_blocks(const struct pmig_memory *memory,
		const struct wire_range *range, struct block_range *blocks,
		struct pmig_error *err);

#endif
