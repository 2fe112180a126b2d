/* SPDX-License-Identifier: Apache-2.0 */
/*
 * climate.h - how fast the link is, and how busy the processors are
 *
 * Theory of operation
 *
 * All workers of a sender share one link and the processors of this host. A
 * few times a second whichever worker comes by first looks back at the time
 * since the last look (a pulse).
 *
 * Link. Where the workers spent a good part of it waiting for their channels,
 * or found a backlog whenever they came with more, the link was never idle, and
 * what was sent is what it carries. Where they did not, the link could
 * have carried more, and nobody knows how much: the estimate is raised step by
 * step until they do, and in small steps where about as much was sent as the
 * link was seen to carry. So a slower link is noticed after a pulse or two,
 * and a faster one within a second, or two where the processors are full.
 *
 * The receiver looks like the link. Where it is slow because it decompresses,
 * perhaps on the processors that compress, an estimate that was too low once
 * bears itself out. So when it is in doubt, ever more rarely, pages go for a
 * moment as if the link were free, raw, and what they bring is a fresh look.
 *
 * Processors. What the workers use themselves plus what is idle is theirs
 * to use. Idle time is that of the whole host (/proc/stat); where it cannot be
 * read, processors that have no worker count as idle.
 *
 * Time between rounds does not count. Thread rule: climate_begin() between
 * rounds; the rest from any worker.
 */
#ifndef PMIG_TRANSFER_CLIMATE_H
#define PMIG_TRANSFER_CLIMATE_H

#include <stdatomic.h>

#include "codec/choice.h"

/* Sums over all workers, since the sender was made. */
struct climate_sums {
	uint64_t wire_bytes;
	uint64_t waiting_bytes; /* came while a channel had a backlog */
	uint64_t blocked_ns;
	uint64_t paced_ns; /* part of blocked_ns: the bandwidth limit */
	uint64_t cpu_ns;
};

/**
 * struct climate - see above
 * @stat_fd:	/proc/stat, opened early, or -1
 * @n_cpus:	processors that this process may use
 * @n_pulses:	so far
 * @next_look:	number of the pulse after which that fresh look is due
 * @looking:	it is under way
 * @next_ns:	when the next pulse is due; who moves it on does it
 * @since_ns:	beginning of the interval
 * @before:	sums at its beginning
 * @idle_ticks:	of the host at its beginning
 * @seen_bytes_per_s: the rate when the link was the limit last
 * @link_bytes_per_s: estimate; 0 until the link was the limit once
 * @idle_milli:	thousandths of processors that were idle
 * @spare_milli: the same, and what the workers used
 */
struct climate {
	int stat_fd;
	unsigned int n_cpus;
	atomic_uint n_pulses;
	unsigned int next_look;
	atomic_bool looking;
	atomic_uint_least64_t next_ns;
	uint64_t since_ns;
	struct climate_sums before;
	uint64_t idle_ticks;
	uint64_t seen_bytes_per_s;
	atomic_uint_least64_t link_bytes_per_s;
	atomic_uint_least64_t idle_milli;
	atomic_uint_least64_t spare_milli;
};

void climate_init(struct climate *climate);
void climate_fini(struct climate *climate);

/* A round begins. */
void climate_begin(struct climate *climate, uint64_t now_ns,
		   const struct climate_sums *sums);

/* Is a pulse due, and this caller the one to do it? */
bool climate_due(struct climate *climate, uint64_t now_ns);

/* The pulse; n_active workers were sending. */
void climate_pulse(struct climate *climate, uint64_t now_ns,
		   const struct climate_sums *sums, uint32_t n_active);

/* Processors that were idle; 0 until that was seen. */
double climate_idle(const struct climate *climate);

/* What it means for one of n_active workers. */
struct choice_climate climate_of_worker(const struct climate *climate,
					uint32_t n_active);

#endif
