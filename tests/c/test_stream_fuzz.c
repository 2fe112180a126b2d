/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of the real sender, with every encoding, mutated and mended so
 * that the lies get past checksums and hashes. The receiver must take them
 * and hold what they say, or refuse; under AddressSanitizer, without reading
 * or writing what is not its own.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz_receiver.h"
#include "page_history.h"
#include "stream/wire.h"
#include "stream_mend.h"
#include "stream_record.h"
#include "unit.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum {
	STREAMS = 4, /* every other one has pages that come late */
#if defined(__SANITIZE_THREAD__)
	MUTATIONS = 15,
	DAMAGES = 15,
#elif defined(__SANITIZE_ADDRESS__)
	MUTATIONS = 50,
	DAMAGES = 30,
#else
	MUTATIONS = 110,
	DAMAGES = 60,
#endif
	ROOM_BYTES = 4096,
	MAX_FRAMES = 1024,
};

/* What is being done, for when the process dies of it. */
static struct {
	unsigned int tuning;
	unsigned int seed;
	unsigned int mutation;
	const uint8_t *data;
	size_t size_bytes;
} running;

/* In which frames late pages are sent is not the same the next time. */
static void keep_what_ran(void)
{
	char path[] = "/tmp/stream_fuzz-XXXXXX";
	int fd = mkstemp(path);

	if (fd >= 0 && write(fd, running.data, running.size_bytes) > 0)
		fprintf(stderr, "kept in %s\n", path);
}

static void say_what_ran(void)
{
	fprintf(stderr, "mutation %u of stream %u with tuning %u\n",
		running.mutation, running.seed, running.tuning);
	if (running.data)
		keep_what_ran();
}

/* A stream that is being mutated; room for ROOM_BYTES more. */
struct mutant {
	uint8_t *data;
	size_t size_bytes;
	size_t begin[MAX_FRAMES + 1];
	uint32_t n_frames;
	struct page_history random;
};

static void find_frames(struct mutant *mutant)
{
	size_t at = 0;

	mutant->n_frames = 0;
	while (mutant->size_bytes - at >= WIRE_HEADER_BYTES &&
	       mutant->n_frames < MAX_FRAMES) {
		struct wire_header header;

		memcpy(&header, mutant->data + at, sizeof(header));
		mutant->begin[mutant->n_frames++] = at;
		at += sizeof(header) + header.head_bytes + header.body_bytes;
		if (at > mutant->size_bytes)
			break;
	}
	mutant->begin[mutant->n_frames] = mutant->size_bytes;
}

static size_t pick(struct mutant *mutant, size_t limit)
{
	return limit ? history_random(&mutant->random, limit) : 0;
}

/* Somewhere in a frame: its header, its head, or its body. */
static size_t somewhere(struct mutant *mutant)
{
	uint32_t n = (uint32_t)pick(mutant, mutant->n_frames);
	size_t begin = mutant->begin[n];
	size_t size = mutant->begin[n + 1] - begin;
	size_t near = size < 400 ? size : 400;

	return begin + pick(mutant, pick(mutant, 3) ? near : size);
}

static void set_number(struct mutant *mutant)
{
	static const uint64_t numbers[] = {
		0,    1,     2,	      8,	 15,	     16,	63,
		64,   65,    72,      4096,	 4104,	     8192,	262144,
		1023, 65536, 1 << 28, INT32_MAX, UINT32_MAX, UINT64_MAX};
	static const size_t sizes[] = {1, 2, 4, 8};
	uint64_t number = numbers[pick(mutant, 20)];
	size_t bytes = sizes[pick(mutant, 4)];
	size_t at = somewhere(mutant) / bytes * bytes;

	if (at + bytes <= mutant->size_bytes)
		memcpy(mutant->data + at, &number, bytes);
}

static void flip_bit(struct mutant *mutant)
{
	mutant->data[somewhere(mutant)] ^= (uint8_t)(1u << pick(mutant, 8));
}

/* Let a run of bytes repeat one from elsewhere. */
static void repeat(struct mutant *mutant)
{
	size_t from = somewhere(mutant), to = somewhere(mutant);
	size_t bytes = 1 + pick(mutant, 64);

	if (from + bytes <= mutant->size_bytes &&
	    to + bytes <= mutant->size_bytes)
		memmove(mutant->data + to, mutant->data + from, bytes);
}

static void drop_bytes(struct mutant *mutant)
{
	size_t at = somewhere(mutant);
	size_t bytes = 1 + pick(mutant, 32);

	if (at + bytes > mutant->size_bytes)
		return;
	memmove(mutant->data + at, mutant->data + at + bytes,
		mutant->size_bytes - at - bytes);
	mutant->size_bytes -= bytes;
}

