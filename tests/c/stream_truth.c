/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_truth.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "memory/memory.h"
#include "page/hash.h"
#include "stream/wire.h"

/* Calls take with each frame. */
static void walk(const uint8_t *data, size_t size_bytes,
		 void (*take)(void *arg, const struct wire_header *header,
			      const uint8_t *head),
		 void *arg)
{
	size_t at = 0;

	while (size_bytes - at >= WIRE_HEADER_BYTES) {
		struct wire_header header;

		memcpy(&header, data + at, sizeof(header));
		take(arg, &header, data + at + sizeof(header));
		at += sizeof(header) + header.head_bytes + header.body_bytes;
	}
}

/* The last word on every page; of a late one, the first that was right. */
struct truth {
	const struct pmig_memory *memory;
	uint64_t *hashes;
	const uint64_t *found; /* what memory holds */
	uint64_t *owed;	       /* per block, outstanding pages */
	uint64_t zero_hash;
	bool is_late;
};

static uint64_t block_of(const struct truth *truth, uint32_t region,
			 uint64_t offset_bytes)
{
	return truth->memory->maps[region].first_block +
	       offset_bytes / PMIG_BLOCK_BYTES;
}

static void take_page(struct truth *truth, uint64_t block, unsigned int page,
		      const struct wire_entry *entry)
{
	const uint32_t resting = 1 << PMIG_ENCODING_UNCHANGED |
				 1 << PMIG_ENCODING_DELTA |
				 1 << PMIG_ENCODING_COPY;
	uint64_t bit = UINT64_C(1) << page;
	uint64_t at = block * PMIG_BLOCK_PAGES + page;
	uint64_t hash = entry ? entry->hash : 0;

	if (hash == truth->zero_hash)
		hash = 0;
	if (truth->is_late && !(truth->owed[block] & bit))
		return;
	/* one that was stale came again */
	if (truth->is_late && entry && resting >> entry->encoding & 1 &&
	    hash != truth->found[at])
		return;
	truth->hashes[at] = hash;
	truth->owed[block] &= ~bit;
}

static void take_pages(struct truth *truth, const uint8_t *head)
{
	struct wire_pages pages;
	uint64_t block;

	memcpy(&pages, head, sizeof(pages));
	block = block_of(truth, pages.region, pages.offset_bytes);
	head += sizeof(pages);
	for (uint64_t left = pages.mask; left; left &= left - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);
		struct wire_entry entry;

		if (pages.zero_mask >> page & 1) {
			take_page(truth, block, page, NULL);
			continue;
		}
		memcpy(&entry, head, sizeof(entry));
		head += sizeof(entry);
		take_page(truth, block, page, &entry);
	}
}

static void take_outstanding(struct truth *truth,
			     const struct wire_header *header,
			     const uint8_t *head)
{
	static uint64_t words[WIRE_MAX_OUTSTANDING_BLOCKS];
	const uint8_t *body = head + header->head_bytes;
	struct wire_outstanding outstanding;
	uint64_t first;

	memcpy(&outstanding, head, sizeof(outstanding));
	if (outstanding.encoding == PMIG_ENCODING_ZSTD)
		ZSTD_decompress(words, sizeof(words), body, header->body_bytes);
	else
		memcpy(words, body, header->body_bytes);
	first = block_of(truth, outstanding.region, outstanding.offset_bytes);
	for (uint64_t i = 0; i < outstanding.block_count; i++)
		truth->owed[first + i] |= words[i];
}

static bool is_late(const uint8_t *head)
{
	struct wire_epoch epoch;

	memcpy(&epoch, head, sizeof(epoch));
	return epoch.kind == PMIG_EPOCH_LATE;
}

static void take_frame(void *arg, const struct wire_header *header,
		       const uint8_t *head)
{
	struct truth *truth = arg;

	switch (header->type) {
	case PMIG_FRAME_EPOCH:
		truth->is_late = is_late(head);
		break;
	case PMIG_FRAME_OUTSTANDING:
		take_outstanding(truth, header, head);
		break;
	case PMIG_FRAME_PAGES:
		take_pages(truth, head);
		break;
	default:
		break;
	}
}

/* The first page that is not what was said, or was never said to be. */
static int64_t first_wrong(const struct truth *truth, uint64_t n_blocks)
{
	for (uint64_t block = 0; block < n_blocks; block++) {
		uint64_t first = block * PMIG_BLOCK_PAGES;

		if (truth->owed[block])
			return (int64_t)(first + (uint64_t)__builtin_ctzll(
							 truth->owed[block]));
		for (uint64_t i = first; i < first + PMIG_BLOCK_PAGES; i++)
			if (truth->found[i] != truth->hashes[i])
				return (int64_t)i;
	}
	return -1;
}

int64_t stream_truth(const struct pmig_memory *memory, const uint8_t *data,
		     size_t size_bytes)
{
	static const uint8_t zeros[PMIG_PAGE_BYTES];
	uint64_t n_blocks = pmig_memory_blocks(memory);
	size_t n_pages = n_blocks * PMIG_BLOCK_PAGES;
	uint64_t *found = calloc(n_pages, sizeof(*found));
	struct truth truth = {
		.memory = memory,
		.hashes = calloc(n_pages, sizeof(uint64_t)),
		.owed = calloc(n_blocks, sizeof(uint64_t)),
		.found = found,
		.zero_hash = pmig_hash(zeros, sizeof(zeros)),
	};
	int64_t wrong;

	if (!truth.hashes || !truth.owed || !found ||
	    pmig_memory_hash(memory, 0, n_blocks, found, NULL))
		abort();
	walk(data, size_bytes, take_frame, &truth);
	wrong = first_wrong(&truth, n_blocks);
	free(found);
	free(truth.owed);
	free(truth.hashes);
	return wrong;
}

static void take_kind(void *arg, const struct wire_header *header,
		      const uint8_t *head)
{
	struct wire_epoch epoch;

	if (header->type != PMIG_FRAME_EPOCH)
		return;
	memcpy(&epoch, head, sizeof(epoch));
	*(bool *)arg = epoch.kind != PMIG_EPOCH_FUZZY;
}

bool stream_ends_whole(const uint8_t *data, size_t size_bytes)
{
	bool whole = false;

	walk(data, size_bytes, take_kind, &whole);
	return whole;
}
