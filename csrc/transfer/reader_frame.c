/* SPDX-License-Identifier: Apache-2.0 */
/* reader_frame.c - what each type of frame means; theory in receiver.h */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/haste.h"
#include "page/hash.h"
#include "transfer/hint.h"
#include "transfer/receiver.h"

static int out_of_place(const struct reader *reader, struct pmig_error *err)
{
	char name[16];

	return pmig_fail(err, -EBADMSG, "%s frame out of place",
			 frame_name(reader->frame->header.type, name));
}

static bool is_session(const struct reader *reader, const uint8_t *session_id)
{
	static const uint8_t any[PMIG_SESSION_ID_BYTES];
	const uint8_t *expected = reader->receiver->session_id;

	return memcmp(expected, any, sizeof(any)) == 0 ||
	       memcmp(expected, session_id, sizeof(any)) == 0;
}

static int on_stream(struct reader *reader, struct pmig_error *err)
{
	const struct pmig_receiver *receiver = reader->receiver;
	const struct wire_region *regions;
	const struct wire_stream *stream;
	int rc = frame_parse_stream(reader->frame, &stream, &regions, err);

	if (rc)
		return rc;
	if (stream->channel_count != receiver->n_readers ||
	    stream->channel_index != reader->index)
		return pmig_fail(err, -EBADMSG,
				 "this is channel %u of %u, expected was "
				 "%" PRIu32 " of %" PRIu32,
				 stream->channel_index, stream->channel_count,
				 reader->index, receiver->n_readers);
	if (!is_session(reader, stream->session_id))
		return pmig_fail(err, -EBADMSG,
				 "the channel belongs to another session");
	reader->opened = true;
	return frame_match_regions(receiver->memory, stream, regions, err);
}

static int read_blob(struct reader *reader, uint8_t **data,
		     struct pmig_error *err)
{
	uint32_t bytes = reader->frame->header.body_bytes;
	const struct wire_blob *blob;
	struct iovec iov;
	int rc = frame_parse_blob(reader->frame, &blob, err);

	if (rc)
		return rc;
	*data = malloc(bytes ? bytes : 1);
	if (!*data)
		return pmig_fail(err, -ENOMEM,
				 "no memory for a blob of %" PRIu32 " bytes",
				 bytes);
	iov = (struct iovec){*data, bytes};
	rc = reader_read(reader, &iov, 1, err);
	if (!rc && pmig_hash(*data, bytes) != blob->body_hash)
		rc = pmig_fail(err, -EBADMSG,
			       "a blob does not match its hash: it was damaged "
			       "on the way");
	if (rc)
		free(*data);
	else if (reader->frame->header.type == PMIG_FRAME_STATE)
		reader->state_digest += blob->body_hash;
	return rc;
}

static int on_blob(struct reader *reader, struct pmig_error *err)
{
	const struct wire_header *header = &reader->frame->header;
	uint8_t *data;
	int rc;

	if (reader->index != 0 ||
	    (reader->in_epoch && header->type == PMIG_FRAME_CONFIG))
		return out_of_place(reader, err);
	rc = read_blob(reader, &data, err);
	if (rc)
		return rc;
	return events_blob(&reader->receiver->events, header->type, data,
			   header->body_bytes, err);
}

static int on_epoch(struct reader *reader, struct pmig_error *err)
{
	const struct wire_epoch *epoch;
	int rc = frame_parse_epoch(reader->frame, &epoch, err);

	if (rc)
		return rc;
	if (reader->in_epoch)
		return out_of_place(reader, err);
	if (epoch->epoch != reader->part.epoch + 1)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 " follows epoch %" PRIu64,
				 epoch->epoch, reader->part.epoch);
	rc = events_enter(&reader->receiver->events, epoch->epoch, epoch->kind,
			  err);
	if (!rc && epoch->kind == PMIG_EPOCH_LATE) {
		pmig_thread_hasten(reader_is_urgent(reader) ? PMIG_HASTE_FAULT
							    : PMIG_HASTE_LINK);
		rc = reader_await_faults(reader, err);
	}
	reader->in_epoch = true;
	reader->frames = 0;
	reader->part = (struct epoch_part){
		.epoch = epoch->epoch,
		.kind = epoch->kind,
	};
	return rc;
}

static int on_epoch_end(struct reader *reader, struct pmig_error *err)
{
	const struct wire_epoch_end *end;
	int rc = frame_parse_epoch_end(reader->frame, &end, err);

	if (rc)
		return rc;
	if (!reader->in_epoch)
		return out_of_place(reader, err);
	reader->part.digest += reader->state_digest;
	reader->part.suspects = reader->suspects;
	reader->part.stales = reader->stales;
	reader->part.wire_bytes = reader->wire_bytes;
	reader->state_digest = 0;
	reader->in_epoch = false;
	rc = epoch_part_check(&reader->part, reader->frames, end, err);
	if (rc)
		return rc;
	return events_part(&reader->receiver->events, &reader->part, err);
}

/* The reader of each channel, and its sender where that is here as well. */
static unsigned int busy_cpus(const struct reader *reader)
{
	return reader->channel->local ? 2 * reader->receiver->n_readers : 0;
}

