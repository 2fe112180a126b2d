/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_truth.h"

#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"
#include "page/hash.h"
#include "stream/wire.h"

/* Calls take with each frame. */
static void walk(const uint8_t *data, size_t size_bytes,
		 void (*take)(void *arg, uint8_t type, const uint8_t *head),
		 void *arg)
{
	size_t at = 0;

	while (size_bytes - at >= WIRE_HEADER_BYTES) {
		struct wire_header header;

		memcpy(&header, data + at, sizeof(header));
		take(arg, header.type, data + at + sizeof(header));
		at += sizeof(header) + header.head_bytes + header.body_bytes;
	}
}

/* The last word on every page. */
struct truth {
	const struct pmig_memory *memory;
	uint64_t *hashes;
	uint64_t zero_hash;
};

static void take_pages(void *arg, uint8_t type, const uint8_t *head)
{
	const struct truth *truth = arg;
	struct wire_pages pages;
	uint64_t *hashes;

	if (type != PMIG_FRAME_PAGES)
		return;
	memcpy(&pages, head, sizeof(pages));
	hashes = truth->hashes +
		 PMIG_BLOCK_PAGES *
			 (truth->memory->maps[pages.region].first_block +
			  pages.offset_bytes / PMIG_BLOCK_BYTES);
	head += sizeof(pages);
	for (uint64_t left = pages.mask; left; left &= left - 1) {
		uint64_t hash = 0;

		if (!(pages.zero_mask & left & -left)) {
			memcpy(&hash, head, sizeof(hash));
			head += sizeof(struct wire_entry);
		}
		hashes[__builtin_ctzll(left)] =
			hash == truth->zero_hash ? 0 : hash;
	}
}

int64_t stream_truth(const struct pmig_memory *memory, const uint8_t *data,
		     size_t size_bytes)
{
	static const uint8_t zeros[PMIG_PAGE_BYTES];
	uint64_t n_blocks = pmig_memory_blocks(memory);
	size_t n_pages = n_blocks * PMIG_BLOCK_PAGES;
	struct truth truth = {
		.memory = memory,
		.hashes = calloc(n_pages, sizeof(uint64_t)),
		.zero_hash = pmig_hash(zeros, sizeof(zeros)),
	};
	uint64_t *found = calloc(n_pages, sizeof(*found));
	int64_t wrong = -1;

	if (!truth.hashes || !found ||
	    pmig_memory_hash(memory, 0, n_blocks, found, NULL))
		abort();
	walk(data, size_bytes, take_pages, &truth);
	for (size_t i = 0; i < n_pages && wrong < 0; i++)
		if (found[i] != truth.hashes[i])
			wrong = (int64_t)i;
	free(found);
	free(truth.hashes);
	return wrong;
}

static void take_kind(void *arg, uint8_t type, const uint8_t *head)
{
	struct wire_epoch epoch;

	if (type != PMIG_FRAME_EPOCH)
		return;
	memcpy(&epoch, head, sizeof(epoch));
	*(bool *)arg = epoch.kind == PMIG_EPOCH_SEALED;
}

bool stream_ends_sealed(const uint8_t *data, size_t size_bytes)
{
	bool sealed = false;

	walk(data, size_bytes, take_kind, &sealed);
	return sealed;
}
