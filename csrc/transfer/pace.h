/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace.h - the bandwidth limit of one sender
 *
 * Theory of operation
 *
 * All workers of a sender draw from one line of bytes. A write takes the next
 * stretch of the line and may begin once the line has been released up to its
 * start; the line is released at the limit, in bytes per second. So a write
 * waits for those before it, whoever made them, and never for itself: writes
 * may be as large as they like, and the average is right whatever their size.
 *
 * What was not used is not saved up, but for PACE_BURST_NS: that much lateness
 * of a sleeping worker is made up for by the next write, which keeps the
 * average at the limit although timers are late, and no burst after a pause is
 * longer than this, or than one write.
 *
 * Places on the line are counted in bytes, not in time. The limit may so be
 * changed while workers wait, and holds for them as well, within
 * PACE_LOOK_NS.
 *
 * The arithmetic (pace_take(), pace_delay_ns()) takes the time as an
 * argument and is tested without a clock; pace_wait() is what workers call.
 */
#ifndef PMIG_TRANSFER_PACE_H
#define PMIG_TRANSFER_PACE_H

#include <pthread.h>
#include <stdatomic.h>

#include "pymigrate.h"

enum {
	PACE_BURST_NS = 2000000,
	/* how often somebody who waits asks whether the limit has changed */
	PACE_LOOK_NS = 20000000,
};

/**
 * struct pace - see above
 * @lock:	guards the others, but for reading @limit
 * @limit:	bytes per second; 0: none
 * @since_ns:	when the line was released up to @released
 * @released:	bytes of the line that may have been begun at @since_ns
 * @taken:	bytes of the line that were handed out
 */
struct pace {
	pthread_mutex_t lock;
	atomic_uint_least64_t limit;
	uint64_t since_ns;
	uint64_t released;
	uint64_t taken;
};

/* Begin without a limit. */
void pace_init(struct pace *pace);
void pace_fini(struct pace *pace);

/* Set the limit, 0 for none; those who wait go by it. Any thread. */
void pace_set(struct pace *pace, uint64_t bytes_per_s);

/*
 * Call before writing bytes: waits for their turn. 0, or -ECANCELED once
 * cancel_fd (an eventfd) is readable. Any thread. Without a limit it costs
 * one load.
 */
int pace_wait(struct pace *pace, uint64_t bytes, int cancel_fd,
	      struct pmig_error *err);

/* As pace_set(), at now_ns. */
void pace_set_at(struct pace *pace, uint64_t bytes_per_s, uint64_t now_ns);

/* Take the next stretch of the line; where it starts. */
uint64_t pace_take(struct pace *pace, uint64_t bytes, uint64_t now_ns);

/* How long the stretch at start still has to wait; 0: it may begin. */
uint64_t pace_delay_ns(struct pace *pace, uint64_t start, uint64_t now_ns);

#endif
