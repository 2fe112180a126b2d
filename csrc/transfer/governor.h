/* SPDX-License-Identifier: Apache-2.0 */
/*
 * governor.h - how many channels are worth using
 *
 * Theory of operation
 *
 * One connection is sometimes limited by its window, or its worker by one
 * processor; then another channel helps. It never helps a full link, where it
 * only costs processors that the guest could use. What limits is not known
 * from one side, so the governor tries, and measures.
 *
 * It is fed what the workers did in intervals of about 100 ms and answers how
 * many channels are to be active. It watches GOVERNOR_WINDOW intervals; where
 * there is a reason it changes the number by one, lets one interval pass in
 * which pages are still on the old channels, measures as many intervals again,
 * and keeps the change or takes it back:
 *
 *	one more	kept when the rate rose by 5 %. Reasons: the workers
 *			compute all the time and there are processors left, or
 *			they mostly wait for their channels.
 *	one less	kept when the rate fell by less than 2 %. Reasons: what
 *			the workers compute fits into one less of them, they
 *			mostly wait, and the last addition did not help.
 *
 * After a trial in vain it rests, each time twice as long, so that it costs
 * next to nothing in the long run; a rate that has changed by a quarter since
 * ends the rest. From a change of the conditions to a better number it takes
 * at most 10 intervals.
 *
 * Where a bandwidth limit is what holds the workers back, nothing is added.
 * Intervals in which there was hardly anything to send (between rounds, in
 * small ones) say nothing and are left out.
 *
 * There is no clock and no I/O in here. One thread at a time.
 */
#ifndef PMIG_TRANSFER_GOVERNOR_H
#define PMIG_TRANSFER_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

enum {
	GOVERNOR_INTERVAL_MS = 100, /* meant; the samples say what it was */
	GOVERNOR_WINDOW = 3,	    /* intervals that are averaged */
	GOVERNOR_FIRST_CHANNELS = 2,
	GOVERNOR_FIRST_REST = 5, /* intervals after the first vain trial */
	GOVERNOR_LONGEST_REST = 160,
};

/**
 * struct governor_sample - what all workers together did in one interval
 * @interval_ns: how long it was
 * @bytes:	written to channels
 * @busy_ns:	processor time of the workers
 * @blocked_ns:	they waited for channels
 * @paced_ns:	they waited for the bandwidth limit
 */
struct governor_sample {
	uint64_t interval_ns;
	uint64_t bytes;
	uint64_t busy_ns;
	uint64_t blocked_ns;
	uint64_t paced_ns;
};

enum governor_phase {
	GOVERNOR_WATCHES,
	GOVERNOR_SETTLES, /* after a change */
	GOVERNOR_MEASURES,
};

enum governor_addition {
	GOVERNOR_ADDITION_OPEN,
	GOVERNOR_ADDITION_HELPED,
	GOVERNOR_ADDITION_VAIN,
};

/**
 * struct governor - see above
 * @channels:	that there are
 * @cpus:	processors that workers may use
 * @active:	channels to be used now
 * @phase:	what it is doing
 * @n:		intervals in @sum
 * @sum:	of the intervals of this phase
 * @before:	channels before the trial
 * @before_rate: bytes per second, likewise
 * @vain_rate:	when the last trial was in vain; 0: never
 * @addition:	what came of the last one, unless that is void by now
 * @rest:	intervals until the next trial
 * @next_rest:	after the next vain one
 */
struct governor {
	unsigned int channels;
	unsigned int cpus;
	unsigned int active;
	enum governor_phase phase;
	unsigned int n;
	struct governor_sample sum;
	unsigned int before;
	uint64_t before_rate;
	uint64_t vain_rate;
	enum governor_addition addition;
	unsigned int rest;
	unsigned int next_rest;
};

/* Begin with two channels, or fewer where there are fewer of either. */
void governor_init(struct governor *governor, unsigned int channels,
		   unsigned int cpus);

/* Take one interval into account: how many channels to use from now on. */
unsigned int governor_step(struct governor *governor,
			   const struct governor_sample *sample);

#endif
