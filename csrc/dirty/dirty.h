/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty.h - finding written pages: one front end, several trackers
 *
 * Theory of operation
 *
 * A tracker (struct dirty_ops) knows one way to learn of writes. The front
 * end keeps what any number of consumers have not handled yet. Each consumer
 * is a view with three bitmaps of one word per block:
 *
 *	pending	written, re-arming is due
 *	ready	written and re-armed: may be taken and read
 *	taken	taken, and not yet acknowledged by the destination
 *
 *	harvest:  tracker -> pending of every view
 *	rearm:	  the tracker will see the next write; pending -> ready
 *	take:	  ready -> taken; the caller then reads the page
 *	commit:	  taken -> forgotten;  rollback: taken -> pending
 *
 * What must hold: a write that happens after a view last read the page ends
 * up in that view's pending set, whatever other views do at the same time.
 *
 * Trackers come in two kinds. Where a harvest itself re-arms (plain
 * KVM_GET_DIRTY_LOG, the dirty ring), pages are re-armed first and become
 * pending afterwards, so a racing write is seen again. Nothing else is
 * needed, and pending pages may be taken as they are.
 *
 * Where re-arming is a step of its own (KVM_CLEAR_DIRTY_LOG, userfaultfd),
 * it also forgets writes: a page written twice before the clear is one bit.
 * The front end therefore keeps a fourth bitmap, shared by all views:
 *
 *	unarmed	found by a harvest, and not re-armed since by any view
 *
 * and these rules:
 *
 * 1. A found page becomes unarmed, and pending in every view, under the lock
 *    of its unit (below). New views are linked in under views_lock, which is
 *    held shared meanwhile, and begin with everything pending.
 * 2. Re-arming happens under the same lock, for unarmed pages only; their
 *    unarmed bits are cleared after the kernel has done it. A failure leaves
 *    them set, and nothing pending has been touched.
 * 3. Only then, and under the same lock still, do the pending pages of the
 *    view that re-arms become ready. Others have to re-arm on their own,
 *    which costs them no call of the kernel.
 *
 * Hence while a page is unarmed it is pending in every view. Whatever a clear
 * forgets was written before it, and every view will read the page after it.
 * This holds even if a harvest applies a snapshot that is older than a clear
 * by another view: the page is then unarmed and pending once more without
 * need, which costs one page sent twice, but what was ready stays ready. So
 * a view whose own harvest, re-arming and taking follow each other has taken
 * all that was written before that harvest, whoever else harvests meanwhile.
 *
 * Harvests exclude each other (harvest_lock), as those that re-arm hold bits
 * for a moment which are neither in the kernel nor in a view: a second
 * harvest that returned in that moment would call a view complete that is
 * not. userfaultfd in asynchronous mode finds such bits during rearm, too;
 * there a harvest ends by passing through all unit locks once.
 *
 * Locks, in this order: harvest_lock, views_lock (shared but for linking),
 * a tracker's own, the lock of a unit. Guest memory is never touched under
 * views_lock or a lock behind it. Marking and taking are lock-free.
 */
#ifndef PMIG_DIRTY_DIRTY_H
#define PMIG_DIRTY_DIRTY_H

#include <pthread.h>

#include "base/bitmap.h"
#include "dirty/page_set.h"
#include "memory/memory.h"
#include "pymigrate.h"

enum {
	/* blocks under one lock; those of a larger page stay together */
	DIRTY_UNIT_BLOCKS = 64,
	/* locks, shared by units of equal remainder */
	DIRTY_LOCKS = 64,
};

/**
 * struct dirty_ops - one way to find writes
 *
 * Functions return 0 or -errno with the error filled in.
 */
struct dirty_ops {
	enum pmig_tracker tracker;
	/*
	 * Whether pages that the caller marks are to be re-armed too: where a
	 * page that is replaced loses its protection.
	 */
	bool marks_unarm;
	/*
	 * Find out whether it works here, and set dirty->impl and, with
	 * dirty_explain(), variant and reason. -ENOTSUP makes way for the
	 * next candidate; any failure leaves nothing allocated.
	 */
	int (*probe)(struct pmig_dirty *dirty, struct pmig_error *err);
	/*
	 * Begin to log, under harvest_lock. A failure leaves nothing enabled.
	 * NULL: nothing to do.
	 */
	int (*start)(struct pmig_dirty *dirty, struct pmig_error *err);
	/*
	 * Hand every page found written to dirty_found(), under harvest_lock
	 * and views_lock. A page that the next harvest will not report again
	 * must not get lost, not even by a failure. NULL: nothing to do.
	 */
	int (*harvest)(struct pmig_dirty *dirty, struct pmig_error *err);
	/*
	 * Arm the unarmed pages of a span that lies in one unit, under its
	 * lock and views_lock, and then clear their unarmed bits. NULL: a
	 * harvest leaves its pages armed.
	 */
	int (*rearm)(struct pmig_dirty *dirty, const struct pmig_span *span,
		     struct pmig_error *err);
	/*
	 * Make room in the rings, on any thread, under views_lock. NULL:
	 * there are none.
	 */
	int (*ring_full)(struct pmig_dirty *dirty, struct pmig_error *err);
	/*
	 * End logging, under harvest_lock. Does all it can before it reports
	 * a failure. NULL: nothing to do.
	 */
	int (*stop)(struct pmig_dirty *dirty, struct pmig_error *err);
	/* Release impl; the tracker is stopped. NULL: nothing to do. */
	void (*free)(struct pmig_dirty *dirty);
};

