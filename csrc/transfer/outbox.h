/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox.h - frames on their way into one channel
 *
 * Frames are gathered and written together, so that a round over scattered
 * pages does not pay one system call for each block. Heads are built in
 * slots of the outbox; page bodies are pointed to where they lie in guest
 * memory and are read by the kernel when the outbox is written. All room is
 * set aside once: nothing here allocates after outbox_init().
 */
#ifndef PMIG_TRANSFER_OUTBOX_H
#define PMIG_TRANSFER_OUTBOX_H

#include "channel/channel.h"
#include "stream/frame.h"
#include "transfer/catalogue.h"
#include "transfer/pace.h"

enum {
	/* PAGES frames gathered at most; a scattered round uses them all */
	OUTBOX_SLOTS = 64,
	/* header and largest head of a PAGES frame, kept 8-byte aligned */
	OUTBOX_SLOT_BYTES = WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_BYTES,
	/* one piece for each head, and for each run of pages behind it */
	OUTBOX_PIECES = 1024,
	/*
	 * Written when this much is gathered, a block in which nothing is made
	 * small: large enough that the cost of the call vanishes, small enough
	 * that pages are still in the second-level cache from hashing when the
	 * kernel copies them.
	 */
	OUTBOX_BYTES = 256 << 10,
	/* the same where nothing waits for the link, which would idle */
	OUTBOX_EAGER_BYTES = 64 << 10,
	/* contents that lie in no guest memory: a few blocks of them */
	OUTBOX_ARENA_BYTES = 2 << 20,
};
static_assert(OUTBOX_SLOT_BYTES % 8 == 0, "slots stay aligned");

/**
 * struct outbox - see above
 * @channel:	where it is written to
 * @wait:	how long writing may take
 * @pace:	the bandwidth limit; borrowed
 * @catalogue:	is told where frames are, or NULL; borrowed
 * @watched:	whoever fills it looks at the channel before each frame, and
 *		writes each at once: nothing of that is done here again
 * @backlog_bytes: that were waiting then
 * @sequence:	number of the next frame
 * @wire_bytes:	bytes written so far
 * @waiting_bytes: of those, what came while there was a backlog
 * @paced_ns:	waited for the bandwidth limit
 * @arena:	room for contents, OUTBOX_ARENA_BYTES; owned
 * @arena_used:	bytes of it that queued frames point to
 * @slots:	room for heads, OUTBOX_SLOTS of OUTBOX_SLOT_BYTES; owned
 * @n_slots:	slots in use
 * @pieces:	what to write
 * @stable:	bit i: piece i is guest memory, see channel_write_marked()
 * @n_pieces:	pieces in use
 * @n_bytes:	bytes of the pieces in use
 */
struct outbox {
	struct pmig_channel *channel;
	struct channel_wait wait;
	struct pace *pace;
	struct catalogue *catalogue;
	bool watched;
	uint32_t backlog_bytes;
	uint64_t sequence;
	uint64_t wire_bytes;
	uint64_t waiting_bytes;
	atomic_uint_least64_t paced_ns;
	uint8_t *arena;
	uint32_t arena_used;
	uint8_t *slots;
	unsigned int n_slots;
	struct iovec pieces[OUTBOX_PIECES];
	uint64_t stable[OUTBOX_PIECES / 64];
	int n_pieces;
	size_t n_bytes;
};

/* channel and pace must outlive the outbox. */
int outbox_init(struct outbox *box, struct pmig_channel *channel,
		const struct channel_wait *wait, struct pace *pace,
		struct pmig_error *err);
void outbox_fini(struct outbox *box);

/* Bytes that were written before and wait: as they are, or were seen. */
uint32_t outbox_backlog(const struct outbox *box);

/*
 * Call before looking at the pages of a frame. Where the channel is full and
 * nothing is queued, this waits: pages that were hashed before such a wait
 * would have left the cache when the kernel copies them.
 */
int outbox_ready(struct outbox *box, struct pmig_error *err);

/*
 * Room for contents of the next frame, bytes of it, at most
 * OUTBOX_ARENA_BYTES; writes the outbox when there is too little.
 */
int outbox_room(struct outbox *box, uint32_t bytes, uint8_t **room,
		struct pmig_error *err);

/* The first bytes of the room are in use until the outbox is written. */
void outbox_keep(struct outbox *box, uint32_t bytes);

/* Room for the head of one PAGES frame; never NULL. */
struct frame *outbox_slot(struct outbox *box);

/*
 * Queue the frame in the slot just handed out, its bodies being n_bodies
 * runs of guest memory, or else of the room; writes the outbox when it is
 * full.
 */
int outbox_push_pages(struct outbox *box, const struct iovec *bodies,
		      int n_bodies, bool guest_memory, struct pmig_error *err);

/* Queue a frame with a head as small as that of a PAGES frame, and no body. */
int outbox_queue(struct outbox *box, enum pmig_frame_type type,
		 const void *head, uint32_t head_bytes, struct pmig_error *err);

/* Write what is queued, then a frame of any type and its body. */
int outbox_write(struct outbox *box, enum pmig_frame_type type,
		 const void *head, uint32_t head_bytes, const void *body,
		 uint32_t body_bytes, struct pmig_error *err);

/* Write what is queued. */
int outbox_flush(struct outbox *box, struct pmig_error *err);

#endif
