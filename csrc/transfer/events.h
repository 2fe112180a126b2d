/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - from the readers to the caller of pmig_receiver_wait()
 *
 * Also where the readers meet: the queue knows which epoch is complete on
 * every channel.
 */
#ifndef PMIG_TRANSFER_EVENTS_H
#define PMIG_TRANSFER_EVENTS_H

#include <pthread.h>

#include "stream/wire.h"

enum {
	/* blobs may be large, so few of them wait at a time */
	EVENT_QUEUE_SLOTS = 4,
};

/*
 * What one channel received of one epoch; also the sum over channels. A page
 * may become suspect or stale on one channel and be settled on another: the
 * parts of these two may be below zero, modulo 2^64; their sums are not.
 */
struct epoch_part {
	uint64_t epoch;
	uint32_t kind;
	uint64_t pages;
	uint64_t zero_pages;
	uint64_t outstanding; /* frames that name pages */
	uint64_t digest;
	uint64_t suspects;
	uint64_t stales;
	uint64_t wire_bytes;
};

/* Is a part, of so many PAGES frames, what its end says? -EBADMSG: it isn't. */
int epoch_part_check(const struct epoch_part *part, uint64_t n_frames,
		     const struct wire_epoch_end *end, struct pmig_error *err);

/**
 * struct event_queue - bounded queue, failure, and the epoch barrier
 * @lock:	guards all members
 * @changed:	something below changed
 * @slots:	ring of events; the data of a BLOB is owned by the queue
 * @first:	oldest event
 * @n_events:	events in the ring
 * @n_channels:	channels that take part
 * @complete:	newest epoch that is complete on every channel
 * @complete_kind: its kind, 0 before the first
 * @outstanding: an epoch named pages that come late
 * @sum:	of the parts that have come of epoch @complete + 1
 * @n_parts:	how many
 * @n_ended:	channels that have ended
 * @last_epoch:	after which the first of them ended
 * @failed:	first failure; code 0 while there is none
 */
struct event_queue {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct pmig_event slots[EVENT_QUEUE_SLOTS];
	unsigned int first;
	unsigned int n_events;
	uint32_t n_channels;
	uint64_t complete;
	uint32_t complete_kind;
	bool outstanding;
	struct epoch_part sum;
	uint32_t n_parts;
	uint32_t n_ended;
	uint64_t last_epoch;
	struct pmig_error failed;
};

int events_init(struct event_queue *queue, uint32_t n_channels);
void events_fini(struct event_queue *queue);

/* Keep the first failure and wake everybody. */
void events_fail(struct event_queue *queue, const struct pmig_error *failure);

/* Queue a blob; takes data over, also on failure. Waits for room. */
int events_blob(struct event_queue *queue, enum pmig_frame_type type,
		uint8_t *data, uint64_t size_bytes, struct pmig_error *err);

/* The announced memory is allocated. Waits for room. */
int events_populated(struct event_queue *queue, struct pmig_error *err);

/* Wait until epoch - 1 is complete everywhere; the kinds must agree. */
int events_enter(struct event_queue *queue, uint64_t epoch, uint32_t kind,
		 struct pmig_error *err);

/*
 * One channel's part is complete; the last one queues the epoch's event.
 * -EBADMSG when a sealed epoch leaves suspect pages.
 */
int events_part(struct event_queue *queue, const struct epoch_part *part,
		struct pmig_error *err);

/* One channel has ended after epoch; the last one queues the END event. */
int events_end(struct event_queue *queue, uint64_t epoch,
	       struct pmig_error *err);

/* Take the oldest event, or the failure once there is none. */
int events_take(struct event_queue *queue, int timeout_ms,
		struct pmig_event *event, struct pmig_error *err);

#endif
