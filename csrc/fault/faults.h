/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - a guest that runs before all of its pages are here
 *
 * Theory of operation
 *
 * Every page of guest memory is in one of two states: *missing*, it was named
 * as outstanding and has not come, or *here*. The bitmap of missing pages is
 * the truth; page tables follow it. Before the guest runs, missing pages are
 * withdrawn from its mapping (landing.h), and all of memory is registered
 * with userfaultfd, so that whoever touches a page that is not mapped waits,
 * a vCPU in the kernel as well.
 *
 *	outstanding	the source names pages that will come late
 *	start		memory is registered, handlers listen
 *	fault		of a missing page: ask the source, once for each page
 *			of a page that is here: map it, or zeros, at once
 *	land		pages have come: place them, wake who waits, count
 *	complete	nothing is missing: memory is given back to the kernel
 *
 * Each handler has a userfaultfd and every so manieth stripe of memory, since
 * the kernel serves the faults of one userfaultfd under one lock.
 *
 * Removed memory (a balloon) reads as zero from then on. So a handler reads
 * events and acts on removals with events_lock held for itself, and pages are
 * placed with it held shared: nobody can place a page that was removed in
 * between. While a removal is unread the kernel refuses to place (EAGAIN);
 * whoever meets that waits for a handler to have read.
 *
 * What talks to the source may break and be replaced; faults are kept all the
 * while, and asked for again at the next attach. When the source is gone
 * for good the missing pages stay missing, and nothing makes zeros of them.
 *
 * Memory of another process is left to that process: it registers it, it keeps
 * the userfaultfd, and whoever is told of its faults may be killed and another
 * one take over (foreign.h).
 *
 * Locks, in this order: events_lock, unit_lock, lock. Placing is done without
 * the last, so that a fault of another page need not wait for it.
 */
#ifndef PMIG_FAULT_FAULTS_H
#define PMIG_FAULT_FAULTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "fault/ask.h"
#include "fault/foreign.h"
#include "fault/landing.h"
#include "fault/stats.h"
#include "fault/wait_list.h"
#include "uffd/uffd.h"

enum {
	/* stripes are handed to handlers in turn */
	FAULT_STRIPE_BYTES = 64 << 20,
	FAULT_MAX_HANDLERS = 8,
};

/**
 * struct fault_handler - a thread that listens
 * @faults:	its owner
 * @index:	its number
 * @fd:		its userfaultfd
 * @messages:	room for events, as the kernel wrote them last
 * @thread:	when @started
 */
struct fault_handler {
	struct pmig_faults *faults;
	uint32_t index;
	int fd;
	_Alignas(8) uint8_t messages[UFFD_MESSAGES * UFFD_MESSAGE_BYTES];
	bool started;
	pthread_t thread;
};

/**
 * struct pmig_faults - see above
 * @memory:	borrowed
 * @landings:	one for each region
 * @n_landings:	those that are open
 * @handlers:	listen
 * @n_handlers:	how many
 * @foreign:	the userfaultfd is another process's, and so is its memory
 * @record:	of such memory, for who goes on; borrowed, or NULL
 * @registered:	memory is
 * @life:	guards the start, and the end before it, of handling faults
 * @abandoned:	nobody needs what is missing
 * @stop_fd:	eventfd that ends the handlers
 * @started_fd:	eventfd, readable once faults are handled
 * @advice:	what to restore of each region's huge pages; owned
 * @events_lock: as explained above
 * @unit_lock:	held from looking whether a page larger than 4 KiB is complete
 *		until it is placed: parts of it may come on several channels
 * @lock:	guards all below
 * @changed:	events were read, or nothing is missing any more, or failure
 * @missing:	per block, pages that are not here; owned
 * @n_missing:	how many
 * @kept:	per block, missing pages of which the landing has what they
 *		held; owned
 * @asked:	per block, missing pages that the source was asked for; owned
 * @probes:	per block, pages that are here and not mapped (probe.h); owned
 * @n_probes:	ever so
 * @n_probes_used: of those, that somebody touched
 * @n_reads:	times that events were read
 * @waiting:	faults that were not answered yet
 * @ask:	to the source
 * @stats:	what came of faults
 * @touched:	pages in the order in which they were asked for; owned
 * @n_touched:	how many
 * @started_ns:	when the guest could begin to fault
 * @complete_ns: when nothing was missing any more; 0 while something is
 * @failed:	first failure of a handler; code 0 while there is none
 */
