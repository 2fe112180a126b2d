/* SPDX-License-Identifier: Apache-2.0 */
/* Whole transfers from memory to memory over socket pairs. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transfer_pair.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	PAGES_PER_MIB = MIB / PMIG_PAGE_BYTES
};

static void check_whole(bool shared, uint32_t n_channels, size_t size_bytes)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, size_bytes, shared, n_channels);
	guest_memory_fill(&pair.source, 3, 700, 1);
	memset(pair.source.hva + 2 * MIB + 5 * PMIG_PAGE_BYTES, 0,
	       10 * PMIG_PAGE_BYTES);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.dirty_pages, size_bytes / PMIG_PAGE_BYTES);
	CHECK_EQ(round.zero_pages, 10);
	CHECK_EQ(round.sent_pages, 700);
	CHECK_EQ(round.hole_pages, size_bytes / PMIG_PAGE_BYTES - 700);
	CHECK_EQ(event.suspect_pages, 0);
	pair_check_equal(&pair);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.dirty_pages, 0);
	CHECK_EQ(round.sent_pages, 0);
	pair_close(&pair);
}

static void test_whole_shared(void)
{
	check_whole(true, 1, 40 * MIB);
	check_whole(true, 3, 70 * MIB);
}

static void test_whole_anonymous(void)
{
	check_whole(false, 2, 40 * MIB);
}

/* Neither a block, nor a chunk, nor the channels divide this size. */
static void test_odd_size(void)
{
	check_whole(true, 3, 37 * MIB + 5 * PMIG_PAGE_BYTES);
}

static void test_holes_stay_holes(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	pair_open(&pair, (size_t)1 << 34, true, 2);
	guest_memory_fill(&pair.source, 12345, 1, 1);
	pair_connect(&pair);
	CHECK_OK(pmig_sender_hint(pair.sender, &err), err);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	CHECK_EQ(round.sent_pages, 1);
	CHECK_EQ(guest_memory_allocated_pages(&pair.source), 1);
	CHECK_EQ(guest_memory_allocated_pages(&pair.destination), 1);
	CHECK(round.wire_bytes < 8192);
	pair_close(&pair);
}

static void test_second_round(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, 8 * MIB, true, 2);
	guest_memory_fill(&pair.source, 0, 512, 1);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	guest_memory_fill(&pair.source, 100, 3, 2);
	memset(pair.source.hva + 200 * PMIG_PAGE_BYTES, 0, PMIG_PAGE_BYTES);
	pair_mark(&pair, 100, 3);
	pair_mark(&pair, 200, 1);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(round.dirty_pages, 4);
	CHECK_EQ(round.sent_pages, 4);
	CHECK_EQ(round.zero_pages, 1);
	CHECK_EQ(round.pages_by_encoding[PMIG_ENCODING_RAW], 3);
	pair_check_equal(&pair);
	pair_close(&pair);
}

static void test_destination_is_cleared_first(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, 4 * MIB, true, 1);
	guest_memory_fill(&pair.source, 7, 1, 1);
	guest_memory_fill(&pair.destination, 0, 1024, 99);
	pair_connect(&pair);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	pair_check_equal(&pair);
	pair_close(&pair);
}

#if defined(__SANITIZE_THREAD__)
static void test_writer_races(void)
{
	UNIT_SKIP("guest memory is raced on purpose, which TSan reports");
}
#else
/* A guest that writes while it is sent, and says so. */
struct writer {
	struct transfer_pair *pair;
	pthread_t thread;
	atomic_bool stop;
	uint64_t writes;
};

static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	uint64_t random = 1;

	while (!writer->stop) {
		uint64_t page;

		random = random * 6364136223846793005ull + 1;
		page = (random >> 33) % (4 * PAGES_PER_MIB);
		for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 512)
			__atomic_add_fetch(
				(uint64_t *)(writer->pair->source.hva +
					     page * PMIG_PAGE_BYTES + at),
				1, __ATOMIC_RELAXED);
		pmig_dirty_mark(writer->pair->dirty, page * PMIG_PAGE_BYTES,
				PMIG_PAGE_BYTES);
		writer->writes++;
	}
	return NULL;
}

static void test_writer_races(void)
{
	struct transfer_pair pair;
	struct writer writer = {.pair = &pair};
	struct pmig_round round;
	struct pmig_event event;

	pair_open(&pair, 8 * MIB, true, 2);
	guest_memory_fill(&pair.source, 0, 4 * PAGES_PER_MIB, 1);
	pair_connect(&pair);
	pthread_create(&writer.thread, NULL, writer_main, &writer);
	for (int i = 0; i < 40; i++)
		pair_round(&pair, PMIG_EPOCH_FUZZY, &round, &event);
	writer.stop = true;
	pthread_join(writer.thread, NULL);
	CHECK(writer.writes > 0);
	pair_round(&pair, PMIG_EPOCH_SEALED, &round, &event);
	CHECK_EQ(event.suspect_pages, 0);
	pair_check_equal(&pair);
	pair_close(&pair);
}
#endif

