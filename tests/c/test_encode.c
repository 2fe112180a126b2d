/* SPDX-License-Identifier: Apache-2.0 */
/* Every encoding, from memory to memory over socket pairs. */
#include <errno.h>
#include <string.h>

#include "codec/line.h"
#include "transfer_pair.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	PAGES = 40 * MIB / PMIG_PAGE_BYTES,
	BLOCK_PRINTS_BYTES = 64 * 256,
};

static void open_pair(struct transfer_pair *pair, uint32_t compression,
		      uint32_t delta)
{
	pair_open(pair, 40 * MIB, true, 3);
	pair->encodings = PMIG_ENCODINGS_ALL;
	pair->tuning.compression = compression;
	pair->tuning.delta = delta;
}

static uint8_t *page_at(struct transfer_pair *pair, size_t page)
{
	return pair->source.hva + page * PMIG_PAGE_BYTES;
}

/* Words with a little noise: compressible, and every page another. */
static void fill_text(struct transfer_pair *pair, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		uint8_t *page = page_at(pair, i);

		for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 16) {
			memcpy(page + at, "page of the text", 16);
			page[at] = (uint8_t)(i * 31 + at * 7 / 16);
		}
		memcpy(page, &i, sizeof(i));
	}
}

static void write_byte(struct transfer_pair *pair, size_t page, size_t at)
{
	page_at(pair, page)[at]++;
	pair_mark(pair, page, 1);
}

static void test_unchanged_and_delta(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_ON);
	guest_memory_fill(&pair.source, 0, 1000, 1);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 1000);
	pair_mark(&pair, 10, 5);
	write_byte(&pair, 300, 100);
	write_byte(&pair, 300, 4000);
	write_byte(&pair, 999, 0);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_UNCHANGED], 5);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_DELTA], 2);
	CHECK_EQ(round.bytes_by_encoding[PMIG_ENCODING_DELTA], 2 * 8 + 3 * 64);
	CHECK_EQ(event.stale_pages, 0);
	pair_check_equal(&pair);
	pair_close(&pair);
}

/* A page that changes altogether goes whole, and can be a base again. */
static void test_rewritten_page(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_ON);
	guest_memory_fill(&pair.source, 0, 100, 1);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	guest_memory_fill(&pair.source, 50, 1, 2);
	pair_mark(&pair, 50, 1);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 1);
	write_byte(&pair, 50, 77);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_DELTA], 1);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_copy(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_ON);
	pair.n_channels = 1;
	guest_memory_fill(&pair.source, 0, 64, 1);
	memcpy(page_at(&pair, 640), page_at(&pair, 7), 9 * PMIG_PAGE_BYTES);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_COPY], 9);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 64);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void check_compressed(uint32_t compression, int level,
			     enum pmig_encoding encoding)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, compression, PMIG_CHOICE_OFF);
	pair.tuning.level = level;
	fill_text(&pair, 3, 900);
	/* random pages within, and a hole in the middle of a group */
	guest_memory_fill(&pair.source, 100, 7, 1);
	memset(page_at(&pair, 201), 0, PMIG_PAGE_BYTES);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[encoding], 900 - 8);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 7);
	CHECK_EQ(round.zero_pages, 1);
	CHECK(round.bytes_by_encoding[encoding] < 900 * PMIG_PAGE_BYTES / 2);
	CHECK_EQ(round.compression, compression);
	CHECK_EQ(round.level, level ? level : 1);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_lz4(void)
{
	check_compressed(PMIG_COMPRESSION_LZ4, 0, PMIG_ENCODING_LZ4);
	check_compressed(PMIG_COMPRESSION_LZ4, 16, PMIG_ENCODING_LZ4);
}

static void test_zstd(void)
{
	check_compressed(PMIG_COMPRESSION_ZSTD, 0, PMIG_ENCODING_ZSTD);
	check_compressed(PMIG_COMPRESSION_ZSTD, -5, PMIG_ENCODING_ZSTD);
	check_compressed(PMIG_COMPRESSION_ZSTD, 9, PMIG_ENCODING_ZSTD);
}

