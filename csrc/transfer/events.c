/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/thread.h"

int events_init(struct event_queue *queue, uint32_t n_channels)
{
	queue->n_channels = n_channels;
	pthread_mutex_init(&queue->lock, NULL);
	return pmig_cond_init(&queue->changed);
}

void events_fini(struct event_queue *queue)
{
	for (unsigned int i = 0; i < queue->n_events; i++) {
		unsigned int slot = (queue->first + i) % EVENT_QUEUE_SLOTS;

		free((void *)queue->slots[slot].data);
	}
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
}

void events_fail(struct event_queue *queue, const struct pmig_error *failure)
{
	pthread_mutex_lock(&queue->lock);
	if (queue->failed.code == 0)
		queue->failed = *failure;
	pthread_cond_broadcast(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
}

static int failure_of(const struct event_queue *queue, struct pmig_error *err)
{
	if (queue->failed.code && err)
		*err = queue->failed;
	return queue->failed.code;
}

/* With the lock held: wait for room and append. */
static int append(struct event_queue *queue, const struct pmig_event *event,
		  struct pmig_error *err)
{
	unsigned int slot;

	while (queue->n_events == EVENT_QUEUE_SLOTS && !queue->failed.code)
		pthread_cond_wait(&queue->changed, &queue->lock);
	if (queue->failed.code)
		return failure_of(queue, err);
	slot = (queue->first + queue->n_events) % EVENT_QUEUE_SLOTS;
	queue->slots[slot] = *event;
	queue->n_events++;
	pthread_cond_broadcast(&queue->changed);
	return 0;
}

int events_blob(struct event_queue *queue, enum pmig_frame_type type,
		uint8_t *data, uint64_t size_bytes, struct pmig_error *err)
{
	const struct pmig_event event = {
		.struct_size = sizeof(event),
		.kind = PMIG_EVENT_BLOB,
		.frame = type,
		.data = data,
		.size_bytes = size_bytes,
	};
	int rc;

	pthread_mutex_lock(&queue->lock);
	rc = append(queue, &event, err);
	pthread_mutex_unlock(&queue->lock);
	if (rc)
		free(data);
	return rc;
}

int events_populated(struct event_queue *queue, struct pmig_error *err)
{
	const struct pmig_event event = {
		.struct_size = sizeof(event),
		.kind = PMIG_EVENT_POPULATED,
	};
	int rc;

	pthread_mutex_lock(&queue->lock);
	rc = append(queue, &event, err);
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

/* With the lock held: an epoch of late pages ends a stream. */
static int check_kind(const struct event_queue *queue, uint64_t epoch,
		      uint32_t kind, struct pmig_error *err)
{
	if (queue->complete_kind == PMIG_EPOCH_LATE)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 " follows a late one", epoch);
	if (kind == PMIG_EPOCH_LATE && queue->complete_kind == PMIG_EPOCH_FUZZY)
		return pmig_fail(err, -EBADMSG,
				 "late epoch %" PRIu64 " follows no sealed one",
				 epoch);
	return 0;
}

int events_enter(struct event_queue *queue, uint64_t epoch, uint32_t kind,
		 struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&queue->lock);
	while (queue->complete + 1 < epoch && !queue->failed.code)
		pthread_cond_wait(&queue->changed, &queue->lock);
	rc = failure_of(queue, err);
	if (!rc && queue->sum.kind && queue->sum.kind != kind)
		rc = pmig_fail(err, -EBADMSG,
			       "epoch %" PRIu64
			       " is of one kind on one channel and of another "
			       "on another",
			       epoch);
	if (!rc)
		rc = check_kind(queue, epoch, kind, err);
	queue->sum.kind = kind;
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

int epoch_part_check(const struct epoch_part *part, uint64_t n_frames,
		     const struct wire_epoch_end *end, struct pmig_error *err)
{
	if (end->epoch != part->epoch || end->kind != part->kind)
		return pmig_fail(err, -EBADMSG,
				 "the end of epoch %" PRIu64
				 " came in epoch %" PRIu64,
				 end->epoch, part->epoch);
	if (end->frame_count != n_frames || end->page_count != part->pages)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 " has %" PRIu64
				 " pages, %" PRIu64 " came",
				 end->epoch, end->page_count, part->pages);
	if (end->digest != part->digest)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 ": the digest differs",
				 end->epoch);
	return 0;
}

