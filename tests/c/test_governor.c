/* SPDX-License-Identifier: Apache-2.0 */
/* The number of channels, on links that are formulas. */
#include "transfer/governor.h"

#include <string.h>

#include "unit.h"

enum {
	MBYTE = 1000000,
};

static const uint64_t INTERVAL_NS = 100000000;

/**
 * struct link - what limits a transfer
 * @whole:	bytes per second of the link
 * @window:	of one connection; 0: as the link
 * @worker:	that one worker can compute
 * @cpus:	that workers run on
 * @limit:	set by the user; 0: none
 * @overhead:	percent of the rate that each channel past two costs
 * @noise:	percent by which a rate strays, up and down
 * @random:	state of that
 */
struct link {
	double whole;
	double window;
	double worker;
	double overhead;
	double limit;
	double noise;
	unsigned int cpus;
	uint64_t random;
};

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double stray(struct link *link)
{
	link->random = link->random * 6364136223846793005ull + 1442695041ull;
	return 1 + link->noise / 100 *
			   ((double)(link->random >> 40) / (1 << 23) - 1);
}

static struct governor_sample sample_of(struct link *link, unsigned int active)
{
	double busy_workers = smaller(active, link->cpus);
	double computed = busy_workers * link->worker;
	double carried = link->whole;
	double rate, busy, idle;

	if (link->window)
		carried = smaller(carried, active * link->window);
	if (active > 2)
		carried *= 1 - link->overhead / 100 * (active - 2);
	rate = smaller(computed, carried);
	if (link->limit)
		rate = smaller(rate, link->limit);
	busy = rate / link->worker;
	idle = active - busy;
	return (struct governor_sample){
		.interval_ns = INTERVAL_NS,
		.bytes = (uint64_t)(rate * stray(link) / 10),
		.busy_ns = (uint64_t)(busy * (double)INTERVAL_NS),
		.blocked_ns = link->limit || computed <= carried
				      ? 0
				      : (uint64_t)(idle * (double)INTERVAL_NS),
		.paced_ns = link->limit ? (uint64_t)(idle * (double)INTERVAL_NS)
					: 0,
	};
}

/* Run for some intervals; the sum of active channels over them. */
static unsigned int run(struct governor *governor, struct link *link,
			unsigned int intervals)
{
	unsigned int sum = 0;

	for (unsigned int i = 0; i < intervals; i++) {
		struct governor_sample sample =
			sample_of(link, governor->active);

		sum += governor_step(governor, &sample);
		CHECK(governor->active >= 1);
		CHECK(governor->active <= governor->channels);
	}
	return sum;
}

static void test_begins_with_two(void)
{
	struct governor governor;

	governor_init(&governor, 8, 16);
	CHECK_EQ(governor.active, 2);
	governor_init(&governor, 1, 16);
	CHECK_EQ(governor.active, 1);
	governor_init(&governor, 8, 1);
	CHECK_EQ(governor.active, 1);
	governor_init(&governor, 8, 0);
	CHECK_EQ(governor.active, 1);
}

static void test_window_limited_grows(void)
{
	struct link link = {
		.whole = 12500.0 * MBYTE,
		.window = 300.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.cpus = 4,
	};
	struct governor governor;

	governor_init(&governor, 8, 4);
	run(&governor, &link, 10);
	CHECK(governor.active >= 3);
	run(&governor, &link, 40);
	CHECK_EQ(governor.active, 8);
	CHECK_EQ(run(&governor, &link, 100), 800);
}

static void test_computing_grows_to_the_processors(void)
{
	struct link link = {
		.whole = 12500.0 * MBYTE,
		.worker = 900.0 * MBYTE,
		.cpus = 4,
	};
	struct governor governor;

	governor_init(&governor, 8, 4);
	run(&governor, &link, 30);
	CHECK_EQ(governor.active, 4);
	CHECK_EQ(run(&governor, &link, 1000), 4000);
}

/* One channel is as good as any number; the others are given up. */
static void test_full_link_shrinks_to_one(void)
{
	struct link link = {
		.whole = 125.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.cpus = 4,
		.noise = 1,
		.random = 3,
	};
	struct governor governor;
	unsigned int sum;

	governor_init(&governor, 4, 4);
	run(&governor, &link, 40);
	sum = run(&governor, &link, 2000);
	/* trials get rare: less than 5 % of the time */
	CHECK(sum >= 2000);
	CHECK(sum < 2100);
}

