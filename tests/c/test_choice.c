/* SPDX-License-Identifier: Apache-2.0 */
/* The cost model: what it picks where, and how it learns. */
#include <string.h>

#include "codec/choice.h"
#include "unit.h"

enum {
	LZ4 = 1,
	ZSTD_FAST = 2,
	ZSTD_1 = 3,
	ZSTD_2 = 4,
	GIGABIT = 117 * 1000 * 1000,
};

static struct choice_climate climate_of(double link_bytes_per_s, double spare)
{
	return (struct choice_climate){
		.link_ns_per_byte = 1e9 / link_bytes_per_s,
		.idle = spare,
		.spare = spare,
	};
}

static void learn_text(struct choice *choice)
{
	choice_init(choice);
	choice_learn(choice, LZ4, 16, 16 * 6000.0, 16 * 4096 * 55 / 100);
	choice_learn(choice, ZSTD_FAST, 16, 16 * 8000.0, 16 * 4096 * 40 / 100);
	choice_learn(choice, ZSTD_1, 16, 16 * 14000.0, 16 * 4096 * 28 / 100);
}

static enum pmig_encoding pick(const struct choice *choice, double rate,
			       double spare)
{
	const struct choice_climate climate = climate_of(rate, spare);
	unsigned int i = choice_pick(choice, &climate, PMIG_ENCODINGS_ALL);

	return choice_candidates[i].encoding;
}

static void test_candidates_are_sound(void)
{
	CHECK_EQ(choice_candidates[CHOICE_RAW].encoding, PMIG_ENCODING_RAW);
	for (unsigned int i = 1; i < CHOICE_CANDIDATES; i++) {
		const struct choice_candidate *c = &choice_candidates[i];

		CHECK(c->encoding == PMIG_ENCODING_LZ4 ||
		      c->encoding == PMIG_ENCODING_ZSTD);
		CHECK(c->group_pages >= 1 &&
		      c->group_pages <= PMIG_BLOCK_PAGES);
		CHECK(c->prior_ns > 0);
	}
}

/* Up on a slow link, off on a fast one. */
static void test_link_decides(void)
{
	struct choice choice;

	learn_text(&choice);
	CHECK_EQ(pick(&choice, GIGABIT, 1), PMIG_ENCODING_ZSTD);
	CHECK_EQ(pick(&choice, 5.0 * GIGABIT, 1), PMIG_ENCODING_LZ4);
	CHECK_EQ(pick(&choice, 30.0 * GIGABIT, 1), PMIG_ENCODING_RAW);
}

/* Where processors are busy, the cheaper way is the faster one. */
static void test_processors_decide(void)
{
	struct choice choice;

	learn_text(&choice);
	CHECK_EQ(pick(&choice, GIGABIT, 1), PMIG_ENCODING_ZSTD);
	CHECK_EQ(pick(&choice, 3.0 * GIGABIT, 0.2), PMIG_ENCODING_RAW);
}

static void test_unknown_link_means_raw(void)
{
	const struct choice_climate climate = {.spare = 1, .idle = 1};
	struct choice choice;

	learn_text(&choice);
	CHECK_EQ(choice_pick(&choice, &climate, PMIG_ENCODINGS_ALL),
		 CHOICE_RAW);
	CHECK_EQ(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL),
		 CHOICE_RAW);
}

static void test_only_what_the_receiver_reads(void)
{
	const struct choice_climate climate = climate_of(GIGABIT, 1);
	const uint32_t lz4 = 1 << PMIG_ENCODING_RAW | 1 << PMIG_ENCODING_LZ4;
	struct choice choice;

	learn_text(&choice);
	CHECK_EQ(
		choice_candidates[choice_pick(&choice, &climate, lz4)].encoding,
		PMIG_ENCODING_LZ4);
	CHECK_EQ(choice_pick(&choice, &climate, 1 << PMIG_ENCODING_RAW),
		 CHOICE_RAW);
}

/* Random pages cannot be made small, so nothing is gained by trying. */
static void test_random_pages(void)
{
	struct choice choice;

	learn_text(&choice);
	for (int i = 0; i < 50; i++)
		choice_saw(&choice, 64, 64);
	CHECK_EQ(pick(&choice, GIGABIT, 1), PMIG_ENCODING_RAW);
	for (int i = 0; i < 50; i++)
		choice_saw(&choice, 64, 0);
	CHECK_EQ(pick(&choice, GIGABIT, 1), PMIG_ENCODING_ZSTD);
}

/* What stops compressing well is dropped within a few blocks. */
static void test_learning_follows(void)
{
	struct choice choice;

	learn_text(&choice);
	for (int i = 0; i < 20; i++)
		for (unsigned int c = 1; c < CHOICE_CANDIDATES; c++)
			choice_learn(&choice, c, 64, 64 * 20000.0, 64 * 4096);
	CHECK_EQ(pick(&choice, GIGABIT, 1), PMIG_ENCODING_RAW);
	CHECK(choice_expected_bytes(&choice, ZSTD_1) > 4000);
}