static void add_part(struct epoch_part *sum, const struct epoch_part *part)
{
	sum->pages += part->pages;
	sum->zero_pages += part->zero_pages;
	sum->outstanding += part->outstanding;
	sum->digest += part->digest;
	sum->suspects += part->suspects;
	sum->stales += part->stales;
	sum->wire_bytes += part->wire_bytes;
}

/* With the lock held: every channel has sent its part. */
static int complete_epoch(struct event_queue *queue, uint64_t epoch,
			  struct pmig_error *err)
{
	const struct epoch_part *sum = &queue->sum;
	const struct pmig_event event = {
		.struct_size = sizeof(event),
		.kind = PMIG_EVENT_EPOCH,
		.epoch_kind = sum->kind,
		.epoch = epoch,
		.pages = sum->pages,
		.zero_pages = sum->zero_pages,
		.wire_bytes = sum->wire_bytes,
		.digest = sum->digest,
		.suspect_pages = sum->suspects,
		.stale_pages = sum->stales,
	};

	if (sum->kind == PMIG_EPOCH_SEALED && sum->suspects)
		return pmig_fail(err, -EBADMSG,
				 "%" PRIu64 " pages changed while they were "
				 "sent and never came again: something writes "
				 "guest memory that is not tracked",
				 sum->suspects);
	queue->outstanding |= sum->outstanding != 0;
	if (queue->outstanding && sum->kind != PMIG_EPOCH_LATE && sum->pages)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 " has pages although they "
				 "were named as outstanding",
				 epoch);
	queue->complete = epoch;
	queue->complete_kind = sum->kind;
	queue->n_parts = 0;
	queue->sum = (struct epoch_part){0};
	return append(queue, &event, err);
}

int events_part(struct event_queue *queue, const struct epoch_part *part,
		struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&queue->lock);
	add_part(&queue->sum, part);
	if (++queue->n_parts == queue->n_channels)
		rc = complete_epoch(queue, part->epoch, err);
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

/* With the lock held: every channel has sent its END. */
static int complete_stream(struct event_queue *queue, struct pmig_error *err)
{
	const struct pmig_event event = {
		.struct_size = sizeof(event),
		.kind = PMIG_EVENT_END,
		.epoch = queue->complete,
	};

	return append(queue, &event, err);
}

int events_end(struct event_queue *queue, uint64_t epoch,
	       struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&queue->lock);
	if (queue->n_ended++ == 0)
		queue->last_epoch = epoch;
	if (queue->last_epoch != epoch)
		rc = pmig_fail(err, -EBADMSG,
			       "the channels end after different epochs");
	else if (queue->n_ended == queue->n_channels)
		rc = complete_stream(queue, err);
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

/* With the lock held: wait for an event or a failure; false on timeout. */
static bool wait_for_any(struct event_queue *queue, int timeout_ms)
{
	struct timespec at = pmig_deadline(timeout_ms);

	while (!queue->n_events && !queue->failed.code) {
		int rc;

		if (timeout_ms < 0)
			rc = pthread_cond_wait(&queue->changed, &queue->lock);
		else
			rc = pthread_cond_timedwait(&queue->changed,
						    &queue->lock, &at);
		if (rc == ETIMEDOUT)
			return queue->n_events || queue->failed.code;
	}
	return true;
}

int events_take(struct event_queue *queue, int timeout_ms,
		struct pmig_event *event, struct pmig_error *err)
{
	int rc = 0;

	*event = (struct pmig_event){.struct_size = sizeof(*event)};
	pthread_mutex_lock(&queue->lock);
	if (wait_for_any(queue, timeout_ms)) {
		if (queue->n_events) {
			*event = queue->slots[queue->first];
			queue->first = (queue->first + 1) % EVENT_QUEUE_SLOTS;
			queue->n_events--;
			pthread_cond_broadcast(&queue->changed);
		} else {
			rc = failure_of(queue, err);
		}
	}
	pthread_mutex_unlock(&queue->lock);
	return rc;
}
