/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prints.h - fingerprints of the pages that were sent
 *
 * One entry of 256 bytes for every page of guest memory, in address space
 * that is reserved at once and filled as blocks are sent: a sixteenth of guest
 * memory if all of it is covered. A limit below that is kept by counting
 * blocks: where all are taken, a block without room is sent whole, and
 * between rounds blocks that were not sent lately give theirs back.
 *
 * An entry is valid when it was made of what was sent last. It may be made
 * of a version that is older than what the receiver got, where the page
 * changed while it was sent; see docs/stream-format.md, "Stale pages".
 *
 * Thread rule: a block belongs to the worker that sends it in the running
 * round; prints_evict() is for between rounds.
 */
#ifndef PMIG_TRANSFER_PRINTS_H
#define PMIG_TRANSFER_PRINTS_H

#include <stdatomic.h>

#include "codec/line.h"
#include "memory/memory.h"

/**
 * struct prints - see above
 * @key:	secret of this sender
 * @kernel:	makes fingerprints
 * @table:	PMIG_BLOCK_PAGES entries for each block; a mapping; owned
 * @n_blocks:	of guest memory
 * @valid:	per block, pages whose entry is valid; owned
 * @used:	per block, the epoch that sent it last, 0 without room; owned
 * @limit_blocks: that may have room
 * @held_blocks: that have it
 */
struct prints {
	struct line_key key;
	const struct line_kernel *kernel;
	struct line_prints *table;
	uint64_t n_blocks;
	uint64_t *valid;
	uint64_t *used;
	uint64_t limit_blocks;
	atomic_uint_least64_t held_blocks;
};

/* limit_bytes 0: a sixteenth of guest memory, which covers all of it. */
int prints_init(struct prints *prints, const struct pmig_memory *memory,
		uint64_t limit_bytes, struct pmig_error *err);
void prints_fini(struct prints *prints);

/* Is there room for every page of guest memory? */
bool prints_cover_all(const struct prints *prints);

/* Make room for block, in this epoch; false when there is none left. */
bool prints_hold(struct prints *prints, uint64_t block, uint64_t epoch);

/* The entry of a page of a block that has room. */
static inline struct line_prints *prints_of(struct prints *prints,
					    uint64_t block, unsigned int page)
{
	return &prints->table[block * PMIG_BLOCK_PAGES + page];
}

/* Take the room of blocks that none of the last epochs sent. */
void prints_evict(struct prints *prints, uint64_t epoch);

/* Bytes of the blocks that have room. */
uint64_t prints_bytes(const struct prints *prints);

#endif
