/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender_late.h - the sending side of post-copy
 *
 * Theory of operation
 *
 * A sender that was made for it has one channel more than it pushes on: the
 * last one is urgent. Before the switchover it carries nothing but the marks
 * of epochs.
 *
 *	defer	instead of sending what is pending, name it: OUTSTANDING.
 *		Once while the guest runs, so that the destination can take
 *		those pages away in peace, and once in the sealed epoch for
 *		what was written since. The pages are taken from the view and
 *		stay taken until all is over: a rollback brings them back.
 *	late	send them, on all channels at once, in an epoch of its own.
 *
 * In the late epoch the urgent worker waits for requests and answers each at
 * once: the page that was asked for in a frame of its own, then some of its
 * neighbours. The other workers push the rest (late_pages.h says in which
 * order) in frames so small, and so few at a time, that an answer need not
 * wait behind them (push_pace.h). One of them pushes alone while it can fill
 * the link; the others help where it cannot.
 *
 * The epoch ends when the destination says that nothing is missing. When a
 * channel breaks, the sender has failed, and the view still has all pages;
 * another sender is made on new channels and told what is missing there
 * (pmig_sender_owe()), since only the destination knows what has arrived.
 */
#ifndef PMIG_TRANSFER_SENDER_LATE_H
#define PMIG_TRANSFER_SENDER_LATE_H

#include "transfer/late_pages.h"
#include "transfer/prefetch.h"
#include "transfer/push_pace.h"

struct send_worker;

/**
 * struct sender_late - see above
 * @enabled:	the last channel is urgent
 * @pages:	what is to be sent
 * @named:	pages that were named outstanding; per block; owned
 * @prefetch:	neighbours of faults; the urgent worker's
 * @asked_ns:	when a page was asked for last, or the epoch began
 * @n_pushing:	workers that may push
 * @lock:	guards the members below
 * @changed:	more to push, more may push, or it is over
 * @arrived:	nothing is missing any more
 * @stats:	of the epoch
 */
struct sender_late {
	bool enabled;
	struct late_pages pages;
	uint64_t *named;
	struct prefetch prefetch;
	_Atomic uint64_t asked_ns;
	_Atomic uint32_t n_pushing;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool arrived;
	struct pmig_late stats;
};

int sender_late_init(struct sender_late *late, const struct pmig_memory *memory,
		     bool enabled, struct pmig_error *err);
void sender_late_fini(struct sender_late *late);

/* Nothing is missing any more (arrived), or look whether all is well. */
void sender_late_wake(struct sender_late *late, bool arrived);

/* defer.c: name what is pending in the running epoch; the first worker. */
int send_outstanding(struct send_worker *worker, struct pmig_error *err);

/* push.c: send what is left, until it is over. */
int send_pushed(struct send_worker *worker, struct pmig_error *err);

/* serve.c: answer requests, until it is over. */
int send_answers(struct send_worker *worker, struct pmig_error *err);

#endif
