/* SPDX-License-Identifier: Apache-2.0 */
/* What a sender refuses to be tuned to, and to send again. */
#include <errno.h>
#include <string.h>

#include "transfer_pair.h"
#include "unit.h"

enum {
	N_CHANNELS = 2,
	/* the last block has three pages */
	MEMORY_BYTES = 2 * PMIG_BLOCK_BYTES + 3 * PMIG_PAGE_BYTES,
};

static void open_pair(struct transfer_pair *pair)
{
	pair_open(pair, MEMORY_BYTES, true, N_CHANNELS);
	pair->encodings = PMIG_ENCODINGS_ALL;
	pair_connect(pair);
}

#define TUNING(...)                                                            \
	((struct pmig_tuning){.struct_size = sizeof(struct pmig_tuning),       \
			      __VA_ARGS__})

/* Refused, with a sentence that has the words in it. */
static void check_refused(struct transfer_pair *pair, struct pmig_tuning tuning,
			  const char *words)
{
	struct pmig_error err = {0};
	int rc = pmig_sender_tune(pair->sender, &tuning, &err);

	if (rc != -EINVAL || !strstr(err.message, words))
		UNIT_FAIL("%s: rc %d, \"%s\"", words, rc, err.message);
	CHECK_EQ(err.code, -EINVAL);
	CHECK_EQ(pmig_sender_tune(pair->sender, &tuning, NULL), -EINVAL);
}

static void test_values_out_of_range(void)
{
	struct transfer_pair pair;

	open_pair(&pair);
	check_refused(&pair, (struct pmig_tuning){0}, "struct_size");
	check_refused(&pair, TUNING(.compression = 4), "compression");
	check_refused(&pair, TUNING(.compression = UINT32_MAX), "compression");
	check_refused(&pair, TUNING(.delta = 3), "delta");
	check_refused(&pair, TUNING(.zero_copy = 3), "zero_copy");
	check_refused(&pair, TUNING(.active_channels = N_CHANNELS + 1),
		      "active_channels");
	pair_close(&pair);
}

static void test_levels_out_of_range(void)
{
	struct transfer_pair pair;

	open_pair(&pair);
	check_refused(&pair, TUNING(.level = 1), "level");
	check_refused(&pair,
		      TUNING(.compression = PMIG_COMPRESSION_NONE, .level = 1),
		      "level");
	check_refused(&pair,
		      TUNING(.compression = PMIG_COMPRESSION_LZ4, .level = -1),
		      "level");
	check_refused(&pair,
		      TUNING(.compression = PMIG_COMPRESSION_LZ4, .level = 65),
		      "level");
	check_refused(&pair,
		      TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = 20),
		      "level");
	check_refused(
		&pair,
		TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = -51),
		"level");
	check_refused(&pair,
		      TUNING(.compression = PMIG_COMPRESSION_ZSTD,
			     .level = INT32_MIN),
		      "level");
	pair_close(&pair);
}

static void test_edges_are_accepted(void)
{
	const struct pmig_tuning edges[] = {
		TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = 19),
		TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = -50),
		TUNING(.compression = PMIG_COMPRESSION_LZ4, .level = 64),
		TUNING(.active_channels = N_CHANNELS),
		TUNING(.delta = PMIG_CHOICE_ON, .zero_copy = PMIG_CHOICE_ON),
		TUNING(.bandwidth_limit_bytes_per_s = UINT64_MAX),
	};
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	open_pair(&pair);
	for (size_t i = 0; i < sizeof(edges) / sizeof(*edges); i++) {
		CHECK_OK(pmig_sender_tune(pair.sender, &edges[i], &err), err);
		guest_memory_fill(&pair.source, 0, 128, i);
		pair_mark(&pair, 0, 131);
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
		pair_check_equal(&pair);
	}
	pair_close(&pair);
}

/* A tuning that is wrong from the start: there is no sender. */
static void test_sender_is_not_made(void)
{
	const struct pmig_tuning wrong = TUNING(.level = 3);
	struct transfer_pair pair;
	struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = N_CHANNELS,
		.encodings = PMIG_ENCODINGS_ALL,
		.tuning = &wrong,
	};
	struct pmig_sender *sender = NULL;
	struct pmig_error err = {0};

	open_pair(&pair);
	config.channels = pair.out;
	CHECK_EQ(pmig_sender_new(pair.source.memory, pair.view, &config,
				 &sender, &err),
		 -EINVAL);
	CHECK(strstr(err.message, "level") && !sender);
	config.tuning = NULL;
	config.encodings = PMIG_ENCODINGS_ALL + 1;
	CHECK_EQ(pmig_sender_new(pair.source.memory, pair.view, &config,
				 &sender, &err),
		 -EINVAL);
	CHECK(!sender);
	pair_close(&pair);
}

static void test_resend_outside_memory(void)
{
	const struct pmig_block_pages outside[] = {
		{3, 1}, {2, 1 << 3}, {UINT64_MAX, 1}, {0, 1}};
	struct transfer_pair pair;
	struct pmig_error err = {0};

	open_pair(&pair);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pmig_sender_resend(pair.sender, &outside[i], 1, &err),
			 -EINVAL);
	CHECK(strstr(err.message, "outside"));
	CHECK_EQ(pmig_sender_resend(pair.sender, &outside[2], 2, NULL),
		 -EINVAL);
	CHECK_OK(pmig_sender_resend(pair.sender, NULL, 0, &err), err);
	pair_close(&pair);
}

/* One bad entry: nothing of the list is taken. */
static void test_resend_is_all_or_nothing(void)
{
	const struct pmig_block_pages list[] = {{0, 3}, {3, 1}};
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	open_pair(&pair);
	guest_memory_fill(&pair.source, 0, 131, 1);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(pmig_sender_resend(pair.sender, list, 2, &err), -EINVAL);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.sent_pages, 0);
	CHECK_OK(pmig_sender_resend(pair.sender, list, 1, &err), err);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.sent_pages, 2);
	pair_close(&pair);
}

/* Asked for pages go out by what rests on nothing, holes and zeros too. */
static void test_resent_pages_rest_on_nothing(void)
{
	const struct pmig_block_pages all[] = {{0, ~0ull}, {1, ~0ull}, {2, 7}};
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	open_pair(&pair);
	guest_memory_fill(&pair.source, 0, 70, 1);
	memcpy(pair.source.hva, pair.source.hva + PMIG_PAGE_BYTES,
	       PMIG_PAGE_BYTES);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	memset(pair.destination.hva, 0x5a, MEMORY_BYTES);
	CHECK_OK(pmig_sender_resend(pair.sender, all, 3, &err), err);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.sent_pages, 131);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_UNCHANGED], 0);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_DELTA], 0);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_COPY], 0);
	CHECK_EQ(event.stale_pages, 0);
	CHECK(memcmp(pair.source.hva, pair.destination.hva,
		     70 * PMIG_PAGE_BYTES) == 0);
	pair_close(&pair);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_values_out_of_range), UNIT(test_levels_out_of_range),
		UNIT(test_edges_are_accepted), UNIT(test_sender_is_not_made),
		UNIT(test_resend_outside_memory),
		UNIT(test_resend_is_all_or_nothing),
		UNIT(test_resent_pages_rest_on_nothing), UNIT_END});
}