/* Trials are bounded by their share of the time, and come round to all. */
static void test_trials_have_a_budget(void)
{
	const struct choice_climate climate = climate_of(GIGABIT, 1);
	bool tried[CHOICE_CANDIDATES] = {false};
	struct choice choice;
	double spent_ns = 0;

	choice_init(&choice);
	choice.budget_ns = 0;
	CHECK_EQ(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL),
		 CHOICE_RAW);
	for (int ms = 0; ms < 10000; ms++) {
		unsigned int c;

		choice_worked(&choice, 1e6);
		c = choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL);
		tried[c] = true;
		spent_ns += choice_candidates[c].group_pages *
			    choice_candidates[c].prior_ns;
	}
	for (unsigned int c = 1; c < CHOICE_CANDIDATES; c++)
		CHECK(tried[c]);
	CHECK(spent_ns <= 0.011 * 10000 * 1e6);
	CHECK(spent_ns >= 0.005 * 10000 * 1e6);
}

/* On a link that carries a page in no time nothing could win: no trials. */
static void test_no_trials_in_vain(void)
{
	const struct choice_climate climate = climate_of(1e13, 1);
	struct choice choice;

	choice_init(&choice);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL),
			 CHOICE_RAW);
}

/* What is best for many pages, with so many blocks of it queued. */
static unsigned int mix(const struct choice *choice, double rate,
			double queued_ns)
{
	struct choice_climate climate = climate_of(rate, 1);
	unsigned int best = choice_pick(choice, &climate, PMIG_ENCODINGS_ALL);

	climate.queued_ns = queued_ns;
	return choice_mix(choice, &climate, PMIG_ENCODINGS_ALL, best);
}

/* zstd 1 takes 10 us a page, and its pages as long on a link of 86 MB/s. */
static void learn_balanced(struct choice *choice)
{
	choice_init(choice);
	choice_learn(choice, LZ4, 16, 16 * 6900.0, 16 * 4096 * 34 / 100);
	choice_learn(choice, ZSTD_1, 64, 64 * 10100.0, 64 * 4096 * 21 / 100);
	choice_learn(choice, ZSTD_2, 64, 64 * 12700.0, 64 * 4096 * 20 / 100);
}

static void test_a_link_about_to_run_dry_gets_less_work(void)
{
	const double fast = 100e6, block_ns = 64 * 10200.0;
	struct choice choice;

	learn_balanced(&choice);
	CHECK_EQ(mix(&choice, fast, 2 * block_ns), ZSTD_1);
	CHECK_EQ(mix(&choice, fast, 0.5 * block_ns), LZ4);
	CHECK_EQ(mix(&choice, fast, 0), LZ4);
}

static void test_a_link_with_enough_gets_smaller_pages(void)
{
	const double slow = 75e6, block_ns = 64 * 12800.0;
	struct choice choice;

	learn_balanced(&choice);
	CHECK_EQ(mix(&choice, slow, 2 * block_ns), ZSTD_1);
	CHECK_EQ(mix(&choice, slow, 5 * block_ns), ZSTD_2);
	/* the link is what limits: pages made sooner would not leave sooner */
	CHECK_EQ(mix(&choice, slow, 0), ZSTD_1);
}

/* On a fast link nothing near sending it raw makes anything smaller. */
static void test_a_fast_link_is_left_alone(void)
{
	struct choice choice;

	learn_balanced(&choice);
	CHECK_EQ(mix(&choice, 3e9, 0), CHOICE_RAW);
	CHECK_EQ(mix(&choice, 3e9, 1e9), CHOICE_RAW);
}

/* Where lz4 is as slow as ever, there is no point in trying the others. */
static void test_lz4_speaks_for_the_others(void)
{
	const struct choice_climate climate = climate_of(1.2e9, 1);
	struct choice choice;

	choice_init(&choice);
	CHECK_EQ(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL), LZ4);
	choice_learn(&choice, LZ4, 16, 16 * 7000.0, 16 * 1200);
	CHECK_EQ(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL),
		 CHOICE_RAW);
	choice_learn(&choice, LZ4, 16, -16 * 25000.0, 16 * 1200);
	CHECK(choice_trial(&choice, &climate, PMIG_ENCODINGS_ALL) !=
	      CHOICE_RAW);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_candidates_are_sound), UNIT(test_link_decides),
		UNIT(test_processors_decide), UNIT(test_unknown_link_means_raw),
		UNIT(test_only_what_the_receiver_reads),
		UNIT(test_random_pages), UNIT(test_learning_follows),
		UNIT(test_trials_have_a_budget), UNIT(test_no_trials_in_vain),
		UNIT(test_a_link_about_to_run_dry_gets_less_work),
		UNIT(test_a_link_with_enough_gets_smaller_pages),
		UNIT(test_a_fast_link_is_left_alone),
		UNIT(test_lz4_speaks_for_the_others), UNIT_END});
}
