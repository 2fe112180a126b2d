/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receiver.h - the receiving side of the page pipeline
 *
 * Theory of operation
 *
 * A receiver has one reader thread for each channel. A reader reads a frame's
 * header and head into a buffer of its own, checks them, and then lets the
 * kernel put raw pages straight into guest memory, where it hashes them.
 * Contents of other encodings go to a buffer and are decoded from there; see
 * decode.h. Within an epoch a block comes once, on one channel, and no reader
 * begins an epoch before the one before is complete everywhere: so the words
 * of the page bitmaps (which pages were written, which are suspect or stale)
 * belong to one reader at a time and need no lock.
 *
 * What the readers tell the outside goes through one bounded queue of events
 * under one lock: a blob as it comes, an epoch once its end has come on every
 * channel, the end of the stream once every channel has ended. A reader that
 * is ahead waits at the start of an epoch until the one before is complete
 * everywhere, and a reader with a blob waits for room in the queue; so a
 * peer cannot make the receiver hold more than a few blobs.
 *
 * The first failure of any reader is kept; it wakes the waiting caller and,
 * through the cancel eventfd, the other readers. Events that were queued
 * before it are still delivered.
 *
 * Memory that the sender announced (RANGES) is allocated ahead of the pages
 * by a few more threads, in big steps, or by the readers; see prefault.h.
 */
#ifndef PMIG_TRANSFER_RECEIVER_H
#define PMIG_TRANSFER_RECEIVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "channel/channel.h"
#include "fault/faults.h"
#include "stream/frame.h"
#include "transfer/decode.h"
#include "transfer/events.h"
#include "transfer/prefault.h"

struct pmig_receiver;

/**
 * struct reader - one channel's reader
 * @receiver:	its owner
 * @index:	number of the channel
 * @thread:	its thread, when @started
 * @channel:	borrowed
 * @wait:	limits within a frame
 * @idle:	limits between frames
 * @frame:	buffer of WIRE_HEADER_BYTES + WIRE_MAX_HEAD_BYTES; owned
 * @sequence:	of the next frame
 * @opened:	STREAM has come
 * @ended:	END has come
 * @in_epoch:	between EPOCH and EPOCH_END
 * @part:	what has come of the running epoch
 * @frames:	PAGES frames of it
 * @state_digest: what STATE frames before the epoch add to its digest
 * @decoder:	of contents that are not raw
 * @suspects:	pages that became suspect here, less those settled here
 * @stales:	likewise of stale pages
 * @wire_bytes:	read so far
 * @staging:	where late pages are put together, PMIG_BLOCK_BYTES; owned,
 *		NULL where there are none
 * @waited_ns:	for which the source had the request that is answered next
 * @told_pages:	late pages that the source knows to be dealt with
 */
struct reader {
	struct pmig_receiver *receiver;
	uint32_t index;
	bool started;
	pthread_t thread;
	struct pmig_channel *channel;
	struct channel_wait wait;
	struct channel_wait idle;
	struct frame *frame;
	uint64_t sequence;
	bool opened;
	bool ended;
	bool in_epoch;
	struct epoch_part part;
	uint64_t frames;
	uint64_t state_digest;
	struct page_decoder decoder;
	uint64_t suspects;
	uint64_t stales;
	uint64_t wire_bytes;
	uint8_t *staging;
	uint64_t waited_ns;
	uint64_t told_pages;
};

/**
 * struct pmig_receiver - see above
 * @memory:	borrowed
 * @n_readers:	number of channels
 * @readers:	one for each channel
 * @cancel_fd:	eventfd, readable once the receiver is cancelled or failed
 * @session_id:	expected; all zero accepts any
 * @written:	per block, pages that hold something other than zero
 * @suspect:	per block, pages whose bytes did not match their hash
 * @stale:	per block, pages that could not be built from what is here
 * @seen:	per block, the epoch and channel that described it last, as
 *		of seen_mark(); others look at it, so it is atomic
 * @described:	per block, pages that took effect in that epoch; belongs to
 *		the reader of that channel
 * @events:	queue to the caller
 * @prefault:	allocates ahead
 * @faults:	has the pages that come late, or NULL; borrowed
 * @blob:	data of the event handed out last; owned
 */
struct pmig_receiver {
	const struct pmig_memory *memory;
	uint32_t n_readers;
	struct reader *readers;
	int cancel_fd;
	uint8_t session_id[PMIG_SESSION_ID_BYTES];
	uint64_t *written;
	uint64_t *suspect;
	uint64_t *stale;
	atomic_uint_least64_t *seen;
	uint64_t *described;
	struct event_queue events;
	struct prefault prefault;
	struct pmig_faults *faults;
	uint8_t *blob;
};

/* The body of a reader thread. */
void *reader_main(void *reader);

/* Take a frame whose head was read and checked; reader_frame.c. */
int reader_frame(struct reader *reader, struct pmig_error *err);

/* Take a PAGES frame whose head was checked; apply.c. */
int reader_pages(struct reader *reader, struct pmig_error *err);

/* apply.c: of these pages of a block, which are doubtful from now on. */
void reader_doubt(struct reader *reader, uint64_t block, uint64_t pages,
		  uint64_t suspect, uint64_t stale);

/* late.c: pages are named that will come late. */
int reader_outstanding(struct reader *reader, struct pmig_error *err);

/* An epoch of late pages begins: wait until they can be placed. */
int reader_await_faults(struct reader *reader, struct pmig_error *err);

/* Take a PAGES frame of such an epoch. */
int reader_late_pages(struct reader *reader, struct pmig_error *err);

/* Does this channel carry answers to faults? */
static inline bool reader_is_urgent(const struct reader *reader)
{
	return reader->receiver->faults &&
	       reader->index == reader->receiver->n_readers - 1;
}

/* The mark of a block that the channel described in its running epoch. */
static inline uint64_t seen_mark(const struct reader *reader)
{
	return reader->part.epoch * PMIG_MAX_CHANNELS + reader->index;
}

/* Read a run of bytes of the running frame. */
int reader_read(struct reader *reader, struct iovec *iov, int n_iov,
		struct pmig_error *err);

#endif