/* More channels make this one slower. */
static void test_addition_that_hurts_is_taken_back(void)
{
	struct link link = {
		.whole = 2000.0 * MBYTE,
		.window = 1100.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.overhead = 10,
		.cpus = 4,
	};
	struct governor governor;
	unsigned int sum;

	governor_init(&governor, 8, 4);
	run(&governor, &link, 20);
	sum = run(&governor, &link, 1000);
	CHECK(sum > 1950 && sum < 2050);
}

/* 3 % is no reason to keep a channel, and none to give one up. */
static void test_small_gain_is_not_kept(void)
{
	struct link link = {
		.whole = 618.0 * MBYTE,
		.window = 300.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.cpus = 4,
	};
	struct governor governor;

	governor_init(&governor, 8, 4);
	run(&governor, &link, 1000);
	CHECK_EQ(governor.before, 2);
	CHECK(run(&governor, &link, 1000) < 2100);
}

static void test_link_that_changes(void)
{
	struct link slow = {
		.whole = 125.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.cpus = 4,
	};
	struct link long_fat = {
		.whole = 2000.0 * MBYTE,
		.window = 300.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.cpus = 4,
	};
	struct governor governor;

	for (unsigned int settled = 500; settled < 510; settled++) {
		governor_init(&governor, 8, 4);
		run(&governor, &slow, settled);
		CHECK(governor.active <= 2);
		run(&governor, &long_fat, 10);
		CHECK(governor.active >= 2);
		run(&governor, &long_fat, 60);
		CHECK(governor.active >= 6);
	}
}

static void test_bandwidth_limit_adds_nothing(void)
{
	struct link link = {
		.whole = 12500.0 * MBYTE,
		.window = 300.0 * MBYTE,
		.worker = 5000.0 * MBYTE,
		.limit = 100.0 * MBYTE,
		.cpus = 4,
	};
	struct governor governor;

	governor_init(&governor, 8, 4);
	CHECK(run(&governor, &link, 1000) <= 2000);
	CHECK(governor.active <= 2);
	link.limit = 0;
	run(&governor, &link, 60);
	CHECK_EQ(governor.active, 8);
}

static void test_nothing_to_send_changes_nothing(void)
{
	const struct governor_sample idle = {.interval_ns = INTERVAL_NS};
	const struct governor_sample small = {
		.interval_ns = INTERVAL_NS,
		.bytes = 4096,
		.busy_ns = INTERVAL_NS / 100,
		.blocked_ns = INTERVAL_NS / 10,
	};
	struct governor governor, before;

	governor_init(&governor, 8, 4);
	before = governor;
	for (int i = 0; i < 100; i++) {
		governor_step(&governor, &idle);
		governor_step(&governor, &small);
		governor_step(&governor, &(struct governor_sample){0});
	}
	CHECK_EQ(memcmp(&before, &governor, sizeof(before)), 0);
}

/* Whatever it is told, the number stays within its bounds. */
static void test_any_sample(void)
{
	struct governor governor;
	uint64_t random = 1;

	governor_init(&governor, 5, 3);
	for (int i = 0; i < 100000; i++) {
		uint64_t r[5];

		for (int j = 0; j < 5; j++) {
			random = random * 6364136223846793005ull + 1;
			r[j] = random >> (random >> 58);
		}
		governor_step(&governor, &(struct governor_sample){
						 r[0], r[1], r[2], r[3], r[4]});
		CHECK(governor.active >= 1 && governor.active <= 5);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_begins_with_two), UNIT(test_window_limited_grows),
		UNIT(test_computing_grows_to_the_processors),
		UNIT(test_full_link_shrinks_to_one),
		UNIT(test_addition_that_hurts_is_taken_back),
		UNIT(test_small_gain_is_not_kept), UNIT(test_link_that_changes),
		UNIT(test_bandwidth_limit_adds_nothing),
		UNIT(test_nothing_to_send_changes_nothing),
		UNIT(test_any_sample), UNIT_END});
}
