/* SPDX-License-Identifier: Apache-2.0 */
/* send_round.c - one worker's share of one round; theory in sender.h */
#include <string.h>

#include "base/clock.h"
#include "base/numa.h"
#include "dirty/dirty.h"
#include "transfer/sender.h"

/**
 * struct chunk - the blocks that are looked at together
 * @first_block: number of the first
 * @n_blocks:	up to SENDER_CHUNK_BLOCKS
 * @present:	per block, the pages that are not holes
 */
struct chunk {
	uint64_t first_block;
	uint64_t n_blocks;
	uint64_t present[SENDER_CHUNK_BLOCKS];
};

/*
 * The first time a page is looked at it may never have been allocated; the
 * receiver starts with zeros, so a hole needs no word at all.
 */
static uint64_t drop_holes(struct send_worker *worker, uint64_t mask,
			   uint64_t present)
{
	worker->round.hole_pages +=
		(uint64_t)__builtin_popcountll(mask & ~present);
	return mask & present;
}

static int find_holes(struct send_worker *worker, struct chunk *chunk,
		      struct pmig_error *err)
{
	if (worker->round.epoch > 1) {
		memset(chunk->present, 0xff, sizeof(chunk->present));
		return 0;
	}
	return pmig_memory_present(worker->sender->memory, chunk->first_block,
				   chunk->n_blocks, chunk->present, err);
}

static bool is_pending(struct send_worker *worker, const struct chunk *chunk)
{
	uint64_t bits[SENDER_CHUNK_BLOCKS];
	uint64_t any = 0;

	pmig_view_peek(worker->sender->view, chunk->first_block,
		       chunk->n_blocks, bits);
	for (uint64_t i = 0; i < chunk->n_blocks; i++)
		any |= bits[i];
	return any != 0;
}

/* Take the pages of a block that this round is to send. */
static uint64_t take_pages(struct send_worker *worker, uint64_t block)
{
	struct pmig_sender *sender = worker->sender;
	uint64_t allowed = hold_allowed(&sender->hold, block, sender->kind);
	uint64_t mask = view_take_some(sender->view, block, allowed);
	uint64_t held = 0;

	if (~allowed) {
		pmig_view_peek(sender->view, block, 1, &held);
		held &= ~allowed;
	}
	worker->round.held_pages += (uint64_t)__builtin_popcountll(held);
	hold_note(&sender->hold, block, worker->round.epoch, mask, held);
	return mask;
}

/*
 * Bits are taken only when the frame is about to be built, so that what a
 * failure leaves untouched is still pending.
 */
static int send_blocks(struct send_worker *worker, const struct chunk *chunk,
		       struct pmig_error *err)
{
	bool first = worker->round.epoch == 1;
	int rc = 0;

	for (uint64_t i = 0; i < chunk->n_blocks && !rc; i++) {
		uint64_t mask = take_pages(worker, chunk->first_block + i);

		if (first)
			mask = drop_holes(worker, mask, chunk->present[i]);
		if (!mask)
			continue;
		sender_pulse(worker);
		rc = send_block(worker, chunk->first_block + i, mask,
				chunk->present[i], err);
	}
	return rc;
}

/* Nothing of it is hot, since nothing of it is dirty. */
static void cool(struct send_worker *worker, const struct chunk *chunk)
{
	for (uint64_t i = 0; i < chunk->n_blocks; i++)
		hold_note(&worker->sender->hold, chunk->first_block + i,
			  worker->round.epoch, 0, 0);
}

/* Reading memory of another node costs more than moving there. */
static void follow_node(struct send_worker *worker, const struct chunk *chunk)
{
	const struct pmig_memory *memory = worker->sender->memory;
	const void *samples[PMIG_NUMA_SAMPLES];
	uint64_t step = 1 + (chunk->n_blocks - 1) / PMIG_NUMA_SAMPLES;
	size_t n = 0;

	for (uint64_t i = 0; i < chunk->n_blocks; i += step) {
		struct pmig_block block;

		if (pmig_memory_locate(memory, chunk->first_block + i, &block))
			samples[n++] = block.hva;
	}
	pmig_numa_place(worker->thread, pmig_numa_node_of(samples, n));
}

static int send_chunk(struct send_worker *worker, struct chunk *chunk,
		      struct pmig_error *err)
{
	int rc;

	if (!is_pending(worker, chunk)) {
		cool(worker, chunk);
		return 0;
	}
	if (worker->sender->follow_nodes)
		follow_node(worker, chunk);
	rc = pmig_view_rearm(worker->sender->view, chunk->first_block,
			     chunk->n_blocks, err);
	if (!rc)
		rc = find_holes(worker, chunk, err);
	if (!rc)
		rc = send_blocks(worker, chunk, err);
	return rc;
}

