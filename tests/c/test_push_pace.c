/* SPDX-License-Identifier: Apache-2.0 */
/* How much is pushed: against a link that is computed, on a made-up clock. */
#include "transfer/push_pace.h"
#include "unit.h"

enum {
	STEP_NS = 2000,
	FRAME_CPU_NS = 20 * 1000,
	ROUND_TRIP_NS = 50 * 1000,
	PAGE_WIRE_BYTES = 4132,
	MAX_PAGES = 64,
	MS = 1000 * 1000,
};

static const double GBIT = 119.5e6; /* bytes of a stream in a second */

/**
 * struct link - a socket, the kernel that spaces, and a queue before a link
 * @bytes_per_s: of the link
 * @cpu_ns:	that a frame costs
 * @unsent:	in the socket
 * @queued:	before the link
 * @now_ns:	the clock
 * @asked_ns:	when a page was asked for last; all the time, to begin with
 * @written:	ever
 * @measured_ns: since measuring began, with what was
 * @carried:	bytes meanwhile
 * @waited:	integral of the queue, byte times s
 * @longest:	the queue at its longest, bytes
 */
struct link {
	struct push_pace pace;
	double bytes_per_s;
	uint64_t cpu_ns;
	double unsent;
	double queued;
	uint64_t now_ns;
	uint64_t asked_ns;
	uint64_t written;
	uint64_t measured_ns;
	double carried;
	double waited;
	double longest;
};