/* The receiver's page is not what the fingerprints say: it asks again. */
static void test_stale_page_is_sent_again(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_block_pages stale[4];
	struct pmig_error err;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_ON);
	guest_memory_fill(&pair.source, 0, 500, 1);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	pair.destination.hva[130 * PMIG_PAGE_BYTES + 2000] ^= 1;
	pair.destination.hva[131 * PMIG_PAGE_BYTES] ^= 1;
	write_byte(&pair, 130, 10);
	pair_mark(&pair, 131, 2);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(event.stale_pages, 2);
	CHECK_EQ(pmig_receiver_stale(pair.receiver, stale, 4), 1);
	CHECK_EQ(stale[0].block, 2);
	CHECK_EQ(stale[0].pages, 3 << 2);
	CHECK_OK(pmig_sender_resend(pair.sender, stale, 1, &err), err);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.sent_pages, 2);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 2);
	CHECK_EQ(event.stale_pages, 0);
	CHECK_EQ(pmig_receiver_stale(pair.receiver, stale, 4), 0);
	pair_check_equal(&pair);
	write_byte(&pair, 130, 11);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_DELTA], 1);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_resend_outside_memory(void)
{
	const struct pmig_block_pages outside = {PAGES / 64, 1};
	struct transfer_pair pair;
	struct pmig_error err;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_ON);
	pair_connect(&pair);
	CHECK_EQ(pmig_sender_resend(pair.sender, &outside, 1, &err), -EINVAL);
	pair_close(&pair);
}

/* Too little memory for all fingerprints: those of hot pages are kept. */
static void test_bounded_delta_memory(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_AUTO);
	pair.delta_memory_bytes = 5 * BLOCK_PRINTS_BYTES;
	guest_memory_fill(&pair.source, 0, PAGES, 1);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.delta_memory_bytes, 0);
	for (unsigned int epoch = 2; epoch < 5; epoch++) {
		for (size_t block = 0; block < 4; block++)
			write_byte(&pair, block * 64 + 3, 9);
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
		CHECK_EQ(round.delta_memory_bytes, 4 * BLOCK_PRINTS_BYTES);
		CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_DELTA],
			 epoch > 2 ? 4 : 0);
	}
	for (size_t block = 10; block < 20; block++)
		write_byte(&pair, block * 64, 9);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.delta_memory_bytes, 5 * BLOCK_PRINTS_BYTES);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_one_way_rests_on_nothing(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_ZSTD, PMIG_CHOICE_ON);
	pair.flags = PMIG_SENDER_ONE_WAY;
	fill_text(&pair, 0, 100);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	pair_mark(&pair, 0, 100);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_ZSTD], 100);
	CHECK_EQ(round.delta_memory_bytes, 0);
	pair_check_equal(&pair);
	pair_close(&pair);
}

/* A receiver that reads nothing but raw pages gets nothing else. */
static void test_encodings_of_the_receiver(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	open_pair(&pair, PMIG_COMPRESSION_LZ4, PMIG_CHOICE_ON);
	pair.encodings = 1 << PMIG_ENCODING_RAW;
	fill_text(&pair, 0, 100);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	pair_mark(&pair, 0, 100);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 100);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_tuning_while_it_runs(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	open_pair(&pair, PMIG_COMPRESSION_NONE, PMIG_CHOICE_OFF);
	fill_text(&pair, 0, 500);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 500);
	pair.tuning.compression = PMIG_COMPRESSION_ZSTD;
	pair.tuning.active_channels = 1;
	CHECK_OK(pmig_sender_tune(pair.sender, &pair.tuning, &err), err);
	pair_mark(&pair, 0, 500);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_ZSTD], 500);
	CHECK_EQ(round.active_channels, 1);
	pair.tuning.active_channels = 4;
	CHECK_EQ(pmig_sender_tune(pair.sender, &pair.tuning, &err), -EINVAL);
	pair_check_equal(&pair);
	pair_close(&pair);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_unchanged_and_delta), UNIT(test_rewritten_page),
		UNIT(test_copy), UNIT(test_lz4), UNIT(test_zstd),
		UNIT(test_stale_page_is_sent_again),
		UNIT(test_resend_outside_memory),
		UNIT(test_bounded_delta_memory),
		UNIT(test_one_way_rests_on_nothing),
		UNIT(test_encodings_of_the_receiver),
		UNIT(test_tuning_while_it_runs), UNIT_END});
}
