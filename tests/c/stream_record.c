/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_record.h"

#include <string.h>
#include <sys/mman.h>

#include "fuzz_receiver.h"
#include "page_history.h"
#include "stream/frame.h"
#include "stream_mend.h"
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
	struct pmig_channel *channels[2]; /* the second one is urgent */
	uint32_t n_channels;
	size_t asked_bytes; /* what was to be read on that one */
	struct pmig_sender *sender;
	struct page_history histories[2];
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

/* Every page is asked for; then all of them are said to have come. */
static size_t ask_for_all(const struct pmig_memory *memory, uint8_t *to)
{
	size_t bytes = 0;
	uint64_t block = 0;

	for (; block <= memory->n_blocks; block++) {
		struct frame *frame = (void *)(to + bytes);
		struct wire_request request;
		struct pmig_block at;

		if (block == memory->n_blocks) {
			frame_begin(frame, PMIG_FRAME_ARRIVED, 0, 0, block);
		} else {
			pmig_memory_locate(memory, block, &at);
			request = (struct wire_request){
				.pages = at.valid,
				.offset_bytes = at.offset_bytes,
				.region = (uint32_t)(at.map - memory->maps),
			};
			frame_begin(frame, PMIG_FRAME_REQUEST, sizeof(request),
				    0, block);
			memcpy(frame->head, &request, sizeof(request));
		}
		frame_finish(frame);
		bytes += frame_bytes(frame);
	}
	return bytes;
}

static void make_sender(struct recorder *recorder,
			const struct pmig_tuning *tuning)
{
	struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = recorder->n_channels,
		.channels = recorder->channels,
		.flags = recorder->n_channels > 1 ? PMIG_SENDER_LATE : 0,
		.encodings = PMIG_ENCODINGS_ALL,
		.tuning = tuning,
	};
	_Alignas(8) uint8_t asked[1024];
	struct pmig_error err;

	if (recorder->n_channels > 1)
		recorder->asked_bytes = ask_for_all(recorder->memory, asked);
	CHECK(recorder->asked_bytes <= sizeof(asked));
	CHECK_OK(pmig_channel_memory(NULL, 0, &recorder->channels[0], &err),
		 err);
	CHECK_OK(pmig_channel_memory(asked, recorder->asked_bytes,
				     &recorder->channels[1], &err),
		 err);
	CHECK_OK(pmig_sender_new(recorder->memory, recorder->view, &config,
				 &recorder->sender, &err),
		 err);
}

static void begin(struct recorder *recorder, uint64_t seed)
{
	struct pmig_error err;

	CHECK_OK(pmig_sender_hint(recorder->sender, &err), err);
	CHECK_OK(pmig_sender_put(recorder->sender, PMIG_FRAME_CONFIG, "{}", 2,
				 &err),
		 err);
	for (int i = 0; i < 2; i++)
		recorder->histories[i] = (struct page_history){
			.dirty = recorder->dirty,
			.hva = recorder->regions[i].hva,
			.gpa = recorder->regions[i].gpa,
			.n_pages = recorder->regions[i].size_bytes /
				   PMIG_PAGE_BYTES,
			.random = seed + (uint64_t)i,
		};
}

/* The machine runs, and an epoch has what it wrote, or names it (defer). */
static void run_epoch(struct recorder *recorder, enum pmig_epoch_kind kind,
		      bool defer)
{
	struct pmig_sender *sender = recorder->sender;
	struct pmig_round round;
	struct pmig_error err;

	history_run(&recorder->histories[0], CHANGES);
	history_run(&recorder->histories[1], CHANGES);
	CHECK_OK(pmig_sender_put(sender, PMIG_FRAME_STATE, "state", 5, &err),
		 err);
	if (defer)
		CHECK_OK(pmig_sender_defer(sender, kind, &round, &err), err);
	else
		CHECK_OK(pmig_sender_round(sender, kind, &round, &err), err);
}

