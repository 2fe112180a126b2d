/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_pace.h - as much on the way as fills the link, and no more
 *
 * Theory of operation
 *
 * What is pushed must not stand in the way of answers to faults: in the
 * queue of the socket, of the interface, or of the narrowest link on the way,
 * a first-in-first-out that holds tens of milliseconds. So a pusher lets no
 * more bytes be under way, unacknowledged, than
 *
 *	window = rate x (round trip + DELAY)
 *
 * where the round trip is the shortest that the path ever had. By Little's
 * law bytes under way are rate times delay: with this window the link is
 * never idle, and what is pushed adds DELAY to the way of anything else.
 *
 * The rate is what was acknowledged while the window was the limit. While
 * the delay that the window makes is below half of what it may be, the window
 * grows by half; above, the formula holds. A pusher that never has to wait
 * for acknowledgements is limited by processors, and not held back.
 *
 * Pure: no clock, no I/O. One object belongs to one thread.
 */
#ifndef PMIG_TRANSFER_PUSH_PACE_H
#define PMIG_TRANSFER_PUSH_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PUSH_DELAY_NS = 300 * 1000,
	PUSH_MIN_WINDOW_BYTES = 24 << 10,
	PUSH_START_WINDOW_BYTES = 64 << 10,
	PUSH_MAX_WINDOW_BYTES = 64 << 20,
	/* the rate is measured over this long, and so many frames */
	PUSH_INTERVAL_NS = 10 * 1000 * 1000,
	PUSH_INTERVAL_FRAMES = 16,
};

/**
 * struct push_pace - see above
 * @window_bytes: that may be under way
 * @rate_bytes_per_s: acknowledged while that was the limit; 0: it never was
 * @since_ns:	beginning of the interval; 0: there is none
 * @since_bytes: acknowledged by then
 * @n_frames:	of the interval
 * @n_waits:	of those, that had to wait
 */
struct push_pace {
	uint64_t window_bytes;
	double rate_bytes_per_s;
	uint64_t since_ns;
	uint64_t since_bytes;
	unsigned int n_frames;
	unsigned int n_waits;
};

void push_pace_init(struct push_pace *pace);

/**
 * struct push_sight - what is seen of a channel
 * @now_ns:	when
 * @written_bytes: ever
 * @in_flight_bytes: of those, not acknowledged
 * @round_trip_ns: the shortest there was; 0: not known
 */
struct push_sight {
	uint64_t now_ns;
	uint64_t written_bytes;
	uint64_t in_flight_bytes;
	uint64_t round_trip_ns;
};

/* A frame is due; waited: there was no room for it at first. */
void push_pace_learn(struct push_pace *pace, const struct push_sight *sight,
		     bool waited);

/* How long until bytes more fit, ns; 0: they do. */
uint64_t push_pace_wait_ns(const struct push_pace *pace,
			   const struct push_sight *sight, uint64_t bytes);

/* Pages of raw_page_bytes that a frame should have, 1 to limit. */
unsigned int push_pace_pages(const struct push_pace *pace,
			     uint64_t raw_page_bytes, unsigned int limit);

#endif
