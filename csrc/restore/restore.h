/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore.h - a guest that runs while its memory comes from a file
 *
 * Theory of operation
 *
 * Faults of the guest are handled as in post-copy (fault/faults.h), and there
 * is no source: requests go to a queue here, and pages come from a store
 * (store.h). Two threads read the file.
 *
 *	answer	takes requests as they come. The page that was asked for is
 *		placed first, with those that were compressed together with it;
 *		then, if nobody waits, the rest of its cluster, pages that lie
 *		so near that who needs one soon needs the others.
 *	fill	first prefetches: what the faults of the first pages would
 *		have brought, in the order in which the last guest touched
 *		them, but all of a block with the first of its pages, which
 *		is much faster. Then the rest of memory, block by block, in
 *		the order of addresses, which is mostly that of the file.
 *
 * Both claim a page before they read it, by taking its bit from a bitmap, so
 * that each is read and placed once. Who asks for a page that is claimed
 * already gets it from whoever claimed it.
 *
 * The fill stands back while the guest faults: a processor, or a disk, that
 * reads what nobody needs yet is not there for what somebody waits for. It
 * goes on when there was no fault for a while, and now and then all the same,
 * so that it comes to an end beside a guest that never stops to fault.
 *
 * In the guest's first second it waits for a longer while: until the guest has
 * what it works with. What the fill has brought does not fault, and so is not
 * on the list of pages that were touched first, and the next guest would find
 * it missing, being that much faster. For the same reason the fill does not
 * run after the guest's faults, as the push of post-copy does: of a guest that
 * walks through memory the list would be a few pages, and of no use.
 *
 * A page that cannot be read, or is not what it should be, is never placed.
 * That is told to the faults, so every wait for completion fails with the
 * reason; whoever touches the page waits until the owner gives up. The
 * others are still answered, and the guest can be paused in good order.
 *
 * Locks: the lock here is taken with those of the faults held, never the
 * other way round.
 */
#ifndef PMIG_RESTORE_RESTORE_H
#define PMIG_RESTORE_RESTORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fault/faults.h"
#include "restore/store.h"

enum {
	/* pages brought with one that was asked for: 64 KiB, aligned */
	RESTORE_CLUSTER_PAGES = 16,
	/* first second of the guest: no fault for so long, and the fill goes on
	 */
	RESTORE_EARLY_NS = 1000 * 1000 * 1000,
	RESTORE_EARLY_CALM_NS = 20 * 1000 * 1000,
	/* later */
	RESTORE_CALM_NS = 2 * 1000 * 1000,
	/* and after so long it does in any case, by a block */
	RESTORE_PATIENCE_NS = 5 * 1000 * 1000,
};

/**
 * struct restore_worker - what one of the two threads has
 * @restore:	its owner
 * @bench:	to put pages together
 * @started:	@thread runs, or has run
 * @thread:	the thread
 * @read_bytes:	of the file, for reports
 */
struct restore_worker {
	struct pmig_restore *restore;
	struct store_bench bench;
	bool started;
	pthread_t thread;
	atomic_uint_least64_t read_bytes;
};

/**
 * struct restore_request - a block of which pages were asked for
 * @block:	its number
 * @since_ns:	when the first of them was
 */
struct restore_request {
	uint64_t block;
	uint64_t since_ns;
};

/**
 * struct restore_queue - what was asked for; under the restore's lock
 * @wanted:	per block, pages; owned
 * @ring:	blocks with any, one entry each, oldest first; owned
 * @first:	of the ring
 * @n:		entries
 */
struct restore_queue {
	uint64_t *wanted;
	struct restore_request *ring;
	uint64_t first;
	uint64_t n;
};

/**
 * struct pmig_restore - see above
 * @memory:	borrowed
 * @faults:	borrowed
 * @store:	the file's pages
 * @todo:	per block, pages that nobody has claimed; atomic; owned
 * @sink:	takes requests
 * @attached:	to the faults
 * @first_pages: to be prefetched; owned
 * @n_first_pages: how many
 * @first:	per block, pages that are still to be prefetched; atomic;
 *		owned, NULL where there are none
 * @hold_fill:	the fill is not to begin by itself
 * @fill_bytes_per_s: at most so fast; 0: no limit
 * @answer:	thread
 * @filler:	thread
 * @answered:	pages that came because of faults
 * @prefetched:	by prefetching
 * @filled:	neither
 * @prefetch_ns: prefetching took so long
 * @index_ns:	finding what the file holds
 * @stored_pages: that there are
 * @started_ns:	when the threads were started
 * @lock:	guards all below
 * @asked:	there is a request, or it is over
 * @calm:	it is over, or the fill may begin
 * @queue:	requests
 * @busy_ns:	when somebody last asked, or was answered
 * @fill_ns:	what is not touched is to be read as well, since then; 0: it
 *		is not
 * @over:	nothing is missing any more, or it was cancelled
 */
struct pmig_restore {
	const struct pmig_memory *memory;
	struct pmig_faults *faults;
	struct page_store *store;
	uint64_t *todo;
	struct ask_sink sink;
	bool attached;
	uint64_t *first_pages;
	uint64_t n_first_pages;
	uint64_t *first;
	bool hold_fill;
	uint64_t fill_bytes_per_s;
	struct restore_worker answer;
	struct restore_worker filler;
	atomic_uint_least64_t answered;
	atomic_uint_least64_t prefetched;
	atomic_uint_least64_t filled;
	atomic_uint_least64_t prefetch_ns;
	uint64_t index_ns;
	uint64_t stored_pages;
	uint64_t started_ns;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	pthread_cond_t calm;
	struct restore_queue queue;
	uint64_t busy_ns;
	uint64_t fill_ns;
	bool over;
};

/* ---- bring.c ----------------------------------------------------------- */

/* Claim pages of a block; those that nobody had. */
uint64_t restore_claim(struct pmig_restore *restore, uint64_t block,
		       uint64_t pages);

/*
 * Read pages that were claimed, and what comes along with them, and place
 * them; since_ns: when they were asked for, 0: they were not. They are counted
 * before anybody can have them. How many, or -errno: the failure was told to
 * the faults then, and those that could be read were placed all the same.
 */
int restore_bring(struct restore_worker *worker, uint64_t block, uint64_t pages,
		  uint64_t since_ns, atomic_uint_least64_t *counter);

/* The cluster of a page, in its block. */
static inline uint64_t restore_cluster(uint64_t page)
{
	uint64_t first = page % PMIG_BLOCK_PAGES / RESTORE_CLUSTER_PAGES *
			 RESTORE_CLUSTER_PAGES;

	return ((UINT64_C(1) << RESTORE_CLUSTER_PAGES) - 1) << first;
}

/* ---- answer.c ---------------------------------------------------------- */

int restore_queue_init(struct restore_queue *queue, uint64_t n_blocks);
void restore_queue_fini(struct restore_queue *queue);

/* The sink's functions. */
void restore_request(void *restore, uint64_t block, uint64_t pages);
void restore_no_more(void *restore);

/* Nothing more is to be done. Any thread. */
void restore_end(struct pmig_restore *restore);

bool restore_is_over(struct pmig_restore *restore);

/* Bodies of the threads; answer.c, fill.c. */
void *restore_answer_main(void *worker);
void *restore_fill_main(void *worker);

#endif
