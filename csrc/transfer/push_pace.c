/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/push_pace.h"

enum {
	/* frames that fill the window: while one is made others are sent */
	FRAMES_PER_WINDOW = 4,
	/* less costs processors, and those cost the link its rate */
	MIN_PAGES = 2,
	/* where nothing is known of the rate, look again after this long */
	GUESS_NS = 100 * 1000,
};

/* Weight of the newest interval. */
static const double NEWEST = 0.5;
static const double GROWTH = 1.5;
/* Of the rate of the link. */
static const double SHARE = 0.99;
static const double DRAIN_SHARE = 0.9;
/* Of what was asked for: less came, so that more would not come either. */
static const double USED_SHARE = 0.97;
static const double FIRST_RAISE = 0.02;
static const double MAX_RAISE = 0.5;
/* A peer that is kept from running for a moment is not a slow link. */
static const double MAX_FALL = 0.96;

void push_pace_init(struct push_pace *pace)
{
	*pace = (struct push_pace){
		.window_bytes = PUSH_START_WINDOW_BYTES,
		.frame_ns = PUSH_FRAME_NS,
		.raise = FIRST_RAISE,
		.may_space = true,
	};
}

void push_pace_cannot_space(struct push_pace *pace)
{
	push_pace_init(pace);
	pace->may_space = false;
}

static uint64_t bounded(double bytes)
{
	if (bytes < PUSH_MIN_WINDOW_BYTES)
		return PUSH_MIN_WINDOW_BYTES;
	if (bytes > PUSH_MAX_WINDOW_BYTES)
		return PUSH_MAX_WINDOW_BYTES;
	return (uint64_t)bytes;
}

/* Bytes that a rate brings in so long. */
static double in(double rate_bytes_per_s, uint64_t ns)
{
	return rate_bytes_per_s * (double)ns / 1e9;
}

static void begin(struct push_pace *pace, uint64_t now_ns, uint64_t bytes)
{
	pace->since_ns = now_ns;
	pace->since_bytes = bytes;
	pace->least_bytes = UINT64_MAX;
	pace->n_frames = 0;
	pace->n_waits = 0;
}

/* ---- frames ------------------------------------------------------------- */

/* Longer frames are a longer queue, where there is one. */
static uint64_t stretched(const struct push_pace *pace, uint64_t ns)
{
	return ns + 2 * (pace->frame_ns - PUSH_FRAME_NS);
}

/* While the rate is kept. */
static void fit_window(struct push_pace *pace, const struct push_sight *sight)
{
	pace->window_bytes = bounded(
		in(pace->space_bytes_per_s,
		   sight->round_trip_ns + stretched(pace, PUSH_STORE_NS)));
}

static void fit_frame(struct push_pace *pace, const struct push_sight *sight)
{
	uint64_t ns = sight->quiet_ns / PUSH_QUIET_FRAMES;

	if (ns < PUSH_FRAME_NS)
		ns = PUSH_FRAME_NS;
	if (ns > PUSH_MAX_FRAME_NS)
		ns = PUSH_MAX_FRAME_NS;
	pace->frame_ns = ns;
	if (pace->space_bytes_per_s > 0)
		fit_window(pace, sight);
}

/* ---- learn: the window makes the queue --------------------------------- */

static void set_window(struct push_pace *pace, uint64_t round_trip_ns)
{
	double rate = pace->rate_bytes_per_s;
	double window = (double)pace->window_bytes;
	double queued_ns = 1e9 * window / rate - (double)round_trip_ns;

	if (queued_ns < PUSH_DELAY_NS / 2)
		pace->window_bytes = bounded(GROWTH * window);
	else
		pace->window_bytes =
			bounded(in(rate, round_trip_ns + PUSH_DELAY_NS));
}

static void learn_rate(struct push_pace *pace, const struct push_sight *sight,
		       double rate)
{
	double before = pace->rate_bytes_per_s;

	pace->rate_bytes_per_s =
		before > 0 ? before + NEWEST * (rate - before) : rate;
	set_window(pace, sight->round_trip_ns);
}

/* ---- keep, drain, raise ------------------------------------------------ */

static void keep(struct push_pace *pace, const struct push_sight *sight,
		 double share)
{
	pace->space_bytes_per_s = share * pace->rate_bytes_per_s;
	pace->draining = share < SHARE;
	fit_window(pace, sight);
}

/* Under way beyond what fits the path, as a time on the link. */
static uint64_t queue_ns(const struct push_pace *pace,
			 const struct push_sight *sight, uint64_t bytes)
{
	double fits = in(pace->rate_bytes_per_s, sight->round_trip_ns);
	double over = (double)bytes - fits;

	return over > 0 ? (uint64_t)(1e9 * over / pace->rate_bytes_per_s) : 0;
}

static bool stands(const struct push_pace *pace, const struct push_sight *sight)
{
	return queue_ns(pace, sight, pace->least_bytes) >
	       stretched(pace, PUSH_STANDING_NS);
}

