/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_pages.h - pages that the guest has left behind, and in which order
 *
 * Theory of operation
 *
 * The ledger has a bit for every outstanding page that was not sent yet.
 * Whoever sends a page takes its bit first, so no page is sent twice, whether
 * it is pushed or was asked for.
 *
 * What is pushed first is what the guest will miss soonest:
 *
 *	first	what it is known to use first, in that order
 *	recent	what it wrote last before it left
 *	focus	outward from where it faulted: upward more than downward,
 *		since most programs go that way
 *	rest	everything else in order
 *
 * A few places of faults are remembered; the newest comes first. What is
 * pushed may also end with the first ones, or be nothing.
 */
#ifndef PMIG_TRANSFER_LATE_PAGES_H
#define PMIG_TRANSFER_LATE_PAGES_H

#include <pthread.h>
#include <stdatomic.h>

#include "memory/memory.h"

enum {
	LATE_FOCI = 8,
	/* 16 MiB in each direction; further away it is anybody's guess */
	LATE_REACH_BLOCKS = 64,
	/* so many of the first are searched for pages of the same block */
	LATE_GATHER = 256,
};

/**
 * struct late_focus - the surroundings of a fault
 * @up:		next block above
 * @down:	behind the next block below
 * @first:	lowest block that belongs to it
 * @end:	behind the highest
 * @turns:	blocks that were picked
 */
struct late_focus {
	uint64_t up;
	uint64_t down;
	uint64_t first;
	uint64_t end;
	unsigned int turns;
};

/**
 * struct late_pages - see above
 * @memory:	borrowed
 * @todo:	per block, pages to send; atomic; owned
 * @recent:	per block, those that come first; owned
 * @left:	pages in @todo
 * @push:	what is pushed
 * @lock:	guards the members below
 * @first:	pages by number, in the order they are needed in; owned
 * @n_first:	how many
 * @first_at:	those before it were sent
 * @recent_at:	where @recent was searched to
 * @rest_at:	where the rest was
 * @foci:	newest first
 * @n_foci:	how many
 */
struct late_pages {
	const struct pmig_memory *memory;
	uint64_t *todo;
	uint64_t *recent;
	atomic_uint_least64_t left;
	_Atomic enum pmig_push push;
	pthread_mutex_t lock;
	uint64_t *first;
	uint64_t n_first;
	uint64_t first_at;
	uint64_t recent_at;
	uint64_t rest_at;
	struct late_focus foci[LATE_FOCI];
	unsigned int n_foci;
};

int late_pages_init(struct late_pages *late, const struct pmig_memory *memory);
void late_pages_fini(struct late_pages *late);

/* Pages of a block are outstanding; those in recent are sent first. */
void late_pages_owe(struct late_pages *late, uint64_t block, uint64_t pages,
		    bool recent);

/* Take pages of a block to send them; those that were still to be sent. */
uint64_t late_pages_take(struct late_pages *late, uint64_t block,
			 uint64_t pages);

/* Push these before others, and what push says. -ENOMEM. */
int late_pages_first(struct late_pages *late, const uint64_t *pages,
		     uint64_t n_pages, enum pmig_push push);

/* Is there anything to push? */
bool late_pages_due(struct late_pages *late);

/* The guest faulted there. */
void late_pages_focus(struct late_pages *late, uint64_t block);

/* Take up to limit pages of a block to push next; 0 when none is due. */
uint64_t late_pages_next(struct late_pages *late, unsigned int limit,
			 uint64_t *block);

#endif
