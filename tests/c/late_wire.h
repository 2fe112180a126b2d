/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_wire.h - late pages by hand: a test writes the stream, as slowly and as
 * wrongly as it likes, and the real receiver takes it
 */
#ifndef TESTS_C_LATE_WIRE_H
#define TESTS_C_LATE_WIRE_H

#include "backing.h"
#include "stream/frame.h"

enum {
	LATE_WIRE_BLOCKS = 16, /* two pages of 2 MiB */
	LATE_WIRE_BYTES = LATE_WIRE_BLOCKS * PMIG_BLOCK_BYTES,
};

/**
 * struct late_wire - a destination, and where its streams come from
 * @guest:	its memory
 * @memory:	likewise
 * @faults:	of it
 * @n_channels:	how many
 * @fds:	both ends of each; the test writes to the first
 * @channels:	at the second
 * @receiver:	reads them
 * @sequence:	of the next frame of each
 * @is_broken:	nobody reads any more
 */
struct late_wire {
	struct backed guest;
	struct pmig_memory *memory;
	struct pmig_faults *faults;
	uint32_t n_channels;
	int fds[2][2];
	struct pmig_channel *channels[2];
	struct pmig_receiver *receiver;
	uint64_t sequence[2];
	bool is_broken;
};

/* A receiver that has read STREAM on every channel. */
void late_wire_open(struct late_wire *wire, enum backing backing,
		    uint32_t n_channels);
void late_wire_close(struct late_wire *wire);

/* A frame without its body, on one channel. */
void late_wire_frame(struct late_wire *wire, uint32_t channel,
		     enum pmig_frame_type type, const void *head,
		     uint32_t head_bytes, uint32_t body_bytes);

/* More bytes of a body. */
void late_wire_bytes(struct late_wire *wire, uint32_t channel,
		     const void *bytes, size_t n_bytes);

/* Until the receiver has read all that was written. */
void late_wire_drain(const struct late_wire *wire, uint32_t channel);

/* Sealed epoch 1 names these pages of every block; then the guest may run. */
void late_wire_depart(struct late_wire *wire, uint64_t pages);

/* The late epoch begins on every channel. */
void late_wire_begin(struct late_wire *wire);

/* Raw pages of a block, each filled with one byte; true: with their bodies. */
void late_wire_pages(struct late_wire *wire, uint32_t channel, uint64_t block,
		     uint64_t pages, uint8_t fill, bool bodies);

/* Wait for an event of the receiver. */
void late_wire_wait(struct late_wire *wire, struct pmig_event *event);

/* Is a page of the guest filled with this byte? Touches it. */
bool late_wire_holds(const struct late_wire *wire, uint64_t page, uint8_t fill);

#endif
