/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_record.h"

#include <string.h>
#include <sys/mman.h>

#include "fuzz_receiver.h"
#include "page_history.h"
#include "unit.h"

enum {
	EPOCHS = 4,
	CHANGES = 25,
};

#define TUNING(...)                                                            \
	{                                                                      \
		.struct_size = sizeof(struct pmig_tuning), __VA_ARGS__         \
	}

const struct pmig_tuning record_tunings[RECORD_TUNINGS] = {
	TUNING(.compression = PMIG_COMPRESSION_AUTO),
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .level = 30,
	       .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = -30,
	       .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .level = 19,
	       .delta = PMIG_CHOICE_AUTO),
};

/* A machine with a tracker, a sender and what it writes to. */
struct recorder {
	struct pmig_region regions[2];
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
	struct pmig_view *view;
	struct pmig_channel *channel;
	struct pmig_sender *sender;
};

static void make_machine(struct recorder *recorder)
{
	const struct pmig_dirty_config tracking = {
		.struct_size = sizeof(tracking),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_error err;

	memcpy(recorder->regions, fuzz_regions, sizeof(recorder->regions));
	for (int i = 0; i < 2; i++) {
		struct pmig_region *region = &recorder->regions[i];

		region->hva =
			mmap(NULL, region->size_bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(region->hva != MAP_FAILED);
	}
	CHECK_OK(pmig_memory_new(recorder->regions, 2, &recorder->memory, &err),
		 err);
	CHECK_OK(pmig_dirty_new(recorder->memory, &tracking, &recorder->dirty,
				&err),
		 err);
	CHECK_OK(pmig_dirty_start(recorder->dirty, &err), err);
	CHECK_OK(pmig_view_new(recorder->dirty, &recorder->view, &err), err);
}

static void make_sender(struct recorder *recorder,
			const struct pmig_tuning *tuning)
{
	struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
		.channels = &recorder->channel,
		.encodings = PMIG_ENCODINGS_ALL,
		.tuning = tuning,
	};
	struct pmig_error err;

	CHECK_OK(pmig_channel_memory(NULL, 0, &recorder->channel, &err), err);
	CHECK_OK(pmig_sender_new(recorder->memory, recorder->view, &config,
				 &recorder->sender, &err),
		 err);
}

static void run(struct recorder *recorder, uint64_t seed)
{
	struct page_history histories[2];
	struct pmig_sender *sender = recorder->sender;
	struct pmig_round round;
	struct pmig_error err;

	CHECK_OK(pmig_sender_hint(sender, &err), err);
	CHECK_OK(pmig_sender_put(sender, PMIG_FRAME_CONFIG, "{}", 2, &err),
		 err);
	for (int i = 0; i < 2; i++)
		histories[i] = (struct page_history){
			.dirty = recorder->dirty,
			.hva = recorder->regions[i].hva,
			.gpa = recorder->regions[i].gpa,
			.n_pages = recorder->regions[i].size_bytes /
				   PMIG_PAGE_BYTES,
			.random = seed + (uint64_t)i,
		};
	for (int epoch = 1; epoch <= EPOCHS; epoch++) {
		history_run(&histories[0], CHANGES);
		history_run(&histories[1], CHANGES);
		CHECK_OK(pmig_sender_put(sender, PMIG_FRAME_STATE, "state", 5,
					 &err),
			 err);
		CHECK_OK(pmig_sender_round(sender,
					   epoch == EPOCHS ? PMIG_EPOCH_SEALED
							   : PMIG_EPOCH_FUZZY,
					   &round, &err),
			 err);
	}
	CHECK_OK(pmig_sender_end(sender, &err), err);
}

static void end(struct recorder *recorder)
{
	pmig_sender_free(recorder->sender);
	pmig_channel_free(recorder->channel);
	pmig_view_free(recorder->view);
	pmig_dirty_free(recorder->dirty);
	pmig_memory_free(recorder->memory);
	for (int i = 0; i < 2; i++)
		munmap(recorder->regions[i].hva,
		       recorder->regions[i].size_bytes);
}

uint8_t *stream_record(const struct pmig_tuning *tuning, uint64_t seed,
		       size_t *size_bytes)
{
	struct recorder recorder = {0};
	const void *data;
	uint8_t *copy;

	make_machine(&recorder);
	make_sender(&recorder, tuning);
	run(&recorder, seed);
	data = pmig_channel_memory_data(recorder.channel, size_bytes);
	copy = malloc(*size_bytes);
	CHECK(copy);
	memcpy(copy, data, *size_bytes);
	end(&recorder);
	return copy;
}