/* A queue stands: the link is slower than what was asked of it. */
static void drain(struct push_pace *pace, const struct push_sight *sight,
		  double rate)
{
	double lowest = MAX_FALL * pace->rate_bytes_per_s;

	if (rate < pace->rate_bytes_per_s)
		pace->rate_bytes_per_s = rate > lowest ? rate : lowest;
	/* what was learned with a window is a guess that may be low */
	if (pace->space_bytes_per_s > 0)
		pace->full_bytes_per_s = pace->rate_bytes_per_s;
	pace->raise = FIRST_RAISE;
	pace->raised_ns = sight->now_ns;
	keep(pace, sight, DRAIN_SHARE);
}

/* Beyond what was enough for a queue there most likely is one again. */
static bool is_due(const struct push_pace *pace, uint64_t now_ns)
{
	double rate = pace->rate_bytes_per_s;
	bool probes = rate <= pace->full_bytes_per_s &&
		      (1 + pace->raise) * rate > pace->full_bytes_per_s;

	return now_ns - pace->raised_ns >
	       (probes ? PUSH_PROBE_EVERY_NS : PUSH_RAISE_EVERY_NS);
}

static void raise_rate(struct push_pace *pace, const struct push_sight *sight)
{
	pace->rate_bytes_per_s *= 1 + pace->raise;
	pace->raise = 2 * pace->raise < MAX_RAISE ? 2 * pace->raise : MAX_RAISE;
	pace->raised_ns = sight->now_ns;
	keep(pace, sight, SHARE);
}

static bool adjust(struct push_pace *pace, const struct push_sight *sight,
		   double rate)
{
	if (stands(pace, sight))
		drain(pace, sight, rate);
	else if (pace->draining)
		keep(pace, sight, SHARE);
	else if (is_due(pace, sight->now_ns) &&
		 rate > USED_SHARE * pace->space_bytes_per_s)
		raise_rate(pace, sight);
	else
		return false;
	return true;
}

static bool end(struct push_pace *pace, const struct push_sight *sight,
		uint64_t bytes)
{
	double ns = (double)(sight->now_ns - pace->since_ns);
	double rate = 1e9 * (double)(bytes - pace->since_bytes) / ns;

	if (pace->space_bytes_per_s > 0)
		return adjust(pace, sight, rate);
	/* most frames found room: something else is the limit */
	if (4 * pace->n_waits < pace->n_frames || rate <= 0) {
		pace->n_free++;
		return false;
	}
	pace->n_free = 0;
	learn_rate(pace, sight, rate);
	if (!pace->may_space || !sight->round_trip_ns)
		return false;
	drain(pace, sight, rate);
	return true;
}

static bool is_over(const struct push_pace *pace,
		    const struct push_sight *sight)
{
	uint64_t ns = sight->now_ns - pace->since_ns;

	if (pace->space_bytes_per_s > 0 && !pace->draining &&
	    ns > PUSH_PANIC_AFTER_NS && stands(pace, sight) &&
	    queue_ns(pace, sight, sight->in_flight_bytes) >
		    stretched(pace, PUSH_PANIC_NS))
		return true;
	return ns >= PUSH_INTERVAL_NS && pace->n_frames >= PUSH_INTERVAL_FRAMES;
}

bool push_pace_learn(struct push_pace *pace, const struct push_sight *sight,
		     bool waited)
{
	uint64_t bytes = sight->written_bytes - sight->unsent_bytes -
			 sight->in_flight_bytes;
	bool changed;

	if (!pace->since_ns)
		begin(pace, sight->now_ns, bytes);
	fit_frame(pace, sight);
	pace->n_frames++;
	pace->n_waits += waited;
	if (sight->in_flight_bytes < pace->least_bytes)
		pace->least_bytes = sight->in_flight_bytes;
	if (!is_over(pace, sight))
		return false;
	changed = end(pace, sight, bytes);
	begin(pace, sight->now_ns, bytes);
	return changed;
}

uint64_t push_pace_wait_ns(const struct push_pace *pace,
			   const struct push_sight *sight, uint64_t bytes)
{
	uint64_t waiting = sight->unsent_bytes + sight->in_flight_bytes;
	uint64_t over = waiting + bytes;

	/* one frame always may go */
	if (!waiting || over <= pace->window_bytes)
		return 0;
	if (pace->rate_bytes_per_s <= 0)
		return GUESS_NS;
	/* half of it at once: waking up costs more than sending */
	if (pace->space_bytes_per_s > 0)
		over += pace->window_bytes / 2;
	return 1 + (uint64_t)(1e9 * (double)(over - pace->window_bytes) /
			      pace->rate_bytes_per_s);
}

unsigned int push_pace_pages(const struct push_pace *pace, double page_bytes,
			     unsigned int limit)
{
	double bytes = (double)pace->window_bytes / FRAMES_PER_WINDOW;
	uint64_t n;

	if (pace->space_bytes_per_s > 0)
		bytes = in(pace->space_bytes_per_s, pace->frame_ns);
	n = (uint64_t)(bytes / page_bytes + 0.5);
	if (n < MIN_PAGES)
		n = MIN_PAGES;
	return n < limit ? (unsigned int)n : limit;
}