/* Hints that make no sense are an error; hints that come late are not. */
static int on_ranges(struct reader *reader, struct pmig_error *err)
{
	struct pmig_receiver *receiver = reader->receiver;
	const struct wire_ranges *ranges;
	const struct wire_range *list;
	struct block_range *blocks;
	uint32_t n;
	int rc = frame_parse_ranges(reader->frame, &ranges, &list, err);

	if (rc)
		return rc;
	if (reader->index != 0 || receiver->prefault.started ||
	    reader->in_epoch || reader->part.epoch)
		return out_of_place(reader, err);
	blocks = calloc(ranges->range_count + 1u, sizeof(*blocks));
	if (!blocks)
		return pmig_fail(err, -ENOMEM, "no memory for hints");
	for (n = 0; n < ranges->range_count && !rc; n++)
		rc = hint_blocks(receiver->memory, &list[n], &blocks[n], err);
	if (rc) {
		free(blocks);
		return rc;
	}
	return prefault_start(&receiver->prefault, receiver->memory,
			      &receiver->events, blocks, n, busy_cpus(reader),
			      err);
}

/* A file can be asked whether anything follows its end; a socket cannot. */
static int check_nothing_follows(struct reader *reader, struct pmig_error *err)
{
	uint8_t byte;
	struct iovec iov = {&byte, 1};

	if (!reader->channel->ops->ends)
		return 0;
	if (channel_read(reader->channel, &iov, 1, &reader->wait, NULL) == 0)
		return pmig_fail(err, -EBADMSG,
				 "something follows the end of the stream");
	return 0;
}

static int on_end(struct reader *reader, struct pmig_error *err)
{
	const struct wire_end *end;
	int rc = frame_parse_end(reader->frame, &end, err);

	if (rc)
		return rc;
	if (reader->in_epoch)
		return out_of_place(reader, err);
	if (end->frame_count != reader->sequence)
		return pmig_fail(err, -EBADMSG,
				 "the stream had %" PRIu64 " frames, %" PRIu64
				 " came",
				 end->frame_count, reader->sequence);
	rc = check_nothing_follows(reader, err);
	if (rc)
		return rc;
	reader->ended = true;
	return events_end(&reader->receiver->events, reader->part.epoch, err);
}

static int on_pages(struct reader *reader, struct pmig_error *err)
{
	if (!reader->in_epoch)
		return out_of_place(reader, err);
	return reader->part.kind == PMIG_EPOCH_LATE
		       ? reader_late_pages(reader, err)
		       : reader_pages(reader, err);
}

static int on_outstanding(struct reader *reader, struct pmig_error *err)
{
	if (!reader->in_epoch || reader->index != 0 ||
	    reader->part.kind == PMIG_EPOCH_LATE)
		return out_of_place(reader, err);
	return reader_outstanding(reader, err);
}

/* What is said of the pages that follow, where they are answers. */
static int on_served(struct reader *reader, struct pmig_error *err)
{
	const struct wire_served *served;
	int rc = frame_parse_served(reader->frame, &served, err);

	if (rc)
		return rc;
	if (!reader->in_epoch || reader->part.kind != PMIG_EPOCH_LATE)
		return out_of_place(reader, err);
	reader->waited_ns = served->waited_ns;
	return 0;
}

static int on_unknown(struct reader *reader, struct pmig_error *err)
{
	uint64_t left = reader->frame->header.body_bytes;
	uint8_t sink[4096];
	char name[16];

	if (!frame_skippable(&reader->frame->header))
		return pmig_fail(err, -EBADMSG, "unknown frame of %s",
				 frame_name(reader->frame->header.type, name));
	while (left) {
		struct iovec iov = {sink,
				    left < sizeof(sink) ? left : sizeof(sink)};
		int rc;

		left -= iov.iov_len;
		rc = reader_read(reader, &iov, 1, err);
		if (rc)
			return rc;
	}
	return 0;
}

int reader_frame(struct reader *reader, struct pmig_error *err)
{
	uint8_t type = reader->frame->header.type;

	if (reader->opened == (type == PMIG_FRAME_STREAM))
		return out_of_place(reader, err);
	switch (type) {
	case PMIG_FRAME_STREAM:
		return on_stream(reader, err);
	case PMIG_FRAME_CONFIG:
	case PMIG_FRAME_STATE:
		return on_blob(reader, err);
	case PMIG_FRAME_EPOCH:
		return on_epoch(reader, err);
	case PMIG_FRAME_PAGES:
		return on_pages(reader, err);
	case PMIG_FRAME_OUTSTANDING:
		return on_outstanding(reader, err);
	case PMIG_FRAME_SERVED:
		return on_served(reader, err);
	case PMIG_FRAME_REQUEST:
	case PMIG_FRAME_ARRIVED:
	case PMIG_FRAME_PLACED:
		return out_of_place(reader, err);
	case PMIG_FRAME_EPOCH_END:
		return on_epoch_end(reader, err);
	case PMIG_FRAME_END:
		return on_end(reader, err);
	case PMIG_FRAME_RANGES:
		return on_ranges(reader, err);
	default:
		return on_unknown(reader, err);
	}
}