static void test_state_and_end(void)
{
	static const char text[] = "registers";
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;

	pair_open(&pair, 1 * MIB, false, 2);
	pair_connect(&pair);
	CHECK_OK(pmig_sender_put(pair.sender, PMIG_FRAME_STATE, text,
				 sizeof(text), &err),
		 err);
	CHECK_OK(
		pmig_sender_round(pair.sender, PMIG_EPOCH_SEALED, &round, &err),
		err);
	CHECK_OK(pmig_sender_end(pair.sender, &err), err);
	CHECK_OK(pmig_receiver_wait(pair.receiver, 5000, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_BLOB);
	CHECK_EQ(event.frame, PMIG_FRAME_STATE);
	CHECK_EQ(event.size_bytes, sizeof(text));
	CHECK(memcmp(event.data, text, sizeof(text)) == 0);
	CHECK_OK(pmig_receiver_wait(pair.receiver, 5000, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_EPOCH);
	CHECK_EQ(event.digest, round.digest);
	CHECK(round.digest != 0);
	CHECK_OK(pmig_receiver_wait(pair.receiver, 5000, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_END);
	CHECK_OK(pmig_receiver_wait(pair.receiver, 10, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_NONE);
	pair_close(&pair);
}

/* What was taken and never acknowledged is pending again. */
static void test_cut_keeps_every_bit(void)
{
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_event event;
	struct pmig_error err;
	int rc;

	pair_open(&pair, 16 * MIB, true, 2);
	guest_memory_fill(&pair.source, 0, 16 * PAGES_PER_MIB, 1);
	pair_connect(&pair);
	shutdown(pair.fds[0][1], SHUT_RDWR);
	rc = pmig_sender_round(pair.sender, PMIG_EPOCH_FUZZY, &round, &err);
	CHECK_EQ(rc, -EPIPE);
	CHECK_EQ(pmig_sender_round(pair.sender, PMIG_EPOCH_FUZZY, &round, &err),
		 -EPIPE);
	pmig_view_rollback(pair.view);
	CHECK_EQ(pmig_view_pending_pages(pair.view), 16 * PAGES_PER_MIB);
	CHECK_EQ(pmig_receiver_wait(pair.receiver, 5000, &event, &err), -EPIPE);
	CHECK(strstr(err.message, "channel "));
	pair_close(&pair);
}

static void *cancel_main(void *sender)
{
	usleep(20000);
	pmig_sender_cancel(sender);
	return NULL;
}

static void test_cancel_a_stalled_round(void)
{
	const struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
	};
	struct pmig_sender_config out = config;
	struct transfer_pair pair;
	struct pmig_round round;
	struct pmig_error err;
	pthread_t thread;

	pair_open(&pair, 16 * MIB, true, 1);
	guest_memory_fill(&pair.source, 0, 16 * PAGES_PER_MIB, 1);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.fds[0]), 0);
	CHECK_OK(pmig_channel_from_socket(pair.fds[0][0], &pair.out[0], &err),
		 err);
	out.channels = pair.out;
	CHECK_OK(pmig_sender_new(pair.source.memory, pair.view, &out,
				 &pair.sender, &err),
		 err);
	pthread_create(&thread, NULL, cancel_main, pair.sender);
	CHECK_EQ(pmig_sender_round(pair.sender, PMIG_EPOCH_FUZZY, &round, &err),
		 -ECANCELED);
	pthread_join(thread, NULL);
	close(pair.fds[0][1]);
	pair_close(&pair);
}

static void test_receiver_cancel(void)
{
	struct transfer_pair pair;
	struct pmig_event event;
	struct pmig_error err;

	pair_open(&pair, 1 * MIB, false, 1);
	pair_connect(&pair);
	pmig_receiver_cancel(pair.receiver);
	CHECK_EQ(pmig_receiver_wait(pair.receiver, -1, &event, &err),
		 -ECANCELED);
	pair_close(&pair);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_whole_shared), UNIT(test_whole_anonymous),
		UNIT(test_odd_size), UNIT(test_holes_stay_holes),
		UNIT(test_second_round),
		UNIT(test_destination_is_cleared_first),
		UNIT(test_writer_races), UNIT(test_state_and_end),
		UNIT(test_cut_keeps_every_bit),
		UNIT(test_cancel_a_stalled_round), UNIT(test_receiver_cancel),
		UNIT_END});
}