/* A lock alone in its cache line. */
struct dirty_lock {
	_Alignas(64) pthread_mutex_t mutex;
};

/**
 * struct pmig_dirty - a tracker
 * @memory:	not owned
 * @config:	as given; slots and vcpu_fds are copies
 * @ops:	the tracker chosen
 * @impl:	its own state
 * @variant:	static string
 * @reason:	why it was chosen
 * @started:	under harvest_lock
 * @unarmed:	one word per block, as explained above
 * @marks:	pages marked by the caller and not yet harvested
 * @views:	all views, under views_lock
 */
struct pmig_dirty {
	const struct pmig_memory *memory;
	struct pmig_dirty_config config;
	const struct dirty_ops *ops;
	void *impl;
	const char *variant;
	char reason[1024];
	bool started;
	uint64_t *unarmed;
	struct page_set marks;
	pthread_mutex_t harvest_lock;
	pthread_rwlock_t views_lock;
	struct pmig_view *views;
	struct dirty_lock locks[DIRTY_LOCKS];
};

/**
 * struct pmig_view - one consumer
 * @dirty:	its tracker
 * @next:	in the tracker's list
 * @pending:	one word per block, as explained above
 * @ready:	likewise; unused where a harvest re-arms
 * @taken:	likewise
 */
struct pmig_view {
	struct pmig_dirty *dirty;
	struct pmig_view *next;
	uint64_t *pending;
	uint64_t *ready;
	uint64_t *taken;
};

extern const struct dirty_ops dirty_kvm_ring_ops;
extern const struct dirty_ops dirty_kvm_manual_ops;
extern const struct dirty_ops dirty_kvm_get_ops;
extern const struct dirty_ops dirty_uffd_async_ops;
extern const struct dirty_ops dirty_uffd_sync_ops;
extern const struct dirty_ops dirty_marked_ops;

/* config.c: check and copy; release with dirty_config_release(). */
int dirty_config_copy(struct pmig_dirty *dirty,
		      const struct pmig_dirty_config *config,
		      struct pmig_error *err);
void dirty_config_release(struct pmig_dirty *dirty);

/* choose.c: probe what config.tracker asks for and set ops. */
int dirty_choose(struct pmig_dirty *dirty, struct pmig_error *err);

/* For probe: which variant was found, and what made it the choice. */
void dirty_explain(struct pmig_dirty *dirty, const char *variant,
		   const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * found.c. Calls whose name ends in _locked are for a holder of the lock of
 * that block, the others take it. views_lock is held shared.
 */

/* The longest span from first_block on that lies in one unit. */
void dirty_unit(const struct pmig_dirty *dirty, uint64_t first_block,
		uint64_t n_blocks, struct pmig_span *span);

/* The lock of the unit that block is in. */
pthread_mutex_t *dirty_lock_of(struct pmig_dirty *dirty,
			       const struct pmig_region_map *map,
			       uint64_t block);

/* Pages were found written: n_blocks words from first_block on. */
void dirty_found(struct pmig_dirty *dirty, uint64_t first_block,
		 const uint64_t *words, uint64_t n_blocks);

/* Every page of memory was found written. */
void dirty_found_all(struct pmig_dirty *dirty);

/* Make pages of a block pending in every view. */
void dirty_pend_locked(struct pmig_dirty *dirty, uint64_t block, uint64_t bits);

/* The same, and re-arming is due. */
void dirty_unarm_locked(struct pmig_dirty *dirty, uint64_t block,
			uint64_t bits);

/* Re-arming of a span is done. */
void dirty_armed_locked(struct pmig_dirty *dirty, const struct pmig_span *span);

/* Wait until whoever holds a unit lock now has released it. */
void dirty_pass_locks(struct pmig_dirty *dirty);

/*
 * view.c: pages of a block are pending in this view again, though nothing
 * wrote them. They need no re-arming that is not due anyway.
 */
void view_pend(struct pmig_view *view, uint64_t block, uint64_t bits);

/* As pmig_view_take(), but of some pages only; the others stay as they are. */
uint64_t view_take_some(struct pmig_view *view, uint64_t block,
			uint64_t allowed);

/* fill.c: every page of memory, one word per block. */
void dirty_fill(const struct pmig_memory *memory, uint64_t *words);

/* mark.c: move all marks into the views. */
void dirty_drain_marks(struct pmig_dirty *dirty);

#endif
