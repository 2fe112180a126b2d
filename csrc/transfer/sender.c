/* SPDX-License-Identifier: Apache-2.0 */
/* sender.c - what a sender is asked to do; theory in sender.h */
#include "transfer/sender.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "dirty/dirty.h"
#include "page/hash.h"
#include "transfer/hint.h"

int sender_check_alive(struct pmig_sender *sender, struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&sender->lock);
	rc = sender->failed.code;
	if (rc && err)
		*err = sender->failed;
	pthread_mutex_unlock(&sender->lock);
	return rc;
}

bool sender_has_failed(struct pmig_sender *sender)
{
	return sender_check_alive(sender, NULL) != 0;
}

static int keep_failure(struct pmig_sender *sender,
			const struct pmig_error *failure,
			struct pmig_error *err)
{
	sender_fail(sender, failure);
	return sender_check_alive(sender, err);
}

int pmig_sender_hint(struct pmig_sender *sender, struct pmig_error *err)
{
	struct pmig_error failure = {0};
	struct wire_ranges *head;
	uint32_t head_bytes;
	int rc = sender_check_alive(sender, err);

	if (!rc)
		rc = hint_build(sender->memory, &head, &head_bytes, err);
	if (rc)
		return rc;
	if (outbox_write(&sender->workers[0].box, PMIG_FRAME_RANGES, head,
			 head_bytes, NULL, 0, &failure))
		rc = keep_failure(sender, &failure, err);
	free(head);
	return rc;
}

int pmig_sender_put(struct pmig_sender *sender, enum pmig_frame_type type,
		    const void *data, size_t size_bytes, struct pmig_error *err)
{
	struct pmig_error failure = {0};
	struct wire_blob blob;
	int rc = sender_check_alive(sender, err);

	if (rc)
		return rc;
	if ((type != PMIG_FRAME_CONFIG && type != PMIG_FRAME_STATE) ||
	    size_bytes > PMIG_MAX_BLOB_BYTES)
		return pmig_fail(err, -EINVAL,
				 "a blob frame is CONFIG or STATE and at most "
				 "%d bytes",
				 PMIG_MAX_BLOB_BYTES);
	blob.body_hash = pmig_hash(data, size_bytes);
	if (outbox_write(&sender->workers[0].box, type, &blob, sizeof(blob),
			 data, (uint32_t)size_bytes, &failure))
		return keep_failure(sender, &failure, err);
	if (type == PMIG_FRAME_STATE)
		sender->state_digest += blob.body_hash;
	return 0;
}

/* Hand the round to the workers and wait for the last of them. */
static void run_round(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      bool deferring)
{
	const struct climate_sums sums = sender_sums(sender);

	sender->governed_ns = pmig_now_ns();
	sender->governed = sums;
	climate_begin(&sender->climate, sender->governed_ns, &sums);
	pthread_mutex_lock(&sender->lock);
	for (uint32_t i = 0; i < sender->n_workers; i++)
		sender->workers[i].blocks_done = 0;
	sender->next_chunk = 0;
	sender->epoch++;
	sender->kind = kind;
	sender->deferring = deferring;
	sender->n_busy = sender->n_workers;
	sender->generation++;
	pthread_cond_broadcast(&sender->wake);
	while (sender->n_busy)
		pthread_cond_wait(&sender->idle, &sender->lock);
	sender->state_digest = 0;
	pthread_mutex_unlock(&sender->lock);
}

static void add_round(struct pmig_round *total, const struct pmig_round *part)
{
	total->sent_pages += part->sent_pages;
	total->zero_pages += part->zero_pages;
	total->hole_pages += part->hole_pages;
	total->outstanding_pages += part->outstanding_pages;
	total->held_pages += part->held_pages;
	total->wire_bytes += part->wire_bytes;
	total->encode_ns += part->encode_ns;
	total->blocked_ns += part->blocked_ns;
	total->digest += part->digest;
	for (int i = 0; i < PMIG_ENCODINGS; i++) {
		total->pages_by_encoding[i] += part->pages_by_encoding[i];
		total->bytes_by_encoding[i] += part->bytes_by_encoding[i];
	}
}

/* Pages of the round that were sent by a candidate. */
static uint64_t used_pages(const struct pmig_sender *sender,
			   unsigned int candidate)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < sender->n_workers; i++)
		pages += sender->workers[i].encoder.used_pages[candidate];
	return pages;
}

/* The candidate that most pages of the round were sent by. */
static const struct choice_candidate *
prevailing(const struct pmig_sender *sender)
{
	unsigned int best = CHOICE_RAW;
	uint64_t most = 0;

	/* what the tuning asks for is the same for all who met it */
	for (uint32_t i = 0; i < sender->n_workers; i++)
		if (sender->workers[i].encoder.used_pages[CHOICE_CANDIDATES])
			return &sender->workers[i].encoder.forced;
	for (unsigned int c = 0; c < CHOICE_CANDIDATES; c++) {
		uint64_t pages = used_pages(sender, c);

		if (pages <= most)
			continue;
		most = pages;
		best = c;
	}
	return &choice_candidates[best];
}

static void describe_choices(const struct pmig_sender *sender,
			     struct pmig_round *round)
{
	const struct choice_candidate *candidate = prevailing(sender);

	round->active_channels = sender->n_active;
	round->link_bytes_per_s = sender->climate.link_bytes_per_s;
	for (uint32_t i = 0; i < sender->n_workers; i++)
		round->zero_copy |= channel_zero_copy_state(
			sender->workers[i].box.channel, NULL);
	round->level = candidate->level;
	if (candidate->encoding == PMIG_ENCODING_RAW)
		round->compression = PMIG_COMPRESSION_NONE;
	else if (candidate->encoding == PMIG_ENCODING_LZ4)
		round->compression = PMIG_COMPRESSION_LZ4;
	else
		round->compression = PMIG_COMPRESSION_ZSTD;
	if (sender->has_prints)
		round->delta_memory_bytes = prints_bytes(&sender->prints);
}

