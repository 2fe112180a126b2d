/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_hold.h - no more on the way than the receiver soon places
 *
 * Theory of operation
 *
 * Beyond the link there is the receiver. Where pages are so small that it is
 * the slower one, what was acknowledged waits in a socket there, thousands of
 * pages, and whoever touches one of those waits as long: it is on its way, and
 * not sent again. So the receiver says how many pages of a channel it is done
 * with (PLACED), and of those that the link has left behind no more are to
 * wait than it places in PUSH_HELD_NS, nor need they be fewer than it may keep
 * silent about. A receiver that says nothing holds nobody, nor does one that
 * says nothing more: where a word of it was lost, the next frame brings
 * another.
 *
 * How many pages the link still has is reckoned from their size lately.
 *
 * Pure: no clock, no I/O. One object belongs to one thread.
 */
#ifndef PMIG_TRANSFER_PUSH_HOLD_H
#define PMIG_TRANSFER_PUSH_HOLD_H

#include "transfer/push_pace.h"

enum {
	/* what may wait for the receiver, as time that it takes to place it */
	PUSH_HELD_NS = 1000 * 1000,
	/* without a word of it, for as long */
	PUSH_PATIENCE_NS = 20 * 1000 * 1000,
	/* its rate is measured over this long */
	PUSH_HOLD_INTERVAL_NS = 10 * 1000 * 1000,
};

/**
 * struct push_hold - see above
 * @page_bytes:	of a page on its way, lately; 0: not known
 * @pages_per_s: that the receiver is done with; 0: not known
 * @last_bytes:	written when the last frame was due
 * @last_pages:	likewise pushed
 * @since_ns:	beginning of the interval; 0: there is none
 * @since_pages: that the receiver was done with by then
 */
struct push_hold {
	double page_bytes;
	double pages_per_s;
	uint64_t last_bytes;
	uint64_t last_pages;
	uint64_t since_ns;
	uint64_t since_pages;
};

void push_hold_init(struct push_hold *hold);

/* A frame is due. */
void push_hold_learn(struct push_hold *hold, const struct push_sight *sight);

/*
 * How long until so many pages more may be on their way, ns; 0: now. Nothing
 * has moved for stuck_ns.
 */
uint64_t push_hold_wait_ns(const struct push_hold *hold,
			   const struct push_sight *sight, unsigned int n_pages,
			   uint64_t stuck_ns);

/*
 * Bytes that a page is likely to take, where it takes raw_page_bytes at most.
 * Not much less, since the next one may be that large.
 */
double push_hold_page_bytes(const struct push_hold *hold,
			    uint64_t raw_page_bytes);

#endif
