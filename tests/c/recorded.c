/* SPDX-License-Identifier: Apache-2.0 */
#include "recorded.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

#define TUNING(...)                                                            \
	{                                                                      \
		.struct_size = sizeof(struct pmig_tuning), __VA_ARGS__         \
	}

const struct pmig_tuning recorded_tunings[RECORDED_TUNINGS] = {
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_AUTO),
};

void recorded_open(struct recorded *recorded, uint64_t size_bytes)
{
	const struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_error err;

	*recorded = (struct recorded){.n_pages = size_bytes / PMIG_PAGE_BYTES};
	recorded->tuning.struct_size = sizeof(recorded->tuning);
	backing_map(&recorded->source, BACKING_ANONYMOUS, size_bytes);
	recorded->memory = backing_describe(&recorded->source);
	recorded->fd = memfd_create("recorded", MFD_CLOEXEC);
	CHECK(recorded->fd >= 0);
	CHECK_OK(pmig_dirty_new(recorded->memory, &config, &recorded->dirty,
				&err),
		 err);
	CHECK_OK(pmig_dirty_start(recorded->dirty, &err), err);
	CHECK_OK(pmig_view_new(recorded->dirty, &recorded->view, &err), err);
}

void recorded_connect(struct recorded *recorded)
{
	const struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
		.channels = &recorded->channel,
		.flags = recorded->flags,
		.encodings = PMIG_ENCODINGS_ALL,
		.tuning = &recorded->tuning,
	};
	struct pmig_error err;

	CHECK_OK(pmig_channel_from_file(recorded->fd, &recorded->channel, &err),
		 err);
	CHECK_OK(pmig_sender_new(recorded->memory, recorded->view, &config,
				 &recorded->sender, &err),
		 err);
	CHECK_OK(pmig_sender_hint(recorded->sender, &err), err);
	CHECK_OK(pmig_sender_put(recorded->sender, PMIG_FRAME_CONFIG, "{}", 2,
				 &err),
		 err);
}

static void mark(struct recorded *recorded, uint64_t first_page,
		 uint64_t n_pages)
{
	CHECK_EQ(pmig_dirty_mark(recorded->dirty, first_page * PMIG_PAGE_BYTES,
				 n_pages * PMIG_PAGE_BYTES),
		 0);
}

void recorded_fill(struct recorded *recorded, uint64_t first_page,
		   uint64_t n_pages, uint64_t seed)
{
	for (uint64_t page = first_page; page < first_page + n_pages; page++) {
		uint64_t *words = (uint64_t *)(recorded->source.bytes +
					       page * PMIG_PAGE_BYTES);

		for (unsigned int i = 0; i < PMIG_PAGE_BYTES / 8; i++)
			words[i] = page % 3 == 0   ? 0
				   : page % 3 == 1 ? (seed + page) ^ (i / 16)
						   : (seed + page * 512 +
						      i) * 0x9e3779b97f4a7c15u;
	}
	mark(recorded, first_page, n_pages);
}

void recorded_change(struct recorded *recorded, uint64_t every, uint64_t seed)
{
	for (uint64_t page = 0; page < recorded->n_pages; page += every) {
		uint8_t *bytes =
			recorded->source.bytes + page * PMIG_PAGE_BYTES;

		memcpy(bytes + page % 4000, &seed, sizeof(seed));
		mark(recorded, page, 1);
	}
}

void recorded_round(struct recorded *recorded, enum pmig_epoch_kind kind)
{
	struct pmig_error err;

	CHECK_OK(pmig_sender_round(recorded->sender, kind, &recorded->round,
				   &err),
		 err);
	pmig_view_commit(recorded->view);
}

void recorded_seal(struct recorded *recorded)
{
	struct pmig_error err;

	CHECK_OK(pmig_sender_put(recorded->sender, PMIG_FRAME_STATE, "state", 5,
				 &err),
		 err);
	recorded_round(recorded, PMIG_EPOCH_SEALED);
	CHECK_OK(pmig_sender_end(recorded->sender, &err), err);
}

void recorded_make(struct recorded *recorded, uint64_t size_bytes,
		   const struct pmig_tuning *tuning, uint32_t flags)
{
	uint64_t n = size_bytes / PMIG_PAGE_BYTES;

	recorded_open(recorded, size_bytes);
	if (tuning)
		recorded->tuning = *tuning;
	recorded->flags = flags;
	recorded_fill(recorded, 0, n, 7);
	recorded_connect(recorded);
	recorded_round(recorded, PMIG_EPOCH_FUZZY);
	recorded_change(recorded, 7, 1);
	recorded_round(recorded, PMIG_EPOCH_FUZZY);
	recorded_change(recorded, 21, 2);
	recorded_fill(recorded, n / 4, n / 8, 9);
	/* what held something is zeros, and the other way round */
	memset(recorded->source.bytes + n / 2 * PMIG_PAGE_BYTES, 0,
	       8 * PMIG_PAGE_BYTES);
	memset(recorded->source.bytes + (n / 2 + 8) * PMIG_PAGE_BYTES, 5,
	       8 * PMIG_PAGE_BYTES);
	mark(recorded, n / 2, 16);
	recorded_seal(recorded);
}

void recorded_close(struct recorded *recorded)
{
	pmig_sender_free(recorded->sender);
	pmig_channel_free(recorded->channel);
	pmig_view_free(recorded->view);
	pmig_dirty_free(recorded->dirty);
	pmig_memory_free(recorded->memory);
	backing_unmap(&recorded->source);
	close(recorded->fd);
}
