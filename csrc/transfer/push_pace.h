/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_pace.h - as much on the way as fills the link, and no more
 *
 * Theory of operation
 *
 * What is pushed must not stand in the way of answers to faults: in the
 * queue of the interface, or of the narrowest link on the way, a
 * first-in-first-out that holds tens of milliseconds. So a pusher sends at
 * SHARE of the rate of the link, and each frame apart from the others: then
 * no queue holds more than one of them. It is the kernel that keeps the rate,
 * by a timer of its own, since a thread that sleeps for microseconds wakes
 * when a processor is free. What waits for its turn there is in the way of
 * nobody, because answers have another socket.
 *
 * Every frame costs both sides processor time, and a guest that has all that
 * it uses asks for nothing. So the longer nobody asked, the longer frames are:
 * a thousandth of that time, up to MAX_FRAME; the next request makes them short
 * again.
 *
 * The rate of the link is what was acknowledged while there was a queue. So:
 *
 *	learn	with a window of rate x (round trip + DELAY), which by Little's
 *		law makes a queue of DELAY, until the rate is known
 *	keep	SHARE of it, while no more is under way than fits a round trip
 *	drain	a queue has come to stand all the same: the link is slower, and
 *		its rate what was acknowledged meanwhile. Below it for a moment
 *	raise	now and then by a little, by twice as much after each time that
 *		made no queue: the link may have become faster. Beyond what
 *		made one last, it is tried more rarely
 *
 * A pusher whose window is never the limit is limited by processors, and not
 * held back here (but see push_hold.h). Where the kernel cannot keep a rate,
 *learning goes on for ever.
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
	/* a queue this long, for a whole interval, is one that stands */
	PUSH_STANDING_NS = 180 * 1000,
	/* and one this long, for that long, is not waited for */
	PUSH_PANIC_NS = 800 * 1000,
	PUSH_PANIC_AFTER_NS = 3 * 1000 * 1000,
	PUSH_RAISE_EVERY_NS = 100 * 1000 * 1000,
	PUSH_PROBE_EVERY_NS = 500 * 1000 * 1000,
	/* what waits in the socket, while the thread may be kept from running
	 */
	PUSH_STORE_NS = 1500 * 1000,
	/* of one frame on the link, and where nobody asks for anything */
	PUSH_FRAME_NS = 105 * 1000,
	PUSH_MAX_FRAME_NS = 500 * 1000,
	/* since the last request, for each frame_ns */
	PUSH_QUIET_FRAMES = 1000,
	/* so many intervals in which nothing was waited for: not the link */
	PUSH_FREE_INTERVALS = 10,
};

/**
 * struct push_pace - see above
 * @window_bytes: that may be written and not acknowledged
 * @rate_bytes_per_s: of the link; 0: not known
 * @frame_ns:	of one frame on the link
 * @may_space:	the kernel can keep a rate, as far as is known
 * @space_bytes_per_s: that it is to keep; 0: none
 * @draining:	below the rate for this interval
 * @raise:	share by which to raise next
 * @full_bytes_per_s: at which a queue came to stand last; 0: never
 * @raised_ns:	when that, or a queue, happened last
 * @since_ns:	beginning of the interval; 0: there is none
 * @since_bytes: acknowledged by then
 * @least_bytes: least that was under way in the interval
 * @n_free:	intervals, one after the other, in which the window was not the
 *		limit
 * @n_frames:	of the interval
 * @n_waits:	of those, that had to wait
 */
struct push_pace {
	uint64_t window_bytes;
	double rate_bytes_per_s;
	uint64_t frame_ns;
	bool may_space;
	double space_bytes_per_s;
	bool draining;
	double raise;
	double full_bytes_per_s;
	uint64_t raised_ns;
	uint64_t since_ns;
	uint64_t since_bytes;
	uint64_t least_bytes;
	unsigned int n_free;
	unsigned int n_frames;
	unsigned int n_waits;
};

void push_pace_init(struct push_pace *pace);

/**
 * struct push_sight - what is seen of a channel
 * @now_ns:	when
 * @written_bytes: ever
 * @pushed_pages: in this epoch
 * @placed_pages: of those, that the receiver says it is done with; 0: it has
 *		said nothing
 * @unsent_bytes: of those, that wait in the socket
 * @in_flight_bytes: of those, under way and not acknowledged
 * @round_trip_ns: the shortest there was; 0: not known
 * @quiet_ns:	since a page was asked for
 */
struct push_sight {
	uint64_t now_ns;
	uint64_t written_bytes;
	uint64_t pushed_pages;
	uint64_t placed_pages;
	uint64_t unsent_bytes;
	uint64_t in_flight_bytes;
	uint64_t round_trip_ns;
	uint64_t quiet_ns;
};

/*
 * A frame is due; waited: there was no room for it at first. True when
 * @space_bytes_per_s has changed.
 */
bool push_pace_learn(struct push_pace *pace, const struct push_sight *sight,
		     bool waited);

/* The kernel does not keep a rate after all. */
void push_pace_cannot_space(struct push_pace *pace);

/* How long until bytes more fit, ns; 0: they do. */
uint64_t push_pace_wait_ns(const struct push_pace *pace,
			   const struct push_sight *sight, uint64_t bytes);

/* Pages that a frame should have, up to limit, where one takes page_bytes. */
unsigned int push_pace_pages(const struct push_pace *pace, double page_bytes,
			     unsigned int limit);

#endif
