/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/push_hold.h"

#include "stream/wire.h"

enum {
	/* looking too often costs more than being late */
	MIN_WAIT_NS = 50 * 1000,
	MAX_WAIT_NS = 1000 * 1000,
	MAX_SHRINKAGE = 4,
};

/* Weight of the newest. */
static const double NEWEST = 0.5;

void push_hold_init(struct push_hold *hold)
{
	*hold = (struct push_hold){0};
}

static double mix(double before, double newest)
{
	return before > 0 ? before + NEWEST * (newest - before) : newest;
}

static void learn_size(struct push_hold *hold, const struct push_sight *sight)
{
	uint64_t bytes = sight->written_bytes - hold->last_bytes;
	uint64_t pages = sight->pushed_pages - hold->last_pages;

	if (pages && hold->last_pages)
		hold->page_bytes =
			mix(hold->page_bytes, (double)bytes / (double)pages);
	hold->last_bytes = sight->written_bytes;
	hold->last_pages = sight->pushed_pages;
}

static void learn_rate(struct push_hold *hold, const struct push_sight *sight)
{
	uint64_t ns = sight->now_ns - hold->since_ns;
	uint64_t pages = sight->placed_pages - hold->since_pages;

	if (hold->since_ns && ns < PUSH_HOLD_INTERVAL_NS)
		return;
	if (hold->since_ns)
		hold->pages_per_s = mix(hold->pages_per_s,
					1e9 * (double)pages / (double)ns);
	hold->since_ns = sight->now_ns;
	hold->since_pages = sight->placed_pages;
}

void push_hold_learn(struct push_hold *hold, const struct push_sight *sight)
{
	learn_size(hold, sight);
	learn_rate(hold, sight);
}

/* Pushed and not placed, and not on the link any more. */
static double held_pages(const struct push_hold *hold,
			 const struct push_sight *sight)
{
	double held = (double)sight->pushed_pages - (double)sight->placed_pages;

	if (hold->page_bytes > 0)
		held -= (double)(sight->unsent_bytes + sight->in_flight_bytes) /
			hold->page_bytes;
	return held;
}

uint64_t push_hold_wait_ns(const struct push_hold *hold,
			   const struct push_sight *sight, unsigned int n_pages,
			   uint64_t stuck_ns)
{
	double held = held_pages(hold, sight);
	double most = hold->pages_per_s * PUSH_HELD_NS / 1e9;
	double ns;

	if (most < 2 * WIRE_PLACED_PAGES)
		most = 2 * WIRE_PLACED_PAGES;
	if (!sight->placed_pages || stuck_ns >= PUSH_PATIENCE_NS ||
	    held <= WIRE_PLACED_PAGES || held + n_pages <= most)
		return 0;
	if (hold->pages_per_s <= 0)
		return MIN_WAIT_NS;
	ns = 1e9 * (held + n_pages - most) / hold->pages_per_s;
	if (ns < MIN_WAIT_NS)
		return MIN_WAIT_NS;
	return ns < MAX_WAIT_NS ? (uint64_t)ns : MAX_WAIT_NS;
}

double push_hold_page_bytes(const struct push_hold *hold,
			    uint64_t raw_page_bytes)
{
	double raw = (double)raw_page_bytes;

	if (hold->page_bytes <= 0 || hold->page_bytes > raw)
		return raw;
	return hold->page_bytes > raw / MAX_SHRINKAGE ? hold->page_bytes
						      : raw / MAX_SHRINKAGE;
}