static void add_bytes(struct mutant *mutant)
{
	size_t at = somewhere(mutant);
	size_t bytes = 1 + pick(mutant, 32);

	memmove(mutant->data + at + bytes, mutant->data + at,
		mutant->size_bytes - at);
	mutant->size_bytes += bytes;
}

static void swap_types(struct mutant *mutant)
{
	uint32_t n = (uint32_t)pick(mutant, mutant->n_frames);

	mutant->data[mutant->begin[n] + offsetof(struct wire_header, type)] =
		(uint8_t)pick(mutant, 14);
}

/* Tell the mender to leave something as it is. */
static void leave(struct mutant *mutant)
{
	uint32_t n = (uint32_t)pick(mutant, mutant->n_frames);

	mutant->data[mutant->begin[n] +
		     offsetof(struct wire_header, reserved0)] =
		(uint8_t)(1u << pick(mutant, 4));
}

static void mutate(struct mutant *mutant)
{
	static void (*const ways[])(struct mutant * mutant) = {
		set_number, set_number, set_number, flip_bit,	flip_bit,
		repeat,	    drop_bytes, add_bytes,  swap_types, leave};

	for (size_t n = 1 + pick(mutant, 4); n; n--) {
		ways[pick(mutant, sizeof(ways) / sizeof(*ways))](mutant);
		find_frames(mutant);
	}
}

static void fuzz_stream(const uint8_t *data, size_t size_bytes, uint64_t seed)
{
	struct mutant mutant = {.data = malloc(size_bytes + ROOM_BYTES),
				.random = {.random = seed}};

	CHECK(mutant.data);
	for (running.mutation = 0; running.mutation < MUTATIONS;
	     running.mutation++) {
		memcpy(mutant.data, data, size_bytes);
		mutant.size_bytes = size_bytes;
		find_frames(&mutant);
		mutate(&mutant);
		running.data = mutant.data;
		running.size_bytes = mutant.size_bytes;
		LLVMFuzzerTestOneInput(mutant.data, mutant.size_bytes);
	}
	running.data = NULL;
	free(mutant.data);
}

static uint8_t *record(unsigned int tuning, uint64_t seed, size_t *size_bytes)
{
	return seed % 2 ? stream_record_late(&record_tunings[tuning], seed,
					     size_bytes)
			: stream_record(&record_tunings[tuning], seed,
					size_bytes);
}

static void test_mutations(void)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_set_death_callback(say_what_ran);
#endif
	fuzz_last_words = say_what_ran;
	for (running.tuning = 0; running.tuning < RECORD_TUNINGS;
	     running.tuning++) {
		for (running.seed = 0; running.seed < STREAMS; running.seed++) {
			size_t size_bytes;
			uint8_t *data = record(running.tuning, running.seed,
					       &size_bytes);

			fuzz_stream(data, size_bytes, running.seed);
			free(data);
		}
	}
}

/* What is not mutated is taken, and mending leaves it as it is. */
static void test_whole_streams(void)
{
	for (unsigned int i = 0; i < 2 * RECORD_TUNINGS; i++) {
		size_t size_bytes;
		uint8_t *data = record(i / 2, 76 + i % 2, &size_bytes);
		uint8_t *mended = malloc(size_bytes);

		CHECK(mended);
		memcpy(mended, data, size_bytes);
		CHECK_EQ(stream_mend(mended, size_bytes), size_bytes);
		CHECK(memcmp(mended, data, size_bytes) == 0);
		CHECK(fuzz_receive(data, size_bytes));
		free(mended);
		free(data);
	}
}

/* Without mending: refused, or the damage is in what came again. */
static void test_damaged_streams(void)
{
	for (unsigned int i = 0; i < 2 * RECORD_TUNINGS; i++) {
		struct page_history random = {.random = i};
		size_t size_bytes;
		uint8_t *data = record(i / 2, 78 + i % 2, &size_bytes);

		for (unsigned int n = 0; n < DAMAGES; n++) {
			size_t at = history_random(&random, size_bytes);
			uint8_t bit =
				(uint8_t)(1u << history_random(&random, 8));

			CHECK(!fuzz_receive(data, at));
			data[at] ^= bit;
			fuzz_receive(data, size_bytes);
			data[at] ^= bit;
		}
		CHECK(fuzz_receive(data, size_bytes));
		free(data);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){UNIT(test_whole_streams),
					     UNIT(test_damaged_streams),
					     UNIT(test_mutations), UNIT_END});
}
