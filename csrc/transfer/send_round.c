/* SPDX-License-Identifier: Apache-2.0 */
/* send_round.c - one worker's share of one round; theory in sender.h */
#include <string.h>

#include "page/hash.h"
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

/* A frame under construction, and where its bodies lie. */
struct draft {
	struct frame *frame;
	struct wire_pages *pages;
	struct wire_entry *entries;
	struct iovec bodies[PMIG_BLOCK_PAGES];
	int n_bodies;
};

/* Does page follow the last piece directly? */
static bool extends_last(const struct draft *draft, const uint8_t *page)
{
	const struct iovec *last;

	if (draft->n_bodies == 0)
		return false;
	last = &draft->bodies[draft->n_bodies - 1];
	return (const uint8_t *)last->iov_base + last->iov_len == page;
}

static void add_body(struct draft *draft, uint8_t *page)
{
	if (extends_last(draft, page))
		draft->bodies[draft->n_bodies - 1].iov_len += PMIG_PAGE_BYTES;
	else
		draft->bodies[draft->n_bodies++] =
			(struct iovec){page, PMIG_PAGE_BYTES};
}

static void add_page(struct draft *draft, struct send_worker *worker,
		     const struct pmig_block *block, unsigned int page,
		     uint64_t region, bool hole)
{
	uint8_t *hva = block->hva + (size_t)page * PMIG_PAGE_BYTES;
	uint64_t number = block->offset_bytes / PMIG_PAGE_BYTES + page;
	uint64_t hash = 0;

	if (hole || pmig_page_scan(hva, &hash)) {
		draft->pages->zero_mask |= 1ull << page;
		worker->round.zero_pages++;
		hash = 0;
	} else {
		draft->entries[draft->pages->entry_count++] =
			(struct wire_entry){
				.hash = hash,
				.stored_bytes = PMIG_PAGE_BYTES,
				.encoding = PMIG_ENCODING_RAW,
			};
		add_body(draft, hva);
		worker->round.pages_by_encoding[PMIG_ENCODING_RAW]++;
		worker->round.bytes_by_encoding[PMIG_ENCODING_RAW] +=
			PMIG_PAGE_BYTES;
	}
	worker->round.digest += pmig_hash_placed(region, number, hash);
}

static void begin_draft(struct draft *draft, struct send_worker *worker,
			const struct pmig_block *block, uint32_t region,
			uint64_t mask)
{
	draft->frame = outbox_slot(&worker->box);
	draft->pages = (void *)draft->frame->head;
	draft->entries = (void *)(draft->frame->head + sizeof(*draft->pages));
	draft->n_bodies = 0;
	*draft->pages = (struct wire_pages){
		.epoch = worker->round.epoch,
		.offset_bytes = block->offset_bytes,
		.region = region,
		.mask = mask,
	};
}

static int push_draft(struct draft *draft, struct send_worker *worker,
		      struct pmig_error *err)
{
	uint32_t entries = draft->pages->entry_count;

	frame_begin(draft->frame, PMIG_FRAME_PAGES,
		    sizeof(*draft->pages) + entries * sizeof(*draft->entries),
		    entries * PMIG_PAGE_BYTES, worker->box.sequence);
	worker->frames++;
	return outbox_push_pages(&worker->box, draft->bodies, draft->n_bodies,
				 err);
}

/* Send the pages of mask; those not in present are zero and not read. */
static int send_block(struct send_worker *worker, uint64_t number,
		      uint64_t mask, uint64_t present, struct pmig_error *err)
{
	const struct pmig_memory *memory = worker->sender->memory;
	struct pmig_block block;
	struct draft draft;
	uint32_t region;
	int rc;

	if (!pmig_memory_locate(memory, number, &block))
		return 0;
	rc = outbox_ready(&worker->box, err);
	if (rc)
		return rc;
	region = (uint32_t)(block.map - memory->maps);
	begin_draft(&draft, worker, &block, region, mask);
	for (uint64_t left = mask; left; left &= left - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);

		add_page(&draft, worker, &block, page, region,
			 !(present >> page & 1));
	}
	worker->round.sent_pages += (uint64_t)__builtin_popcountll(mask);
	return push_draft(&draft, worker, err);
}

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

/*
 * Bits are taken only when the frame is about to be built, so that what a
 * failure leaves untouched is still pending.
 */
static int send_blocks(struct send_worker *worker, const struct chunk *chunk,
		       struct pmig_error *err)
{
	struct pmig_view *view = worker->sender->view;
	bool first = worker->round.epoch == 1;
	int rc = 0;

	for (uint64_t i = 0; i < chunk->n_blocks && !rc; i++) {
		uint64_t mask = pmig_view_take(view, chunk->first_block + i);

		if (first)
			mask = drop_holes(worker, mask, chunk->present[i]);
		if (mask)
			rc = send_block(worker, chunk->first_block + i, mask,
					chunk->present[i], err);
	}
	return rc;
}

static int send_chunk(struct send_worker *worker, struct chunk *chunk,
		      struct pmig_error *err)
{
	int rc;

	if (!is_pending(worker, chunk))
		return 0;
	rc = pmig_view_rearm(worker->sender->view, chunk->first_block,
			     chunk->n_blocks, err);
	if (!rc)
		rc = find_holes(worker, chunk, err);
	if (!rc)
		rc = send_blocks(worker, chunk, err);
	return rc;
}

static void publish_progress(struct send_worker *worker, uint64_t n_blocks,
			     uint64_t pages_before)
{
	atomic_fetch_add_explicit(&worker->blocks_done, n_blocks,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&worker->sent_pages,
				  worker->round.sent_pages - pages_before,
				  memory_order_relaxed);
	atomic_store_explicit(&worker->wire_bytes, worker->box.wire_bytes,
			      memory_order_relaxed);
}

static int send_chunks(struct send_worker *worker, struct pmig_error *err)
{
	const struct pmig_sender *sender = worker->sender;
	uint64_t stride = (uint64_t)SENDER_CHUNK_BLOCKS * sender->n_workers;
	uint64_t total = sender->memory->n_blocks;
	struct chunk chunk;
	int rc = 0;

	chunk.first_block = (uint64_t)SENDER_CHUNK_BLOCKS * worker->index;
	for (; chunk.first_block < total && !rc; chunk.first_block += stride) {
		uint64_t pages_before = worker->round.sent_pages;
		uint64_t left = total - chunk.first_block;

		chunk.n_blocks =
			left < SENDER_CHUNK_BLOCKS ? left : SENDER_CHUNK_BLOCKS;
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

int send_worker_round(struct send_worker *worker, struct pmig_error *err)
{
	uint64_t wire_before = worker->box.wire_bytes;
	int rc = send_epoch(worker, err);

	if (!rc)
		rc = send_chunks(worker, err);
	if (!rc)
		rc = send_epoch_end(worker, err);
	worker->round.wire_bytes = worker->box.wire_bytes - wire_before;
	publish_progress(worker, 0, worker->round.sent_pages);
	return rc;
}
