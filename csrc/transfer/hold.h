/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - leaving hot pages to the last round
 *
 * Theory of operation.  A page that is sent round after round and dirty
 * again each time is hot: sending it once more while the guest runs is
 * waste, since the last round has to send it anyway.  Three harvests in a
 * row have to find it: those before the last two rounds, which sent it, and
 * the one before this round.  The first round sends everything and proves
 * nothing.
 *
 * Held pages are not taken from the view.  So nothing can get lost by it: they
 * stay pending until somebody takes them, and the sealed round takes all.
 *
 * A block is looked at by one worker in each round, and between rounds by
 * nobody, so the words need no atomics.
 */
#ifndef PMIG_TRANSFER_HOLD_H
#define PMIG_TRANSFER_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "pymigrate.h"

/**
 * struct hold - which pages are hot
 * @on:		hold them back in fuzzy epochs
 * @once:	per block, pages sent in, or held back from, the last round
 * @twice:	likewise, and in the round before
 */
struct hold {
	bool on;
	uint64_t *once;
	uint64_t *twice;
};

/* -ENOMEM; hold_fini() releases, also what a failure left. */
int hold_init(struct hold *hold, uint64_t n_blocks);
void hold_fini(struct hold *hold);

/* Pages of a block that a round of this kind may send. */
uint64_t hold_allowed(const struct hold *hold, uint64_t block,
		      enum pmig_epoch_kind kind);

/*
 * What a round did with the pages of a block that were pending: sent, or
 * held back.
 */
void hold_note(struct hold *hold, uint64_t block, uint64_t epoch, uint64_t sent,
	       uint64_t held);

#endif
