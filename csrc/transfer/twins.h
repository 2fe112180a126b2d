/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twins.h - pages of this epoch, by what they hold
 *
 * A small table from the hash of a page to where it lies, so that a page that
 * holds the same can be sent as a copy. It knows only what this channel sent
 * in this epoch, which the receiver has by then (docs/stream-format.md,
 * "copy"), and forgets where two hashes fall on one slot. The caller compares
 * the pages: the hash has no secret, and a guest could make two that collide.
 */
#ifndef PMIG_TRANSFER_TWINS_H
#define PMIG_TRANSFER_TWINS_H

#include "stream/wire.h"

enum {
	TWINS_SLOTS = 4096, /* stays in the second-level cache: 128 KiB */
};

/**
 * struct twin - a page that was sent
 * @hash:	of its contents
 * @epoch:	that sent it
 * @at:		where it lies
 */
struct twin {
	uint64_t hash;
	uint64_t epoch;
	struct wire_copy at;
};

/* A page of epoch with this hash, or NULL. */
static inline const struct twin *twins_find(const struct twin *twins,
					    uint64_t hash, uint64_t epoch)
{
	const struct twin *twin = &twins[hash % TWINS_SLOTS];

	return twin->hash == hash && twin->epoch == epoch ? twin : NULL;
}

/* Remember a page. */
static inline void twins_put(struct twin *twins, uint64_t hash, uint64_t epoch,
			     const struct wire_copy *at)
{
	twins[hash % TWINS_SLOTS] = (struct twin){hash, epoch, *at};
}

#endif
