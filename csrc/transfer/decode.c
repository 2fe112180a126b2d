/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - entries that are not raw take effect; theory in arrival.h */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "codec/delta.h"
#include "transfer/arrival.h"

/* Where decoding has got to. */
struct cursor {
	uint64_t left;			/* pages with entries still to come */
	const struct wire_entry *entry; /* of the lowest of them */
	const uint8_t *body;		/* its contents, unless raw */
};

static int damaged(const struct arrival *arrival, uint64_t pages,
		   const char *what, struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG, "the page at 0x%" PRIx64 ": %s",
			 arrival_gpa(arrival, pages), what);
}

/* Of a late page, which the guest may have changed by now, only this frame. */
static const uint8_t *original_in_frame(const struct arrival *arrival,
					uint64_t number, uint64_t page)
{
	static const uint8_t zeros[PMIG_PAGE_BYTES];

	if (number != arrival->number || !(*arrival->described >> page & 1))
		return NULL;
	/* one that is zero is not put together anywhere */
	if (arrival->pages->zero_mask >> page & 1)
		return zeros;
	return arrival_page(arrival, (unsigned int)page);
}

/* The page that a copy names, if it took effect on this channel already. */
static const uint8_t *original(const struct reader *reader,
			       const struct arrival *arrival,
			       const struct wire_copy *copy)
{
	const struct pmig_receiver *receiver = reader->receiver;
	const struct pmig_memory *memory = receiver->memory;
	const struct pmig_region_map *map;
	struct pmig_block block;
	uint64_t page, number;

	if (copy->region >= memory->n_maps || copy->reserved)
		return NULL;
	map = &memory->maps[copy->region];
	if (copy->offset_bytes % PMIG_PAGE_BYTES ||
	    copy->offset_bytes >= map->region.size_bytes)
		return NULL;
	number = map->first_block + copy->offset_bytes / PMIG_BLOCK_BYTES;
	page = copy->offset_bytes / PMIG_PAGE_BYTES % PMIG_BLOCK_PAGES;
	if (reader->part.kind == PMIG_EPOCH_LATE)
		return original_in_frame(arrival, number, page);
	if (!pmig_memory_locate(memory, number, &block) ||
	    receiver->seen[number] != seen_mark(reader) ||
	    !(receiver->described[number] >> page & 1))
		return NULL;
	return block.hva + page * PMIG_PAGE_BYTES;
}

static int decode_copy(struct reader *reader, const struct arrival *arrival,
		       const struct cursor *at, uint8_t *page,
		       struct pmig_error *err)
{
	struct wire_copy copy;
	const uint8_t *from;

	memcpy(&copy, at->body, sizeof(copy));
	from = original(reader, arrival, &copy);
	if (!from)
		return damaged(arrival, at->left,
			       "a copy of a page that was not sent before",
			       err);
	memcpy(page, from, PMIG_PAGE_BYTES);
	return 0;
}

/* Are the span lowest of pages neighbours? */
static bool adjacent(uint64_t pages, unsigned int span)
{
	uint64_t run = pages >> __builtin_ctzll(pages);

	return span == PMIG_BLOCK_PAGES ? run == ~0ull
					: (~run & ((1ull << span) - 1)) == 0;
}

static void scatter(const struct arrival *arrival, uint64_t pages,
		    unsigned int span, const uint8_t *plain)
{
	for (; span--; pages &= pages - 1, plain += PMIG_PAGE_BYTES)
		memcpy(arrival_page(arrival,
				    (unsigned int)__builtin_ctzll(pages)),
		       plain, PMIG_PAGE_BYTES);
}

/* Pages that lie side by side are decompressed to where they belong. */
static int decode_group(struct reader *reader, const struct arrival *arrival,
			const struct cursor *at, uint8_t *page,
			struct pmig_error *err)
{
	const struct wire_entry *entry = at->entry;
	bool direct = adjacent(at->left, entry->span);
	uint8_t *out = direct ? page : reader->plain;

	if (decompressor_run(reader->decompressor, entry->encoding, at->body,
			     entry->stored_bytes, out,
			     entry->span * PMIG_PAGE_BYTES))
		return damaged(arrival, at->left,
			       "its compressed contents are damaged", err);
	if (!direct)
		scatter(arrival, at->left, entry->span, reader->plain);
	return 0;
}

static int decode_entry(struct reader *reader, const struct arrival *arrival,
			const struct cursor *at, struct pmig_error *err)
{
	uint8_t *page =
		arrival_page(arrival, (unsigned int)__builtin_ctzll(at->left));

	switch (at->entry->encoding) {
	case PMIG_ENCODING_DELTA:
		if (delta_apply(page, at->body, at->entry->stored_bytes))
			return damaged(arrival, at->left,
				       "its delta is malformed", err);
		return 0;
	case PMIG_ENCODING_COPY:
		return decode_copy(reader, arrival, at, page, err);
	case PMIG_ENCODING_LZ4:
	case PMIG_ENCODING_ZSTD:
		/* the first entry of a group decodes all of it */
		return at->entry->span
			       ? decode_group(reader, arrival, at, page, err)
			       : 0;
	default:
		return 0;
	}
}

int arrival_decode(struct reader *reader, const struct arrival *arrival,
		   struct pmig_error *err)
{
	struct cursor at = {
		.left = arrival_stored(arrival),
		.entry = arrival->entries,
		.body = reader->body,
	};

	for (; at.left; at.left &= at.left - 1, at.entry++) {
		int rc = decode_entry(reader, arrival, &at, err);

		if (rc)
			return rc;
		*arrival->described |= at.left & -at.left;
		if (at.entry->encoding != PMIG_ENCODING_RAW)
			at.body += at.entry->stored_bytes;
	}
	return 0;
}
