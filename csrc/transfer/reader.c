/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - the thread of one channel; theory in receiver.h */
#include <errno.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "transfer/receiver.h"

/* Between frames a peer may be silent for as long as it likes. */
static int read_header(struct reader *reader, struct pmig_error *err)
{
	struct iovec iov = {&reader->frame->header, WIRE_HEADER_BYTES};
	int rc = channel_wait_readable(reader->channel, &reader->idle, err);

	if (!rc)
		rc = channel_read(reader->channel, &iov, 1, &reader->wait, err);
	if (rc == -ENODATA)
		return pmig_fail(err, -EPIPE,
				 "the peer closed a channel before the end of "
				 "the stream");
	reader->wire_bytes += WIRE_HEADER_BYTES;
	return rc ? rc : frame_check_header(&reader->frame->header, err);
}

static int read_frame(struct reader *reader, struct pmig_error *err)
{
	struct iovec iov;
	int rc = read_header(reader, err);

	if (rc)
		return rc;
	iov = (struct iovec){reader->frame->head,
			     reader->frame->header.head_bytes};
	rc = reader_read(reader, &iov, 1, err);
	if (!rc)
		rc = frame_check_head(reader->frame, reader->sequence, err);
	if (!rc)
		rc = reader_frame(reader, err);
	reader->sequence++;
	return rc;
}

void *reader_main(void *arg)
{
	struct reader *reader = arg;
	struct pmig_error err = {0};
	int rc = 0;

	while (!rc && !reader->ended)
		rc = read_frame(reader, &err);
	if (rc) {
		pmig_error_prefix(&err, "channel %" PRIu32, reader->index);
		events_fail(&reader->receiver->events, &err);
		eventfd_write(reader->receiver->cancel_fd, 1);
	}
	return NULL;
}
