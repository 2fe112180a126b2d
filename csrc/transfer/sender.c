/* SPDX-License-Identifier: Apache-2.0 */
/* sender.c - the public calls of a sender; theory in sender.h */
#include "transfer/sender.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "page/hash.h"
#include "transfer/hint.h"

enum {
	DEFAULT_STALL_MS = 30000
};

static int check_config(const struct pmig_sender_config *config,
			struct pmig_error *err)
{
	if (config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_sender_config.struct_size is not set");
	if (config->n_channels == 0 || config->n_channels > PMIG_MAX_CHANNELS)
		return pmig_fail(err, -EINVAL,
				 "%u channels, 1 to %d are possible",
				 config->n_channels, PMIG_MAX_CHANNELS);
	if (config->stall_timeout_ms > INT32_MAX || config->flags)
		return pmig_fail(err, -EINVAL,
				 "pmig_sender_config: value out of range");
	return 0;
}

/* The opening frame of one channel. */
static int open_channel(struct pmig_sender *sender, uint32_t index,
			const uint8_t *session_id, struct pmig_error *err)
{
	uint32_t head_bytes = frame_stream_head_bytes(sender->memory);
	struct wire_stream *stream = calloc(1, head_bytes);
	int rc;

	if (!stream)
		return pmig_fail(err, -ENOMEM, "no memory for a frame");
	*stream = (struct wire_stream){
		.version_major = PMIG_STREAM_VERSION_MAJOR,
		.version_minor = PMIG_STREAM_VERSION_MINOR,
		.channel_index = (uint16_t)index,
		.channel_count = (uint16_t)sender->n_workers,
		.page_bytes = PMIG_PAGE_BYTES,
		.block_pages = PMIG_BLOCK_PAGES,
		.region_count = sender->memory->n_maps,
	};
	memcpy(stream->session_id, session_id, PMIG_SESSION_ID_BYTES);
	frame_put_regions(sender->memory, (struct wire_region *)(stream + 1));
	rc = outbox_write(&sender->workers[index].box, PMIG_FRAME_STREAM,
			  stream, head_bytes, NULL, 0, err);
	free(stream);
	return rc;
}

static int start_worker(struct pmig_sender *sender, uint32_t index,
			const struct pmig_sender_config *config,
			struct pmig_error *err)
{
	struct send_worker *worker = &sender->workers[index];
	const struct channel_wait wait = {
		.cancel_fd = sender->cancel_fd,
		.stall_ms = config->stall_timeout_ms
				    ? (int)config->stall_timeout_ms
				    : DEFAULT_STALL_MS,
	};
	int rc;

	worker->sender = sender;
	worker->index = index;
	rc = outbox_init(&worker->box, config->channels[index], &wait, err);
	if (!rc)
		rc = open_channel(sender, index, config->session_id, err);
	if (!rc)
		rc = pmig_thread_start(&worker->thread, "send", index,
				       send_worker_main, worker, err);
	worker->started = rc == 0;
	return rc;
}

static struct pmig_sender *allocate(const struct pmig_memory *memory,
				    struct pmig_view *view, uint32_t n_channels)
{
	struct pmig_sender *sender = calloc(1, sizeof(*sender));

	if (!sender)
		return NULL;
	sender->workers = calloc(n_channels, sizeof(*sender->workers));
	sender->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_cond_init(&sender->wake, NULL);
	pthread_cond_init(&sender->idle, NULL);
	sender->memory = memory;
	sender->view = view;
	sender->n_workers = n_channels;
	if (!sender->workers || sender->cancel_fd < 0) {
		sender->n_workers = 0;
		pmig_sender_free(sender);
		return NULL;
	}
	return sender;
}

int pmig_sender_new(const struct pmig_memory *memory, struct pmig_view *view,
		    const struct pmig_sender_config *config,
		    struct pmig_sender **out, struct pmig_error *err)
{
	struct pmig_sender *sender;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	sender = allocate(memory, view, config->n_channels);
	if (!sender)
		return pmig_fail(err, -ENOMEM,
				 "no memory or descriptor for a sender");
	for (uint32_t i = 0; i < config->n_channels && !rc; i++)
		rc = start_worker(sender, i, config, err);
	if (rc) {
		pmig_sender_free(sender);
		return rc;
	}
	*out = sender;
	return 0;
}

/* A sender that failed or was cancelled stays so. */
static int check_alive(struct pmig_sender *sender, struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&sender->lock);
	rc = sender->failed.code;
	if (rc && err)
		*err = sender->failed;
	pthread_mutex_unlock(&sender->lock);
	return rc;
}

static int keep_failure(struct pmig_sender *sender,
			const struct pmig_error *failure,
			struct pmig_error *err)
{
	sender_fail(sender, failure);
	return check_alive(sender, err);
}

int pmig_sender_hint(struct pmig_sender *sender, struct pmig_error *err)
{
	struct pmig_error failure = {0};
	struct wire_ranges *head;
	uint32_t head_bytes;
	int rc = check_alive(sender, err);

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
	int rc = check_alive(sender, err);

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
static void run_round(struct pmig_sender *sender, enum pmig_epoch_kind kind)
{
	pthread_mutex_lock(&sender->lock);
	for (uint32_t i = 0; i < sender->n_workers; i++)
		sender->workers[i].blocks_done = 0;
	sender->epoch++;
	sender->kind = kind;
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
	total->wire_bytes += part->wire_bytes;
	total->digest += part->digest;
	for (int i = 0; i < PMIG_ENCODINGS; i++) {
		total->pages_by_encoding[i] += part->pages_by_encoding[i];
		total->bytes_by_encoding[i] += part->bytes_by_encoding[i];
	}
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

int pmig_sender_round(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      struct pmig_round *round, struct pmig_error *err)
{
	uint64_t begin_ns = pmig_now_ns();
	struct pmig_round total = {.struct_size = sizeof(total), .kind = kind};
	int rc = check_alive(sender, err);

	if (!rc)
		rc = harvest(sender, &total, err);
	if (rc)
		return rc;
	run_round(sender, kind);
	for (uint32_t i = 0; i < sender->n_workers; i++)
		add_round(&total, &sender->workers[i].round);
	total.epoch = sender->epoch;
	total.duration_ns = pmig_now_ns() - begin_ns;
	*round = total;
	return check_alive(sender, err);
}

int pmig_sender_end(struct pmig_sender *sender, struct pmig_error *err)
{
	struct pmig_error failure = {0};
	int rc = check_alive(sender, err);

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

static void stop_workers(struct pmig_sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	sender->stopping = true;
	pthread_cond_broadcast(&sender->wake);
	pthread_mutex_unlock(&sender->lock);
	for (uint32_t i = 0; i < sender->n_workers; i++) {
		if (sender->workers[i].started)
			pthread_join(sender->workers[i].thread, NULL);
		outbox_fini(&sender->workers[i].box);
	}
}

void pmig_sender_free(struct pmig_sender *sender)
{
	if (!sender)
		return;
	stop_workers(sender);
	if (sender->cancel_fd >= 0)
		close(sender->cancel_fd);
	pthread_cond_destroy(&sender->idle);
	pthread_cond_destroy(&sender->wake);
	pthread_mutex_destroy(&sender->lock);
	free(sender->workers);
	free(sender);
}