static int harvest(struct pmig_sender *sender, struct pmig_round *round,
		   struct pmig_error *err)
{
	uint64_t begin_ns = pmig_now_ns();
	int rc = pmig_view_harvest(sender->view, err);

	round->dirty_pages = pmig_view_pending_pages(sender->view);
	round->harvest_ns = pmig_now_ns() - begin_ns;
	return rc;
}

int sender_run(struct pmig_sender *sender, enum pmig_epoch_kind kind,
	       bool deferring, struct pmig_round *round, struct pmig_error *err)
{
	uint64_t begin_ns = pmig_now_ns();
	struct pmig_round total = {.struct_size = sizeof(total), .kind = kind};
	int rc = sender_check_alive(sender, err);

	/* nothing is written any more once the guest runs elsewhere */
	if (!rc && kind != PMIG_EPOCH_LATE)
		rc = harvest(sender, &total, err);
	if (rc)
		return rc;
	run_round(sender, kind, deferring);
	for (uint32_t i = 0; i < sender->n_workers; i++)
		add_round(&total, &sender->workers[i].round);
	describe_choices(sender, &total);
	if (sender->has_prints && kind != PMIG_EPOCH_LATE && !deferring)
		prints_evict(&sender->prints, sender->epoch);
	total.epoch = sender->epoch;
	total.duration_ns = pmig_now_ns() - begin_ns;
	*round = total;
	return sender_check_alive(sender, err);
}

int pmig_sender_round(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      struct pmig_round *round, struct pmig_error *err)
{
	if (kind != PMIG_EPOCH_FUZZY && kind != PMIG_EPOCH_SEALED)
		return pmig_fail(err, -EINVAL,
				 "a round is fuzzy or sealed: late pages are "
				 "for pmig_sender_late()");
	return sender_run(sender, kind, false, round, err);
}

int pmig_sender_resend(struct pmig_sender *sender,
		       const struct pmig_block_pages *list, uint32_t n,
		       struct pmig_error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		struct pmig_block block;

		if (!pmig_memory_locate(sender->memory, list[i].block,
					&block) ||
		    list[i].pages & ~block.valid)
			return pmig_fail(err, -EINVAL,
					 "pages to send again lie outside "
					 "guest memory");
	}
	for (uint32_t i = 0; i < n; i++) {
		pmig_bits_or(&sender->independent[list[i].block],
			     list[i].pages);
		view_pend(sender->view, list[i].block, list[i].pages);
	}
	return 0;
}

void pmig_sender_hold(struct pmig_sender *sender, bool hold)
{
	sender->hold.on = hold;
}

uint64_t pmig_sender_hot_pages(const struct pmig_sender *sender)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < sender->memory->n_blocks; i++) {
		uint64_t bits = sender->hold.twice[i];

		if (!bits)
			continue;
		pmig_view_peek(sender->view, i, 1, &bits);
		pages += (uint64_t)__builtin_popcountll(bits &
							sender->hold.twice[i]);
	}
	return pages;
}

int pmig_sender_tune(struct pmig_sender *sender,
		     const struct pmig_tuning *tuning, struct pmig_error *err)
{
	int rc = tuning_set(&sender->tuning, tuning, sender->n_pushers, err);

	if (!rc)
		pace_set(&sender->pace, tuning->bandwidth_limit_bytes_per_s);
	return rc;
}

/* Of a file: who reads a part of it need not read all of it to find that. */
static int write_index(struct pmig_sender *sender, struct pmig_error *err)
{
	struct outbox *box = &sender->workers[0].box;
	struct wire_index head;
	uint32_t body_bytes;
	const void *body;

	if (!box->catalogue || !sender->epoch ||
	    !catalogue_finish(box->catalogue, &head, &body, &body_bytes))
		return 0;
	head.kind = sender->kind;
	return outbox_write(box, PMIG_FRAME_INDEX, &head, sizeof(head), body,
			    body_bytes, err);
}

int pmig_sender_end(struct pmig_sender *sender, struct pmig_error *err)
{
	struct pmig_error failure = {0};
	int rc = sender_check_alive(sender, err);

	if (!rc && write_index(sender, &failure))
		rc = keep_failure(sender, &failure, err);
	for (uint32_t i = 0; i < sender->n_workers && !rc; i++) {
		struct outbox *box = &sender->workers[i].box;
		const struct wire_end end = {.frame_count = box->sequence};

		if (outbox_write(box, PMIG_FRAME_END, &end, sizeof(end), NULL,
				 0, &failure) ||
		    channel_flush(box->channel, &failure))
			rc = keep_failure(sender, &failure, err);
	}
	return rc;
}

void pmig_sender_cancel(struct pmig_sender *sender)
{
	struct pmig_error cancelled;

	pmig_fail(&cancelled, -ECANCELED, "the transfer was cancelled");
	sender_fail(sender, &cancelled);
}

void pmig_sender_progress(const struct pmig_sender *sender,
			  struct pmig_progress *progress)
{
	struct pmig_progress sum = {
		.struct_size = sizeof(sum),
		.epoch = sender->epoch,
		.blocks_total = sender->memory->n_blocks,
	};

	for (uint32_t i = 0; i < sender->n_workers; i++) {
		const struct send_worker *worker = &sender->workers[i];

		sum.sent_pages += worker->sent_pages;
		sum.wire_bytes += worker->wire_bytes;
		sum.blocks_done += worker->blocks_done;
	}
	*progress = sum;
}
