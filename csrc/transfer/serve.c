/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - late pages that were asked for; theory in sender_late.h */
#include <errno.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/haste.h"
#include "transfer/sender.h"

enum {
	REQUEST_BYTES = WIRE_HEADER_BYTES + sizeof(struct wire_request),
};

/* A message of the destination, in a buffer of REQUEST_BYTES. */
static int read_message(struct send_worker *worker, struct frame *frame,
			uint64_t sequence, struct pmig_error *err)
{
	struct iovec iov = {&frame->header, WIRE_HEADER_BYTES};
	struct pmig_channel *channel = worker->box.channel;
	struct channel_wait idle = worker->box.wait;
	int rc;

	/* a guest that needs nothing may be silent for as long as it likes */
	idle.stall_ms = -1;
	rc = channel_wait_readable(channel, &idle, err);
	if (!rc)
		rc = channel_read(channel, &iov, 1, &worker->box.wait, err);
	if (!rc)
		rc = frame_check_header(&frame->header, err);
	if (!rc && (frame->header.head_bytes > sizeof(struct wire_request) ||
		    frame->header.body_bytes))
		rc = pmig_fail(err, -EBADMSG, "a request of %u bytes",
			       frame->header.head_bytes);
	if (rc)
		return rc == -ENODATA ? pmig_fail(err, -EPIPE,
						  "the destination closed the "
						  "urgent channel")
				      : rc;
	iov = (struct iovec){frame->head, frame->header.head_bytes};
	rc = channel_read(channel, &iov, 1, &worker->box.wait, err);
	return rc ? rc : frame_check_head(frame, sequence, err);
}

static int send_pages(struct send_worker *worker, uint64_t block,
		      uint64_t pages, struct pmig_error *err)
{
	int rc =
		pages ? send_block(worker, block, pages, ~UINT64_C(0), err) : 0;

	return rc ? rc : outbox_flush(&worker->box, err);
}

static int say_served(struct send_worker *worker, uint64_t read_ns,
		      struct pmig_error *err)
{
	const struct wire_served served = {
		.waited_ns = pmig_now_ns() - read_ns,
	};

	return outbox_queue(&worker->box, PMIG_FRAME_SERVED, &served,
			    sizeof(served), err);
}

/* Those behind the page that was asked for, in its block and the next. */
static int send_neighbours(struct send_worker *worker, uint64_t page,
			   uint32_t n, struct pmig_error *err)
{
	struct late_pages *late = &worker->sender->late.pages;
	uint64_t n_blocks = worker->sender->memory->n_blocks;
	int rc = 0;

	for (page++; n && !rc; page += PMIG_BLOCK_PAGES) {
		uint64_t block = page / PMIG_BLOCK_PAGES;
		unsigned int first = (unsigned int)(page % PMIG_BLOCK_PAGES);
		unsigned int room = PMIG_BLOCK_PAGES - first;
		unsigned int count = n < room ? n : room;
		uint64_t pages;

		if (block >= n_blocks)
			break;
		pages = late_pages_take(late, block,
					pmig_word_mask(first, count));
		worker->sender->late.stats.neighbour_pages +=
			(uint64_t)__builtin_popcountll(pages);
		rc = send_pages(worker, block, pages, err);
		n -= count;
		page -= first;
	}
	return rc;
}

/* A page that is on its way already, or was sent, needs no answer. */
static int answer(struct send_worker *worker, uint64_t block,
		  const struct wire_request *request, uint64_t read_ns,
		  struct pmig_error *err)
{
	struct pmig_sender *sender = worker->sender;
	struct sender_late *late = &sender->late;
	unsigned int lowest = (unsigned int)__builtin_ctzll(request->pages);
	uint64_t page = block * PMIG_BLOCK_PAGES + lowest;
	uint64_t pages;
	int rc = 0;

	if (request->flags & WIRE_REQUEST_INDEPENDENT) {
		pmig_bits_or(&sender->independent[block], request->pages);
		late_pages_owe(&late->pages, block, request->pages, true);
		late->stats.refused_pages +=
			(uint64_t)__builtin_popcountll(request->pages);
	}
	pages = late_pages_take(&late->pages, block, request->pages);
	late->asked_ns = read_ns;
	late->stats.requests++;
	late->stats.answered_pages += (uint64_t)__builtin_popcountll(pages);
	if (pages)
		rc = say_served(worker, read_ns, err);
	if (!rc && pages)
		rc = send_pages(worker, block, pages, err);
	if (rc || request->flags & WIRE_REQUEST_INDEPENDENT ||
	    late->pages.push == PMIG_PUSH_NONE)
		return rc;
	rc = send_neighbours(worker, page,
			     prefetch_window(&late->prefetch, page), err);
	late_pages_focus(&late->pages, block);
	return rc;
}

static int on_placed(struct send_worker *worker, const struct frame *frame,
		     struct pmig_error *err)
{
	struct pmig_sender *sender = worker->sender;
	const struct wire_placed *placed;
	int rc = frame_parse_placed(frame, sender->n_workers, &placed, err);

	if (!rc)
		sender->workers[placed->channel].placed_pages = placed->pages;
	return rc;
}

static int on_message(struct send_worker *worker, const struct frame *frame,
		      bool *over, struct pmig_error *err)
{
	const struct wire_request *request;
	uint64_t read_ns = pmig_now_ns(), block;
	char name[16];
	int rc;

	switch (frame->header.type) {
	case PMIG_FRAME_REQUEST:
		rc = frame_parse_request(frame, worker->sender->memory,
					 &request, &block, err);
		return rc ? rc : answer(worker, block, request, read_ns, err);
	case PMIG_FRAME_PLACED:
		return on_placed(worker, frame, err);
	case PMIG_FRAME_ARRIVED:
		*over = true;
		return frame_parse_arrived(frame, err);
	default:
		return pmig_fail(err, -EBADMSG, "%s frame among requests",
				 frame_name(frame->header.type, name));
	}
}

int send_answers(struct send_worker *worker, struct pmig_error *err)
{
	_Alignas(8) uint8_t room[REQUEST_BYTES];
	struct frame *frame = (void *)room;
	uint64_t sequence = 0;
	bool over = false;
	int rc = 0;

	/* an answer is written whatever waits */
	worker->box.watched = true;
	pmig_thread_hasten(PMIG_HASTE_FAULT);
	while (!rc && !over) {
		rc = read_message(worker, frame, sequence++, err);
		if (!rc)
			rc = on_message(worker, frame, &over, err);
		publish_progress(worker, 0, worker->round.sent_pages);
	}
	if (over)
		sender_late_wake(&worker->sender->late, true);
	return rc;
}
