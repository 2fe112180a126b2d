/* SPDX-License-Identifier: Apache-2.0 */
/* Link and processor estimates on a made-up clock. */
#include "transfer/climate.h"
#include "unit.h"

enum {
	MS = 1000 * 1000,
	PULSE = 50 * MS,
	GIGABIT = 117 * 1000 * 1000,
	TEN = 10,
};

/* A sender whose figures the test makes up. */
struct scene {
	struct climate climate;
	struct climate_sums sums;
	uint64_t now_ns;
};

static void begin(struct scene *scene)
{
	*scene = (struct scene){.now_ns = 1000 * MS};
	climate_init(&scene->climate);
	climate_begin(&scene->climate, scene->now_ns, &scene->sums);
}

/* One interval at a rate; blocked for a share of it, or with a backlog. */
static void pulse(struct scene *scene, double bytes_per_s, double blocked,
		  double backlog)
{
	double bytes = bytes_per_s * PULSE / 1e9;

	scene->now_ns += PULSE;
	scene->sums.wire_bytes += (uint64_t)bytes;
	scene->sums.waiting_bytes += (uint64_t)(backlog * bytes);
	scene->sums.blocked_ns += (uint64_t)(blocked * 2 * PULSE);
	CHECK(climate_due(&scene->climate, scene->now_ns));
	CHECK(!climate_due(&scene->climate, scene->now_ns));
	climate_pulse(&scene->climate, scene->now_ns, &scene->sums, 2);
}

static double rate(const struct scene *scene)
{
	return (double)scene->climate.link_bytes_per_s;
}

static void test_unknown_until_it_limits(void)
{
	struct scene scene;

	begin(&scene);
	pulse(&scene, TEN * GIGABIT, 0, 0);
	CHECK_EQ(scene.climate.link_bytes_per_s, 0);
	CHECK(climate_of_worker(&scene.climate, 2).link_ns_per_byte == 0);
	pulse(&scene, GIGABIT, 0.5, 0);
	CHECK(rate(&scene) > 0.99 * GIGABIT && rate(&scene) < 1.01 * GIGABIT);
	climate_fini(&scene.climate);
}

/* A worker that compresses as fast as the link carries never waits. */
static void test_backlog_means_full(void)
{
	struct scene scene;

	begin(&scene);
	for (int i = 0; i < 20; i++)
		pulse(&scene, GIGABIT, 0, 0.9);
	CHECK(rate(&scene) > 0.99 * GIGABIT && rate(&scene) < 1.01 * GIGABIT);
	climate_fini(&scene.climate);
}

/* The receiver is the limit as long as it has to decompress. */
static void test_an_estimate_that_bears_itself_out(void)
{
	struct scene scene;
	unsigned int looks = 0;

	begin(&scene);
	for (int i = 0; i < 300; i++) {
		bool raw =
			!climate_of_worker(&scene.climate, 2).link_ns_per_byte;

		looks += raw;
		/* now and then nobody waits, as decompressing is uneven */
		pulse(&scene, raw ? TEN * GIGABIT : GIGABIT,
		      raw || i % 2 ? 0.5 : 0.05, 0);
		if (i == 5)
			CHECK(rate(&scene) > 2 * GIGABIT);
	}
	/* before anything is known, then after 5, 21 and 85 pulses */
	CHECK_EQ(looks, 4);
	climate_fini(&scene.climate);
}

static void test_slower_link_is_noticed_at_once(void)
{
	struct scene scene;

	begin(&scene);
	for (int i = 0; i < 5; i++)
		pulse(&scene, TEN * GIGABIT, 0.5, 1);
	for (int i = 0; i < 5; i++)
		pulse(&scene, GIGABIT, 0.9, 1);
	CHECK(rate(&scene) < 1.5 * GIGABIT);
	climate_fini(&scene.climate);
}

/* Less is sent, for lack of more to send, and nobody waits. */
static void test_faster_link_is_noticed_within_a_second(void)
{
	struct scene scene;

	begin(&scene);
	for (int i = 0; i < 5; i++)
		pulse(&scene, GIGABIT, 0.9, 1);
	for (int i = 0; i < 1000 * MS / PULSE; i++)
		pulse(&scene, GIGABIT / 2, 0, 0);
	CHECK(rate(&scene) > TEN * GIGABIT);
	climate_fini(&scene.climate);
}

/*
 * Processors and link are both just full: the estimate stays close to what
 * was seen, and gives way only slowly.
 */
static void test_both_are_full(void)
{
	struct scene scene;

	begin(&scene);
	for (int i = 0; i < 5; i++)
		pulse(&scene, GIGABIT, 0.9, 1);
	for (int i = 0; i < 5; i++)
		pulse(&scene, 0.9 * GIGABIT, 0, 0);
	CHECK(rate(&scene) < 1.2 * GIGABIT);
	for (int i = 0; i < 2000 * MS / PULSE; i++)
		pulse(&scene, 0.9 * GIGABIT, 0, 0);
	CHECK(rate(&scene) > 2.0 * GIGABIT);
	climate_fini(&scene.climate);
}

/* Nothing was sent between rounds: that says nothing about the link. */
static void test_silence_says_nothing(void)
{
	struct scene scene;

	begin(&scene);
	pulse(&scene, GIGABIT, 0.9, 1);
	scene.now_ns += 5000ull * MS;
	climate_begin(&scene.climate, scene.now_ns, &scene.sums);
	pulse(&scene, 0, 0, 0);
	CHECK(rate(&scene) > 0.99 * GIGABIT && rate(&scene) < 1.01 * GIGABIT);
	pulse(&scene, GIGABIT, 0.9, 1);
	CHECK(rate(&scene) > 0.99 * GIGABIT && rate(&scene) < 1.01 * GIGABIT);
	climate_fini(&scene.climate);
}

static void test_link_is_shared(void)
{
	struct scene scene;
	double alone, shared;

	begin(&scene);
	pulse(&scene, GIGABIT, 0.9, 1);
	alone = climate_of_worker(&scene.climate, 1).link_ns_per_byte;
	shared = climate_of_worker(&scene.climate, 4).link_ns_per_byte;
	CHECK(shared > 3.99 * alone && shared < 4.01 * alone);
	climate_fini(&scene.climate);
}

/* Without /proc/stat: processors without a worker count as idle. */
static void test_without_proc(void)
{
	struct scene scene;

	begin(&scene);
	climate_fini(&scene.climate);
	scene.climate.stat_fd = -1;
	scene.climate.n_cpus = 2;
	for (int i = 0; i < 20; i++) {
		scene.sums.cpu_ns += PULSE;
		pulse(&scene, GIGABIT, 0.5, 1);
	}
	CHECK_EQ(scene.climate.idle_milli, 0);
	CHECK(scene.climate.spare_milli > 990 &&
	      scene.climate.spare_milli < 1010);
	CHECK(climate_of_worker(&scene.climate, 2).spare < 0.51);
	CHECK(climate_of_worker(&scene.climate, 1).spare <= 1);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_unknown_until_it_limits),
		UNIT(test_backlog_means_full),
		UNIT(test_an_estimate_that_bears_itself_out),
		UNIT(test_slower_link_is_noticed_at_once),
		UNIT(test_faster_link_is_noticed_within_a_second),
		UNIT(test_both_are_full), UNIT(test_silence_says_nothing),
		UNIT(test_link_is_shared), UNIT(test_without_proc), UNIT_END});
}