static void open_link(struct link *link, double bytes_per_s)
{
	*link = (struct link){
		.bytes_per_s = bytes_per_s,
		.cpu_ns = FRAME_CPU_NS,
		.now_ns = 1000 * (uint64_t)MS,
		.asked_ns = UINT64_MAX,
	};
	push_pace_init(&link->pace);
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

static void pass(struct link *link, uint64_t ns)
{
	double step = STEP_NS / 1e9;

	for (uint64_t done = 0; done < ns; done += STEP_NS) {
		double space = link->pace.space_bytes_per_s;
		double moved = space > 0 ? least(space * step, link->unsent)
					 : link->unsent;
		double gone;

		link->unsent -= moved;
		link->queued += moved;
		gone = least(link->bytes_per_s * step, link->queued);
		link->queued -= gone;
		link->carried += gone;
		link->waited += link->queued * step;
		if (link->queued > link->longest)
			link->longest = link->queued;
		link->now_ns += STEP_NS;
		link->measured_ns += STEP_NS;
	}
}

static struct push_sight look(const struct link *link)
{
	return (struct push_sight){
		.now_ns = link->now_ns,
		.written_bytes = link->written,
		.unsent_bytes = (uint64_t)link->unsent,
		.in_flight_bytes = (uint64_t)link->queued,
		.round_trip_ns = ROUND_TRIP_NS,
		.quiet_ns = link->asked_ns < link->now_ns
				    ? link->now_ns - link->asked_ns
				    : 0,
	};
}

static void push_one(struct link *link)
{
	unsigned int n =
		push_pace_pages(&link->pace, PAGE_WIRE_BYTES, MAX_PAGES);
	uint64_t bytes = (uint64_t)n * PAGE_WIRE_BYTES, ns;
	struct push_sight sight = look(link);
	bool waited = false;

	while ((ns = push_pace_wait_ns(&link->pace, &sight, bytes))) {
		waited = true;
		pass(link, ns);
		sight = look(link);
	}
	push_pace_learn(&link->pace, &sight, waited);
	link->written += bytes;
	link->unsent += (double)bytes;
	pass(link, link->cpu_ns);
}

static void push_for(struct link *link, uint64_t ms)
{
	uint64_t end_ns = link->now_ns + ms * MS;

	while (link->now_ns < end_ns)
		push_one(link);
}

static void measure_for(struct link *link, uint64_t ms)
{
	link->measured_ns = 0;
	link->carried = link->waited = link->longest = 0;
	push_for(link, ms);
}

/* Of what the link can carry. */
static double share(const struct link *link)
{
	return 1e9 * link->carried / (double)link->measured_ns /
	       link->bytes_per_s;
}

/* What an answer waits for, on average and at worst. */
static double mean_us(const struct link *link)
{
	return 1e15 * link->waited / (double)link->measured_ns /
	       link->bytes_per_s;
}

static double longest_us(const struct link *link)
{
	return 1e6 * link->longest / link->bytes_per_s;
}

static void check_kept(struct link *link)
{
	measure_for(link, 2000);
	if (share(link) < 0.96 || mean_us(link) > 100 ||
	    longest_us(link) > 1000)
		UNIT_FAIL("%.3f of the link, queue of %.0f us, at most %.0f us",
			  share(link), mean_us(link), longest_us(link));
}

static void test_finds_the_rate(void)
{
	static const double rates[] = {1, 2.5, 10};

	for (unsigned int i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		struct link link;

		open_link(&link, rates[i] * GBIT);
		link.cpu_ns = FRAME_CPU_NS / 10;
		push_for(&link, 1000);
		CHECK(link.pace.space_bytes_per_s > 0);
		check_kept(&link);
	}
}

/* Where a frame of the fewest pages takes longer than all of them should. */
static void test_slow_link(void)
{
	struct link link;

	open_link(&link, GBIT / 20);
	push_for(&link, 2000);
	CHECK(link.pace.space_bytes_per_s > 0);
	measure_for(&link, 2000);
	CHECK(share(&link) > 0.95);
	/* three of those frames */
	CHECK(longest_us(&link) < 5000);
}

static void test_slower(void)
{
	struct link link;

	open_link(&link, GBIT);
	push_for(&link, 1000);
	link.bytes_per_s = GBIT / 2;
	measure_for(&link, 700);
	/* what waits is bounded while it is not known yet */
	CHECK(longest_us(&link) < 4000);
	check_kept(&link);
}

static void test_faster(void)
{
	struct link link;

	open_link(&link, GBIT);
	push_for(&link, 1000);
	link.bytes_per_s = 3 * GBIT;
	push_for(&link, 2500);
	check_kept(&link);
}

/* The link could carry more than this host makes. */
static void test_is_not_the_limit(void)
{
	struct link link;

	open_link(&link, 40 * GBIT);
	link.cpu_ns = 500 * 1000;
	push_for(&link, 1000);
	CHECK(link.pace.n_free >= PUSH_FREE_INTERVALS);
	CHECK(link.pace.space_bytes_per_s == 0);
}

/* A peer that does not run now and then takes nothing, and answers nothing. */
static void test_peer_kept_from_running(void)
{
	struct link link;

	open_link(&link, GBIT);
	push_for(&link, 1000);
	for (uint64_t i = 0; i < 50; i++) {
		link.bytes_per_s = 0;
		pass(&link, 15 * MS);
		link.bytes_per_s = GBIT;
		push_for(&link, 70 + i % 17);
	}
	CHECK(link.pace.rate_bytes_per_s > 0.95 * GBIT);
}

/* Who asks for nothing is not in a hurry; who asks again is, at once. */
static void test_nobody_asks(void)
{
	struct link link;
	unsigned int few, many;

	open_link(&link, GBIT);
	push_for(&link, 1000);
	few = push_pace_pages(&link.pace, PAGE_WIRE_BYTES, MAX_PAGES);
	link.asked_ns = link.now_ns;
	push_for(&link, 1000);
	many = push_pace_pages(&link.pace, PAGE_WIRE_BYTES, MAX_PAGES);
	CHECK_EQ(few, 3);
	CHECK(many > 4 * few);
	measure_for(&link, 2000);
	CHECK(share(&link) > 0.97);
	CHECK(longest_us(&link) < 2000);
	link.asked_ns = UINT64_MAX;
	push_one(&link);
	CHECK_EQ(push_pace_pages(&link.pace, PAGE_WIRE_BYTES, MAX_PAGES), few);
	push_for(&link, 20);
	check_kept(&link);
}

static void test_without_spacing(void)
{
	struct link link;

	open_link(&link, GBIT);
	push_for(&link, 500);
	push_pace_cannot_space(&link.pace);
	push_for(&link, 500);
	measure_for(&link, 1000);
	CHECK(link.pace.space_bytes_per_s == 0);
	CHECK(share(&link) > 0.96);
	CHECK(longest_us(&link) < 2000);
}

int main(void)
{
	static const struct unit_test tests[] = {
		UNIT(test_finds_the_rate),
		UNIT(test_slow_link),
		UNIT(test_slower),
		UNIT(test_faster),
		UNIT(test_is_not_the_limit),
		UNIT(test_peer_kept_from_running),
		UNIT(test_nobody_asks),
		UNIT(test_without_spacing),
		UNIT_END,
	};

	return unit_run(tests);
}
