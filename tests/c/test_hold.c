/* SPDX-License-Identifier: Apache-2.0 */
/* Hot pages left to the last round: less traffic, and no page lost. */
#include "base/bitmap.h"
#include "transfer/hold.h"
#include "transfer_pair.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	HOT_PAGES = 100, /* from page 10 on, across a block's end */
	HOT_FIRST = 10,
	COLD_FIRST = 1000,
	ROUNDS = 8,
};

/* Write the hot pages and one block of others, another one each time. */
static void write_guest(struct transfer_pair *pair, size_t round)
{
	size_t cold = COLD_FIRST + 64 * round;

	guest_memory_fill(&pair->source, HOT_FIRST, HOT_PAGES, 100 + round);
	guest_memory_fill(&pair->source, cold, 64, 200 + round);
	pair_mark(pair, HOT_FIRST, HOT_PAGES);
	pair_mark(pair, cold, 64);
}

static void harvest(struct transfer_pair *pair)
{
	struct pmig_error err;

	CHECK_OK(pmig_view_harvest(pair->view, &err), err);
}

/* Returns the pages sent by all rounds. */
static uint64_t migrate(bool hold, uint64_t held_pages[ROUNDS + 1])
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	uint64_t sent = 0;

	pair_open(&pair, 16 * MIB, true, 3);
	guest_memory_fill(&pair.source, 0, 2000, 1);
	pair_connect(&pair);
	for (size_t i = 0; i < ROUNDS; i++) {
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
		sent += round.sent_pages;
		held_pages[i] = round.held_pages;
		write_guest(&pair, i);
		harvest(&pair);
		CHECK_EQ(pmig_sender_hot_pages(pair.sender),
			 i < 2 ? 0 : HOT_PAGES);
		pmig_sender_hold(pair.sender, hold);
	}
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	held_pages[ROUNDS] = round.held_pages;
	CHECK_EQ(round.sent_pages, HOT_PAGES + 64);
	CHECK_EQ(pmig_view_pending_pages(pair.view), 0);
	pair_check_equal(&pair);
	pair_close(&pair);
	return sent + round.sent_pages;
}

static void test_hot_pages_are_sent_once_more(void)
{
	uint64_t held[ROUNDS + 1];
	uint64_t again = migrate(false, held);

	for (size_t i = 0; i <= ROUNDS; i++)
		CHECK_EQ(held[i], 0);
	CHECK_EQ(again - migrate(true, held), (ROUNDS - 3) * HOT_PAGES);
	for (size_t i = 0; i <= ROUNDS; i++)
		CHECK_EQ(held[i], i < 3 || i == ROUNDS ? 0 : HOT_PAGES);
}

/* What was held is sent again as soon as that is wanted. */
static void test_letting_go(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, 16 * MIB, true, 2);
	pair_connect(&pair);
	for (size_t i = 0; i < 3; i++) {
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
		write_guest(&pair, i);
	}
	harvest(&pair);
	pmig_sender_hold(pair.sender, true);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.held_pages, HOT_PAGES);
	CHECK_EQ(round.sent_pages, 64);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.held_pages, HOT_PAGES);
	CHECK_EQ(round.sent_pages, 0);
	pmig_sender_hold(pair.sender, false);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.held_pages, 0);
	CHECK_EQ(round.sent_pages, HOT_PAGES);
	pair_check_equal(&pair);
	/* nobody wrote them since, so they are hot no more */
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.sent_pages, 0);
	pair_mark(&pair, HOT_FIRST, HOT_PAGES);
	harvest(&pair);
	CHECK_EQ(pmig_sender_hot_pages(pair.sender), 0);
	pair_close(&pair);
}

/* A failed attempt leaves held pages to the next one. */
static void test_rollback_keeps_held_pages(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, 16 * MIB, true, 2);
	pair_connect(&pair);
	for (size_t i = 0; i < 3; i++) {
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
		write_guest(&pair, i);
	}
	pmig_sender_hold(pair.sender, true);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	pmig_view_rollback(pair.view);
	CHECK_EQ(pmig_view_pending_pages(pair.view), HOT_PAGES);
	pair_close(&pair);
}

static void test_take_some(void)
{
	uint64_t word = 0xf0f0;

	CHECK_EQ(pmig_bits_take_some(&word, 0x0f0f), 0);
	CHECK_EQ(pmig_bits_take_some(&word, 0x00ff), 0x00f0);
	CHECK_EQ(word, 0xf000);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_hot_pages_are_sent_once_more), UNIT(test_letting_go),
		UNIT(test_rollback_keeps_held_pages), UNIT(test_take_some),
		UNIT_END});
}
