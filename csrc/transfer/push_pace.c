/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/push_pace.h"

enum {
	/* frames that fill the window: while one is made others are sent */
	FRAMES_PER_WINDOW = 4,
	/* where nothing is known of the rate, look again after this long */
	GUESS_NS = 100 * 1000,
};

/* Weight of the newest interval. */
static const double NEWEST = 0.5;
static const double GROWTH = 1.5;

void push_pace_init(struct push_pace *pace)
{
	*pace = (struct push_pace){.window_bytes = PUSH_START_WINDOW_BYTES};
}

static uint64_t bounded(double bytes)
{
	if (bytes < PUSH_MIN_WINDOW_BYTES)
		return PUSH_MIN_WINDOW_BYTES;
	if (bytes > PUSH_MAX_WINDOW_BYTES)
		return PUSH_MAX_WINDOW_BYTES;
	return (uint64_t)bytes;
}

static void set_window(struct push_pace *pace, uint64_t round_trip_ns)
{
	double rate = pace->rate_bytes_per_s;
	double window = (double)pace->window_bytes;
	double queued_ns = 1e9 * window / rate - (double)round_trip_ns;

	if (queued_ns < PUSH_DELAY_NS / 2)
		pace->window_bytes = bounded(GROWTH * window);
	else
		pace->window_bytes =
			bounded(rate * (double)(round_trip_ns + PUSH_DELAY_NS) /
				1e9);
}

static void begin(struct push_pace *pace, uint64_t now_ns, uint64_t bytes)
{
	pace->since_ns = now_ns;
	pace->since_bytes = bytes;
	pace->n_frames = 0;
	pace->n_waits = 0;
}

static void end(struct push_pace *pace, const struct push_sight *sight,
		uint64_t bytes)
{
	double ns = (double)(sight->now_ns - pace->since_ns);
	double rate = 1e9 * (double)(bytes - pace->since_bytes) / ns;
	double before = pace->rate_bytes_per_s;

	/* half of the frames found room: something else is the limit */
	if (2 * pace->n_waits < pace->n_frames || rate <= 0)
		return;
	pace->rate_bytes_per_s =
		before > 0 ? before + NEWEST * (rate - before) : rate;
	set_window(pace, sight->round_trip_ns);
}

void push_pace_learn(struct push_pace *pace, const struct push_sight *sight,
		     bool waited)
{
	uint64_t bytes = sight->written_bytes - sight->in_flight_bytes;

	if (!pace->since_ns)
		begin(pace, sight->now_ns, bytes);
	pace->n_frames++;
	pace->n_waits += waited;
	if (sight->now_ns - pace->since_ns < PUSH_INTERVAL_NS ||
	    pace->n_frames < PUSH_INTERVAL_FRAMES)
		return;
	end(pace, sight, bytes);
	begin(pace, sight->now_ns, bytes);
}

uint64_t push_pace_wait_ns(const struct push_pace *pace,
			   const struct push_sight *sight, uint64_t bytes)
{
	uint64_t over = sight->in_flight_bytes + bytes;

	/* one frame always may go */
	if (!sight->in_flight_bytes || over <= pace->window_bytes)
		return 0;
	if (pace->rate_bytes_per_s <= 0)
		return GUESS_NS;
	return 1 + (uint64_t)(1e9 * (double)(over - pace->window_bytes) /
			      pace->rate_bytes_per_s);
}

unsigned int push_pace_pages(const struct push_pace *pace,
			     uint64_t raw_page_bytes, unsigned int limit)
{
	uint64_t n = pace->window_bytes / FRAMES_PER_WINDOW / raw_page_bytes;

	if (n < 1)
		return 1;
	return n < limit ? (unsigned int)n : limit;
}