static void end(struct recorder *recorder)
{
	pmig_sender_free(recorder->sender);
	pmig_channel_free(recorder->channels[0]);
	pmig_channel_free(recorder->channels[1]);
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
	struct recorder recorder = {.n_channels = 1};
	struct pmig_error err;
	const void *data;
	uint8_t *copy;

	make_machine(&recorder);
	make_sender(&recorder, tuning);
	begin(&recorder, seed);
	for (int epoch = 1; epoch < EPOCHS; epoch++)
		run_epoch(&recorder, PMIG_EPOCH_FUZZY, false);
	run_epoch(&recorder, PMIG_EPOCH_SEALED, false);
	CHECK_OK(pmig_sender_end(recorder.sender, &err), err);
	data = pmig_channel_memory_data(recorder.channels[0], size_bytes);
	copy = malloc(*size_bytes);
	CHECK(copy);
	memcpy(copy, data, *size_bytes);
	end(&recorder);
	return copy;
}

/* ---- late -------------------------------------------------------------- */

/* The part of a channel within its late epoch. */
struct late_part {
	const uint8_t *data;
	size_t size_bytes;
	size_t begin;
	size_t end;
};

static void find_late(struct late_part *part)
{
	size_t at = 0;

	while (!part->end && part->size_bytes - at >= WIRE_HEADER_BYTES) {
		struct wire_header header;
		struct wire_epoch epoch;

		memcpy(&header, part->data + at, sizeof(header));
		memcpy(&epoch, part->data + at + sizeof(header), sizeof(epoch));
		if (part->begin && header.type == PMIG_FRAME_EPOCH_END)
			part->end = at;
		at += sizeof(header) + header.head_bytes + header.body_bytes;
		if (header.type == PMIG_FRAME_EPOCH &&
		    epoch.kind == PMIG_EPOCH_LATE)
			part->begin = at;
	}
	CHECK(part->end);
}

/* Of two channels one: all of the first, and late pages of both. */
static uint8_t *merge(const struct late_part *first,
		      const struct late_part *second, size_t *size_bytes)
{
	size_t more = second->end - second->begin;
	struct wire_stream *stream;
	uint8_t *data;

	*size_bytes = first->size_bytes + more;
	data = malloc(*size_bytes);
	CHECK(data);
	memcpy(data, first->data, first->begin);
	memcpy(data + first->begin, second->data + second->begin, more);
	memcpy(data + first->begin + more, first->data + first->begin,
	       first->size_bytes - first->begin);
	stream = (void *)(data + WIRE_HEADER_BYTES);
	stream->channel_count = 1;
	CHECK_EQ(stream_mend(data, *size_bytes), *size_bytes);
	return data;
}

uint8_t *stream_record_late(const struct pmig_tuning *tuning, uint64_t seed,
			    size_t *size_bytes)
{
	struct recorder recorder = {.n_channels = 2};
	struct late_part parts[2] = {{0}};
	struct pmig_round round;
	struct pmig_late late;
	struct pmig_error err;
	uint8_t *data;

	make_machine(&recorder);
	make_sender(&recorder, tuning);
	begin(&recorder, seed);
	run_epoch(&recorder, PMIG_EPOCH_FUZZY, false);
	run_epoch(&recorder, PMIG_EPOCH_FUZZY, false);
	pmig_view_commit(recorder.view);
	run_epoch(&recorder, PMIG_EPOCH_FUZZY, true);
	run_epoch(&recorder, PMIG_EPOCH_SEALED, true);
	CHECK_OK(pmig_sender_late(recorder.sender, &round, &late, &err), err);
	CHECK_OK(pmig_sender_end(recorder.sender, &err), err);
	for (int i = 0; i < 2; i++) {
		size_t skip = i ? recorder.asked_bytes : 0;

		parts[i].data = pmig_channel_memory_data(recorder.channels[i],
							 &parts[i].size_bytes);
		parts[i].data += skip;
		parts[i].size_bytes -= skip;
		find_late(&parts[i]);
	}
	data = merge(&parts[0], &parts[1], size_bytes);
	end(&recorder);
	return data;
}
