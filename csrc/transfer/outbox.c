/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

int outbox_init(struct outbox *box, struct pmig_channel *channel,
		const struct channel_wait *wait, struct pace *pace,
		struct pmig_error *err)
{
	box->channel = channel;
	box->wait = *wait;
	box->pace = pace;
	box->slots = calloc(OUTBOX_SLOTS, OUTBOX_SLOT_BYTES);
	box->arena = malloc(OUTBOX_ARENA_BYTES);
	if (!box->slots || !box->arena)
		return pmig_fail(err, -ENOMEM, "no memory for send buffers");
	return 0;
}

void outbox_fini(struct outbox *box)
{
	free(box->arena);
	free(box->slots);
	box->arena = NULL;
	box->slots = NULL;
}

uint32_t outbox_backlog(const struct outbox *box)
{
	return box->watched ? box->backlog_bytes
			    : channel_backlog(box->channel);
}

int outbox_ready(struct outbox *box, struct pmig_error *err)
{
	if (box->n_pieces || box->watched)
		return 0;
	return channel_wait_writable(box->channel, &box->wait, err);
}

int outbox_room(struct outbox *box, uint32_t bytes, uint8_t **room,
		struct pmig_error *err)
{
	int rc = 0;

	if (box->arena_used + bytes > OUTBOX_ARENA_BYTES)
		rc = outbox_flush(box, err);
	*room = box->arena + box->arena_used;
	return rc;
}

void outbox_keep(struct outbox *box, uint32_t bytes)
{
	box->arena_used += bytes;
}

struct frame *outbox_slot(struct outbox *box)
{
	return (void *)(box->slots + (size_t)box->n_slots * OUTBOX_SLOT_BYTES);
}

static void push_piece(struct outbox *box, void *base, size_t bytes)
{
	box->pieces[box->n_pieces++] = (struct iovec){base, bytes};
	box->n_bytes += bytes;
}

/* The next piece is guest memory. */
static void mark_stable(struct outbox *box)
{
	box->stable[box->n_pieces / 64] |= 1ull << box->n_pieces % 64;
}

/* Would another block with all its pages apart still fit? */
static bool is_full(const struct outbox *box)
{
	return box->n_slots == OUTBOX_SLOTS || box->n_bytes >= OUTBOX_BYTES ||
	       box->n_pieces + 1 + PMIG_BLOCK_PAGES > OUTBOX_PIECES;
}

static bool is_link_idle(const struct outbox *box)
{
	return !box->watched && box->n_bytes >= OUTBOX_EAGER_BYTES &&
	       channel_backlog(box->channel) == 0;
}

int outbox_push_pages(struct outbox *box, const struct iovec *bodies,
		      int n_bodies, bool guest_memory, struct pmig_error *err)
{
	struct frame *frame = outbox_slot(box);

	frame_finish(frame);
	if (box->catalogue)
		catalogue_add(box->catalogue, box->wire_bytes + box->n_bytes,
			      frame);
	push_piece(box, frame, frame_bytes(frame));
	for (int i = 0; i < n_bodies; i++) {
		if (guest_memory)
			mark_stable(box);
		push_piece(box, bodies[i].iov_base, bodies[i].iov_len);
	}
	box->n_slots++;
	box->sequence++;
	return is_full(box) || is_link_idle(box) ? outbox_flush(box, err) : 0;
}

int outbox_queue(struct outbox *box, enum pmig_frame_type type,
		 const void *head, uint32_t head_bytes, struct pmig_error *err)
{
	struct frame *frame = outbox_slot(box);

	frame_begin(frame, type, head_bytes, 0, box->sequence);
	memcpy(frame->head, head, head_bytes);
	return outbox_push_pages(box, NULL, 0, false, err);
}

/* A limit is a link that is full: waiting for it counts as being blocked. */
static int wait_for_turn(struct outbox *box, struct pmig_error *err)
{
	uint64_t begin_ns = pmig_now_ns();
	int rc = pace_wait(box->pace, box->n_bytes, box->wait.cancel_fd, err);
	uint64_t waited_ns = pmig_now_ns() - begin_ns;

	box->paced_ns += waited_ns;
	channel_blocked(box->channel, waited_ns);
	return rc;
}

int outbox_flush(struct outbox *box, struct pmig_error *err)
{
	size_t bytes = box->n_bytes;
	int rc;

	if (box->n_pieces == 0)
		return 0;
	if (outbox_backlog(box))
		box->waiting_bytes += bytes;
	rc = wait_for_turn(box, err);
	if (!rc)
		rc = channel_write_marked(box->channel, box->pieces,
					  box->n_pieces, box->stable,
					  &box->wait, err);
	box->n_slots = 0;
	box->n_pieces = 0;
	box->n_bytes = 0;
	box->arena_used = 0;
	memset(box->stable, 0, sizeof(box->stable));
	if (!rc)
		box->wire_bytes += bytes;
	return rc;
}

int outbox_write(struct outbox *box, enum pmig_frame_type type,
		 const void *head, uint32_t head_bytes, const void *body,
		 uint32_t body_bytes, struct pmig_error *err)
{
	struct frame *frame;
	int rc = outbox_flush(box, err);

	if (rc)
		return rc;
	frame = malloc(sizeof(*frame) + head_bytes);
	if (!frame)
		return pmig_fail(err, -ENOMEM, "no memory for a frame");
	frame_begin(frame, type, head_bytes, body_bytes, box->sequence++);
	memcpy(frame->head, head, head_bytes);
	frame_finish(frame);
	if (box->catalogue)
		catalogue_add(box->catalogue, box->wire_bytes, frame);
	push_piece(box, frame, frame_bytes(frame));
	if (body_bytes)
		push_piece(box, (void *)body, body_bytes);
	rc = outbox_flush(box, err);
	free(frame);
	return rc;
}
