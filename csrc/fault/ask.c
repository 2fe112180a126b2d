/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/ask.h"

#include <string.h>

#include "stream/frame.h"

enum {
	LITTLE_BYTES = 1024,
};

void ask_init(struct ask *ask)
{
	*ask = (struct ask){0};
	pthread_mutex_init(&ask->lock, NULL);
}

void ask_fini(struct ask *ask)
{
	pthread_mutex_destroy(&ask->lock);
}

static void attach(struct ask *ask, struct pmig_channel *channel,
		   const struct ask_sink *sink)
{
	pthread_mutex_lock(&ask->lock);
	ask->channel = channel;
	ask->sink = sink;
	ask->sequence = 0;
	ask->broken = false;
	pthread_mutex_unlock(&ask->lock);
}

void ask_attach(struct ask *ask, struct pmig_channel *channel)
{
	attach(ask, channel, NULL);
}

void ask_attach_sink(struct ask *ask, const struct ask_sink *sink)
{
	attach(ask, NULL, sink);
}

/* With the lock held. */
static bool write_frame(struct ask *ask, const struct frame *frame)
{
	struct iovec iov = {(void *)frame, frame_bytes(frame)};
	ssize_t done;

	if (!ask->channel || ask->broken)
		return false;
	done = ask->channel->ops->writev(ask->channel, &iov, 1);
	/* a part of a request cannot be taken back */
	ask->broken = done > 0 && (size_t)done < frame_bytes(frame);
	if (done != (ssize_t)frame_bytes(frame))
		return false;
	ask->sequence++;
	return true;
}

/* With the lock held. */
static bool write_message(struct ask *ask, enum pmig_frame_type type,
			  const void *head, uint32_t head_bytes)
{
	_Alignas(8)
		uint8_t room[WIRE_HEADER_BYTES + sizeof(struct wire_request)];
	struct frame *frame = (void *)room;

	frame_begin(frame, type, head_bytes, 0, ask->sequence);
	if (head_bytes)
		memcpy(frame->head, head, head_bytes);
	frame_finish(frame);
	return write_frame(ask, frame);
}

bool ask_for(struct ask *ask, uint64_t block,
	     const struct wire_request *request)
{
	bool asked = true;

	pthread_mutex_lock(&ask->lock);
	if (ask->sink)
		ask->sink->request(ask->sink->opaque, block, request->pages);
	else
		asked = write_message(ask, PMIG_FRAME_REQUEST, request,
				      sizeof(*request));
	pthread_mutex_unlock(&ask->lock);
	return asked;
}

bool ask_placed(struct ask *ask, uint32_t channel, uint64_t pages)
{
	const struct wire_placed placed = {.pages = pages, .channel = channel};
	bool told;

	pthread_mutex_lock(&ask->lock);
	/* requests must always have room, and this can be said later */
	told = ask->channel && channel_backlog(ask->channel) <= LITTLE_BYTES &&
	       write_message(ask, PMIG_FRAME_PLACED, &placed, sizeof(placed));
	pthread_mutex_unlock(&ask->lock);
	return told;
}

bool ask_no_more(struct ask *ask)
{
	bool told = true;

	pthread_mutex_lock(&ask->lock);
	if (ask->sink)
		ask->sink->no_more(ask->sink->opaque);
	else
		told = write_message(ask, PMIG_FRAME_ARRIVED, NULL, 0);
	pthread_mutex_unlock(&ask->lock);
	return told;
}
