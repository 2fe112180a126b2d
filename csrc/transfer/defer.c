/* SPDX-License-Identifier: Apache-2.0 */
/* defer.c - naming pages instead of sending them; theory in sender_late.h */
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "dirty/dirty.h"
#include "page/hash.h"
#include "transfer/sender.h"

/* One frame: n_blocks words of one region, if any bit is set in them. */
static int send_bitmap(struct send_worker *worker, const struct pmig_span *span,
		       const uint64_t *words, uint8_t *room,
		       struct pmig_error *err)
{
	const struct pmig_memory *memory = worker->sender->memory;
	uint32_t plain_bytes = (uint32_t)(span->n_blocks * sizeof(*words));
	struct wire_outstanding head = {
		.epoch = worker->round.epoch,
		.offset_bytes = span->offset_bytes,
		.region = (uint32_t)(span->map - memory->maps),
		.encoding = PMIG_ENCODING_ZSTD,
		.block_count = span->n_blocks,
		.bitmap_hash = pmig_hash(words, plain_bytes),
	};
	const void *body = room;
	uint32_t body_bytes = 0;

	if (worker->encoder.encodings >> PMIG_ENCODING_ZSTD & 1)
		body_bytes = compressor_run(worker->encoder.compressor,
					    PMIG_ENCODING_ZSTD, 1, words,
					    plain_bytes, room, plain_bytes - 1);
	if (!body_bytes) {
		head.encoding = PMIG_ENCODING_RAW;
		body = words;
		body_bytes = plain_bytes;
	}
	worker->round.digest += head.bitmap_hash;
	return outbox_write(&worker->box, PMIG_FRAME_OUTSTANDING, &head,
			    sizeof(head), body, body_bytes, err);
}

/* Take what is pending of a run of blocks; holes are not worth naming. */
static int take_span(struct send_worker *worker, const struct pmig_span *span,
		     uint64_t *words, bool *any, struct pmig_error *err)
{
	struct pmig_sender *sender = worker->sender;
	bool first = worker->round.epoch == 1;
	int rc = pmig_view_rearm(sender->view, span->first_block,
				 span->n_blocks, err);

	if (!rc && first)
		rc = pmig_memory_present(sender->memory, span->first_block,
					 span->n_blocks, words, err);
	for (uint64_t i = 0; i < span->n_blocks && !rc; i++) {
		uint64_t block = span->first_block + i;
		uint64_t present = first ? words[i] : ~UINT64_C(0);
		uint64_t pages = pmig_view_take(sender->view, block);

		worker->round.hole_pages +=
			(uint64_t)__builtin_popcountll(pages & ~present);
		pages &= present;
		/* what was written since it was named comes first */
		if (pages)
			late_pages_owe(&sender->late.pages, block, pages,
				       worker->round.kind == PMIG_EPOCH_SEALED);
		words[i] = pages & ~sender->late.named[block];
		worker->round.outstanding_pages +=
			(uint64_t)__builtin_popcountll(words[i]);
		sender->late.named[block] |= pages;
		*any |= words[i] != 0;
	}
	return rc;
}

static bool is_pending(const struct send_worker *worker,
		       const struct pmig_span *span, uint64_t *words)
{
	pmig_view_peek(worker->sender->view, span->first_block, span->n_blocks,
		       words);
	for (uint64_t i = 0; i < span->n_blocks; i++)
		if (words[i])
			return true;
	return false;
}

int send_outstanding(struct send_worker *worker, struct pmig_error *err)
{
	const struct pmig_memory *memory = worker->sender->memory;
	uint64_t *words = malloc(2 * PMIG_BLOCK_BYTES);
	uint64_t at = 0;
	int rc = 0;

	if (!words)
		return pmig_fail(err, -ENOMEM, "no memory for a bitmap");
	while (at < memory->n_blocks && !rc) {
		struct pmig_span span;
		bool any = false;

		pmig_memory_span(memory, at, WIRE_MAX_OUTSTANDING_BLOCKS,
				 &span);
		at += span.n_blocks;
		if (!is_pending(worker, &span, words))
			continue;
		rc = take_span(worker, &span, words, &any, err);
		if (!rc && any)
			rc = send_bitmap(worker, &span, words,
					 (uint8_t *)words + PMIG_BLOCK_BYTES,
					 err);
	}
	free(words);
	return rc;
}