void publish_progress(struct send_worker *worker, uint64_t n_blocks,
		      uint64_t pages_before)
{
	atomic_fetch_add_explicit(&worker->blocks_done, n_blocks,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&worker->sent_pages,
				  worker->round.sent_pages - pages_before,
				  memory_order_relaxed);
}

static uint64_t count_chunks(const struct pmig_sender *sender)
{
	return (sender->memory->n_blocks + SENDER_CHUNK_BLOCKS - 1) /
	       SENDER_CHUNK_BLOCKS;
}

/* Wait until the worker may take part; false when there is nothing left. */
static bool wait_for_turn(struct send_worker *worker, uint64_t n_chunks)
{
	struct pmig_sender *sender = worker->sender;
	bool go_on;

	if (worker->index < sender->n_active)
		return true;
	pthread_mutex_lock(&sender->lock);
	while (worker->index >= sender->n_active &&
	       sender->next_chunk < n_chunks && !sender->failed.code)
		pthread_cond_wait(&sender->more, &sender->lock);
	go_on = !sender->failed.code;
	pthread_mutex_unlock(&sender->lock);
	return go_on;
}

/* Come for a chunk; false when there is none left. */
static bool next_chunk(struct send_worker *worker, uint64_t *chunk)
{
	struct pmig_sender *sender = worker->sender;
	uint64_t n_chunks = count_chunks(sender);

	if (!wait_for_turn(worker, n_chunks))
		return false;
	*chunk = atomic_fetch_add(&sender->next_chunk, 1);
	if (*chunk < n_chunks)
		return true;
	pthread_mutex_lock(&sender->lock);
	pthread_cond_broadcast(&sender->more);
	pthread_mutex_unlock(&sender->lock);
	return false;
}

static int send_chunks(struct send_worker *worker, struct pmig_error *err)
{
	uint64_t total = worker->sender->memory->n_blocks;
	struct chunk chunk;
	uint64_t number;
	int rc = 0;

	while (!rc && next_chunk(worker, &number)) {
		uint64_t pages_before = worker->round.sent_pages;

		chunk.first_block = number * SENDER_CHUNK_BLOCKS;
		chunk.n_blocks = total - chunk.first_block;
		if (chunk.n_blocks > SENDER_CHUNK_BLOCKS)
			chunk.n_blocks = SENDER_CHUNK_BLOCKS;
		rc = send_chunk(worker, &chunk, err);
		publish_progress(worker, chunk.n_blocks, pages_before);
	}
	return rc;
}

static int send_epoch(struct send_worker *worker, struct pmig_error *err)
{
	const struct wire_epoch epoch = {
		.epoch = worker->round.epoch,
		.kind = worker->round.kind,
	};

	return outbox_write(&worker->box, PMIG_FRAME_EPOCH, &epoch,
			    sizeof(epoch), NULL, 0, err);
}

static int send_epoch_end(struct send_worker *worker, struct pmig_error *err)
{
	const struct wire_epoch_end end = {
		.epoch = worker->round.epoch,
		.kind = worker->round.kind,
		.frame_count = worker->frames,
		.page_count = worker->round.sent_pages,
		.digest = worker->round.digest,
	};

	return outbox_write(&worker->box, PMIG_FRAME_EPOCH_END, &end,
			    sizeof(end), NULL, 0, err);
}

/* What the worker has to do with the pages of the round. */
static int send_share(struct send_worker *worker, struct pmig_error *err)
{
	const struct pmig_sender *sender = worker->sender;

	if (sender->kind == PMIG_EPOCH_LATE)
		return is_urgent(worker) ? send_answers(worker, err)
					 : send_pushed(worker, err);
	if (sender->deferring)
		return worker->index == 0 ? send_outstanding(worker, err) : 0;
	return is_urgent(worker) ? 0 : send_chunks(worker, err);
}

int send_worker_round(struct send_worker *worker, struct pmig_error *err)
{
	uint64_t wire_before = worker->box.wire_bytes;
	uint64_t blocked_before = worker->box.channel->blocked_ns;
	uint64_t cpu_before = pmig_cpu_now_ns();
	int rc = send_epoch(worker, err);

	if (!rc)
		rc = send_share(worker, err);
	if (!rc)
		rc = send_epoch_end(worker, err);
	worker->round.wire_bytes = worker->box.wire_bytes - wire_before;
	worker->round.blocked_ns =
		worker->box.channel->blocked_ns - blocked_before;
	worker->round.encode_ns = pmig_cpu_now_ns() - cpu_before;
	worker->wire_bytes = worker->box.wire_bytes;
	publish_progress(worker, 0, worker->round.sent_pages);
	return rc;
}