struct pmig_faults {
	const struct pmig_memory *memory;
	struct landing *landings;
	uint32_t n_landings;
	struct fault_handler *handlers;
	uint32_t n_handlers;
	bool foreign;
	struct foreign_record *record;
	atomic_bool registered;
	pthread_mutex_t life;
	bool abandoned;
	int stop_fd;
	int started_fd;
	int *advice;
	pthread_rwlock_t events_lock;
	pthread_mutex_t unit_lock;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t *missing;
	uint64_t n_missing;
	uint64_t *kept;
	uint64_t *asked;
	uint64_t *probes;
	uint64_t n_probes;
	uint64_t n_probes_used;
	uint64_t n_reads;
	struct wait_list waiting;
	struct ask ask;
	struct fault_stats stats;
	uint64_t *touched;
	uint64_t n_touched;
	uint64_t started_ns;
	uint64_t complete_ns;
	struct pmig_error failed;
};

/* The region of a block, and how its pages land. */
static inline const struct landing *
faults_landing(const struct pmig_faults *faults, const struct pmig_block *block)
{
	return &faults->landings[block->map - faults->memory->maps];
}

/* Has the guest been able to run? Not while that is being started. */
static inline bool faults_are_handled(const struct pmig_faults *faults)
{
	return faults->started_ns;
}

/* The userfaultfd for so far into a region. */
int faults_fd(const struct pmig_faults *faults, uint64_t offset_bytes);

/* The body of a handler's thread; handler.c. */
void *fault_handler_main(void *handler);

/* removal.c: a range was removed; with events_lock held for oneself. */
void faults_remove(struct pmig_faults *faults, uint64_t start, uint64_t end);

/* Keep the first failure and wake everybody. */
void faults_fail(struct pmig_faults *faults, const struct pmig_error *err);

/* register.c: can pages of files be placed by mapping them? */
bool faults_can_map(const struct pmig_memory *memory);

/* A userfaultfd for each handler. */
int faults_open_uffds(struct pmig_faults *faults, struct pmig_error *err);

/* Keep the kernel from making huge pages, or let it again. */
void faults_forbid_huge_pages(struct pmig_faults *faults);
void faults_restore_huge_pages(struct pmig_faults *faults);

/* Begin and end to handle faults of all memory. */
int faults_register(struct pmig_faults *faults, struct pmig_error *err);
void faults_unregister(struct pmig_faults *faults);

/* ---- for the receiver -------------------------------------------------- */

/* Requests go to a sink, borrowed until the next call, or to nobody (NULL). */
void faults_attach_sink(struct pmig_faults *faults,
			const struct ask_sink *sink);

/*
 * The source names pages that will come late, n_blocks words from first_block
 * on; written has, per block of all memory, the pages that hold something
 * here, NULL: none does. Before the start only.
 */
int faults_outstanding(struct pmig_faults *faults, uint64_t first_block,
		       const uint64_t *words, uint64_t n_blocks,
		       const uint64_t *written, struct pmig_error *err);

/*
 * The same of all memory, a word for each block, where memory was discarded or
 * never touched: much faster, since nothing has to be taken away.
 */
int faults_outstanding_untouched(struct pmig_faults *faults,
				 const uint64_t *words, struct pmig_error *err);

/* Of these pages, those that are missing; the others came before. */
uint64_t faults_missing(struct pmig_faults *faults, uint64_t block,
			uint64_t pages);

/*
 * Copy what missing pages of a block held when they became outstanding into
 * buffer (of PMIG_BLOCK_BYTES); those of which it was kept.
 */
uint64_t faults_fetch_kept(struct pmig_faults *faults,
			   const struct pmig_block *block, uint64_t number,
			   uint64_t pages, uint8_t *buffer);

/**
 * struct landed - pages of a block that are complete
 * @block:	where they belong
 * @number:	of the block
 * @pages:	those at @at, whole and checked
 * @zero:	those that are zeros
 * @at:		the block, as far as it is in @pages
 * @arrived_ns:	when they began to come
 * @answer:	they answer a fault
 * @waited_ns:	which the source had before it for so long
 */
struct landed {
	const struct pmig_block *block;
	uint64_t number;
	uint64_t pages;
	uint64_t zero;
	const uint8_t *at;
	uint64_t arrived_ns;
	bool answer;
	uint64_t waited_ns;
};

/* Place pages: the guest has them when this returns. */
int faults_land(struct pmig_faults *faults, const struct landed *landed,
		struct pmig_error *err);

/* Pages could not be built from what is here: ask for them as they are. */
void faults_refused(struct pmig_faults *faults, uint64_t block, uint64_t pages);

/*
 * So many pages that came on a channel are dealt with; tells the source, as
 * far as that is possible now.
 */
bool faults_say_placed(struct pmig_faults *faults, uint32_t channel,
		       uint64_t pages);

#endif
