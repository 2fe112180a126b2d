/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of the real sender, with every encoding, as files that a machine is
 * restored from; damaged, and mutated so that the lies get past checksums.
 */
#include <string.h>

#include "fuzz_receiver.h"
#include "fuzz_restore.h"
#include "page_history.h"
#include "stream/wire.h"
#include "stream_mend.h"
#include "stream_record.h"
#include "unit.h"

enum {
	STREAMS = 2,
#if defined(__SANITIZE_THREAD__)
	MUTATIONS = 5,
	DAMAGES = 5,
#elif defined(__SANITIZE_ADDRESS__)
	MUTATIONS = 25,
	DAMAGES = 15,
#else
	MUTATIONS = 40,
	DAMAGES = 20,
#endif
};

static uint8_t *copy_of(const uint8_t *data, size_t size_bytes)
{
	uint8_t *copy = malloc(size_bytes);

	CHECK(copy);
	memcpy(copy, data, size_bytes);
	return copy;
}

static void test_whole_streams(void)
{
	for (unsigned int i = 0; i < RECORD_TUNINGS; i++) {
		for (unsigned int seed = 0; seed < STREAMS; seed++) {
			size_t size_bytes;
			uint8_t *data = stream_record(&record_tunings[i], seed,
						      &size_bytes);

			/* a sender may leave pages that only it could mend */
			CHECK_EQ(fuzz_restore(data, size_bytes),
				 fuzz_receive(data, size_bytes));
			free(data);
		}
	}
}

/* What was cut is refused; a bit that was flipped is found, or of no account */
static void test_damaged_streams(void)
{
	for (unsigned int i = 0; i < RECORD_TUNINGS; i++) {
		struct page_history random = {.random = i};
		size_t size_bytes;
		uint8_t *data =
			stream_record(&record_tunings[i], 78, &size_bytes);

		for (unsigned int n = 0; n < DAMAGES; n++) {
			size_t at = history_random(&random, size_bytes);
			uint8_t bit =
				(uint8_t)(1u << history_random(&random, 8));

			CHECK(!fuzz_restore(data, at));
			data[at] ^= bit;
			fuzz_restore(data, size_bytes);
			data[at] ^= bit;
		}
		free(data);
	}
}

/* Such a stream is no file that a machine could be restored from. */
static bool is_late(const uint8_t *data, size_t size_bytes)
{
	struct wire_header header;
	struct wire_epoch epoch;
	bool late = false;

	for (size_t at = 0; at + sizeof(header) + sizeof(epoch) <= size_bytes;
	     at += sizeof(header) + header.head_bytes + header.body_bytes) {
		memcpy(&header, data + at, sizeof(header));
		memcpy(&epoch, data + at + sizeof(header), sizeof(epoch));
		late |= header.type == PMIG_FRAME_OUTSTANDING ||
			(header.type == PMIG_FRAME_EPOCH &&
			 epoch.kind == PMIG_EPOCH_LATE);
	}
	return late;
}

/* Bytes of a frame's head, or of the beginning of its body. */
static size_t somewhere(struct page_history *random, const uint8_t *data,
			size_t size_bytes)
{
	size_t at = 0, chosen = 0;

	for (uint64_t n = 1; at + WIRE_HEADER_BYTES <= size_bytes; n++) {
		struct wire_header header;

		memcpy(&header, data + at, sizeof(header));
		if (history_random(random, n) == 0)
			chosen = at;
		at += sizeof(header) + header.head_bytes + header.body_bytes;
	}
	chosen += WIRE_HEADER_BYTES + history_random(random, 300);
	return chosen < size_bytes ? chosen : size_bytes - 1;
}

static void mutate(struct page_history *random, uint8_t *data,
		   size_t size_bytes)
{
	for (uint64_t n = 1 + history_random(random, 4); n; n--) {
		size_t at = somewhere(random, data, size_bytes);
		size_t from = somewhere(random, data, size_bytes);

		switch (history_random(random, 3)) {
		case 0:
			data[at] ^= (uint8_t)(1u << history_random(random, 8));
			break;
		case 1:
			data[at] = (uint8_t)history_random(random, 256);
			break;
		default:
			for (size_t i = 0; i < 16 && at + i < size_bytes &&
					   from + i < size_bytes;
			     i++)
				data[at + i] = data[from + i];
		}
	}
}

static void test_mutations(void)
{
	for (unsigned int i = 0; i < RECORD_TUNINGS; i++) {
		struct page_history random = {.random = 1000 + i};
		size_t size_bytes, mended_bytes;
		uint8_t *data =
			stream_record(&record_tunings[i], i, &size_bytes);

		for (unsigned int n = 0; n < MUTATIONS; n++) {
			uint8_t *copy = copy_of(data, size_bytes);
			bool received, restored;

			mutate(&random, copy, size_bytes);
			mended_bytes = stream_mend(copy, size_bytes);
			received = fuzz_receive(copy, mended_bytes);
			restored = fuzz_restore(copy, mended_bytes);
			/* it may do without what a newer version replaces */
			CHECK(restored || !received ||
			      is_late(copy, mended_bytes));
			free(copy);
		}
		free(data);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){UNIT(test_whole_streams),
					     UNIT(test_damaged_streams),
					     UNIT(test_mutations), UNIT_END});
}
