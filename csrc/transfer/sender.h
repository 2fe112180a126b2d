/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender.h - the sending side of the page pipeline
 *
 * Theory of operation
 *
 * A sender has one worker thread for each channel. Memory is cut into chunks
 * of SENDER_CHUNK_BLOCKS blocks, and a round hands out every chunk once, to
 * whichever worker comes for it: so a channel that is slow holds up nobody,
 * and the number of workers that take part may change at any time. No two
 * workers touch the same bitmap word, the same block or the same channel.
 * The receiver applies a round only once the one before is complete on every
 * channel, so the versions of a page stay in order.
 *
 * pmig_sender_round() harvests, hands every worker the round, and waits until
 * all are done. A worker passes over its chunks: re-arm the chunk, take the
 * bits of each block, encode the pages (encode.h), queue a PAGES frame.
 * Re-arming comes before looking, so a write that races is found by the next
 * harvest.
 *
 * A worker whose number is not below the number of active channels waits in
 * the round until it is, or until no chunk is left; it still opens and ends
 * the epoch on its channel.
 *
 * In the first round every page is pending, most of them perhaps never
 * allocated. Those are found without reading (reading shared memory would
 * allocate it) and nothing is sent for them: memory starts as zeros at the
 * receiver. Only the first round can meet holes in number; later rounds see
 * pages that were written, and do not pay for asking.
 *
 * Between rounds the workers sleep, so the calling thread may write to the
 * channels itself (blobs, the end frames).
 *
 * When a worker fails, the first error is kept, and the cancel eventfd wakes
 * whichever workers wait on their channels. The sender is then done for; the
 * taken bits are still in the view.
 */
#ifndef PMIG_TRANSFER_SENDER_H
#define PMIG_TRANSFER_SENDER_H

#include <pthread.h>
#include <stdatomic.h>

#include "transfer/climate.h"
#include "transfer/encode.h"
#include "transfer/governor.h"
#include "transfer/hold.h"
#include "transfer/outbox.h"
#include "transfer/sender_late.h"
#include "transfer/tuning.h"

enum {
	/*
	 * 16 MiB: one KVM_CLEAR_DIRTY_LOG covers it, which keeps the number
	 * of TLB flushes low, and it is sent within milliseconds, which keeps
	 * the pages few that are written between re-arming and reading.
	 */
	SENDER_CHUNK_BLOCKS = 64,
};

struct pmig_sender;

/**
 * struct send_worker - one channel's worker
 * @sender:	its owner
 * @index:	number of the channel
 * @thread:	its thread, when @started
 * @box:	frames on their way
 * @encoder:	makes pages small
 * @round:	counters of the running round; read by others once it is over
 * @sent_pages:	since the sender was made; for progress
 * @wire_bytes:	likewise
 * @waiting_bytes: likewise; see struct outbox
 * @blocks_done: of the running round
 * @cpu_ns:	processor time since the thread began; for the climate
 * @frames:	PAGES frames of the running round
 * @placed_pages: of a late round, that the receiver is done with
 */
struct send_worker {
	struct pmig_sender *sender;
	uint32_t index;
	bool started;
	pthread_t thread;
	struct outbox box;
	struct encoder encoder;
	struct pmig_round round;
	uint64_t frames;
	atomic_uint_least64_t sent_pages;
	atomic_uint_least64_t wire_bytes;
	atomic_uint_least64_t waiting_bytes;
	atomic_uint_least64_t blocks_done;
	atomic_uint_least64_t cpu_ns;
	atomic_uint_least64_t placed_pages;
};

/**
 * struct pmig_sender - see above
 * @memory:	borrowed
 * @view:	borrowed
 * @n_workers:	number of channels
 * @n_pushers:	those of them that carry rounds: all but the urgent one
 * @workers:	one for each channel
 * @cancel_fd:	eventfd, readable once the sender is cancelled or failed
 * @epoch:	number of the running or last epoch
 * @state_digest: what STATE frames since the last epoch add to its digest
 * @tuning:	what may change at any time
 * @pace:	the bandwidth limit
 * @climate:	how fast the link is and how busy the processors are
 * @governor:	decides on the number of active channels; who does a pulse
 *		has it
 * @governed_ns: when it was last asked
 * @governed:	sums at that time
 * @prints:	fingerprints of what was sent
 * @has_prints:	the receiver reads deltas and can answer
 * @follow_nodes: a worker is to run where the memory of its chunk lies
 * @next_chunk:	the first chunk that no worker has come for
 * @n_active:	workers that may come for chunks
 * @catalogue:	of the frames, where they go into a file
 * @independent: per block, pages whose next version must rest on nothing
 * @hold:	pages left to the last round
 * @late:	pages that are sent after the switchover
 * @lock:	guards the members below
 * @wake:	a new round, or @stopping
 * @more:	@n_active rose, or no chunk is left, or @failed
 * @idle:	@n_busy became 0
 * @generation:	counts rounds handed out
 * @n_busy:	workers that have not finished the round
 * @kind:	of the round
 * @deferring:	it names pages instead of sending them
 * @stopping:	the workers are to end
 * @failed:	first error; code 0 while there is none
 */
struct pmig_sender {
	const struct pmig_memory *memory;
	struct pmig_view *view;
	uint32_t n_workers;
	uint32_t n_pushers;
	struct send_worker *workers;
	int cancel_fd;
	_Atomic uint64_t epoch;
	uint64_t state_digest;
	struct tuning tuning;
	struct pace pace;
	struct climate climate;
	struct governor governor;
	uint64_t governed_ns;
	struct climate_sums governed;
	struct prints prints;
	bool has_prints;
	bool follow_nodes;
	atomic_uint_least64_t next_chunk;
	_Atomic uint32_t n_active;
	struct catalogue catalogue;
	uint64_t *independent;
	struct hold hold;
	struct sender_late late;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_cond_t more;
	pthread_cond_t idle;
	uint64_t generation;
	uint32_t n_busy;
	enum pmig_epoch_kind kind;
	bool deferring;
	bool stopping;
	struct pmig_error failed;
};

/* The body of a worker thread. */
void *send_worker_main(void *worker);

/* Send the worker's share of the round; send_round.c. */
int send_worker_round(struct send_worker *worker, struct pmig_error *err);

/* Send the pages of mask; those not in present are zero and not read. */
int send_block(struct send_worker *worker, uint64_t number, uint64_t mask,
	       uint64_t present, struct pmig_error *err);

/* What all workers did so far; sender_pulse.c. */
struct climate_sums sender_sums(const struct pmig_sender *sender);

/* Look at link and processors when it is time to, and at the tuning. */
void sender_pulse(struct send_worker *worker);

/* Let n workers come for chunks. */
void sender_activate(struct pmig_sender *sender, uint32_t n);

/* sender.c: one round of all workers, told to as kind and deferring say. */
int sender_run(struct pmig_sender *sender, enum pmig_epoch_kind kind,
	       bool deferring, struct pmig_round *round,
	       struct pmig_error *err);

/* A sender that failed or was cancelled stays so. */
int sender_check_alive(struct pmig_sender *sender, struct pmig_error *err);
bool sender_has_failed(struct pmig_sender *sender);

/* Let others see how far the worker is; send_round.c. */
void publish_progress(struct send_worker *worker, uint64_t n_blocks,
		      uint64_t pages_before);

/* Does the worker answer faults? */
static inline bool is_urgent(const struct send_worker *worker)
{
	return worker->index >= worker->sender->n_pushers;
}

/* Keep the first error and wake everybody. */
void sender_fail(struct pmig_sender *sender, const struct pmig_error *err);

#endif
