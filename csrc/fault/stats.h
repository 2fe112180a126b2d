/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - what faults cost
 *
 * The latency of a fault is the time from reading it until its page is
 * placed. Of faults that the source answered it is told apart:
 *
 *	queueing	before the request left, and before the source had
 *			written its answer
 *	network		on the way there and back, queues of links included
 *	placement	decoding, checking and placing
 *
 * Under the lock of whoever owns it.
 */
#ifndef PMIG_FAULT_STATS_H
#define PMIG_FAULT_STATS_H

#include "base/histogram.h"
#include "pymigrate.h"

enum {
	FAULT_THREADS = 256,
	FAULT_SAMPLES = 4096,
};

/* Faults of one thread. */
struct fault_thread {
	uint32_t thread;
	uint64_t stalled_ns;
};

/**
 * struct fault_stats - see above
 * @remote:	latency of faults that the source answered
 * @local:	of those that it was not needed for
 * @queueing:	parts of @remote, and likewise the next two
 * @pushed:	remote faults whose page came without being asked for, or was
 *		on its way already
 * @threads:	those that waited
 * @n_threads:	how many; more are counted with the last
 * @samples:	faults over time, every @stride-th
 * @n_samples:	how many
 * @stride:	doubled when there is no more room
 * @skip:	faults until the next sample
 */
struct fault_stats {
	struct histogram remote;
	struct histogram local;
	struct histogram queueing;
	struct histogram network;
	struct histogram placement;
	uint64_t pushed;
	struct fault_thread threads[FAULT_THREADS];
	uint32_t n_threads;
	struct pmig_fault_sample samples[FAULT_SAMPLES];
	uint32_t n_samples;
	uint32_t stride;
	uint32_t skip;
};

/**
 * struct fault_times - of one fault
 * @thread:	that waited
 * @since_ns:	it was read
 * @asked_ns:	the request left; 0: it never did
 * @arrived_ns:	the answer began to come
 * @placed_ns:	the page was there
 * @waited_ns:	at the source
 * @answer:	it came as an answer, not by push
 */
struct fault_times {
	uint32_t thread;
	uint64_t since_ns;
	uint64_t asked_ns;
	uint64_t arrived_ns;
	uint64_t placed_ns;
	uint64_t waited_ns;
	bool answer;
};

/* The source answered; began_ns: when the guest could begin to fault. */
void fault_stats_remote(struct fault_stats *stats, uint64_t began_ns,
			const struct fault_times *times);

/* It was not needed. */
void fault_stats_local(struct fault_stats *stats, uint32_t thread,
		       uint64_t latency_ns);

/* Fill in the figures of a report. */
void fault_stats_report(const struct fault_stats *stats,
			struct pmig_faults_report *report);

#endif
