/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - entries that are not raw take effect; theory in arrival.h */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/delta.h"
#include "transfer/arrival.h"

int page_decoder_init(struct page_decoder *decoder, struct pmig_error *err)
{
	decoder->body =
		malloc((size_t)PMIG_BLOCK_PAGES * WIRE_MAX_STORED_BYTES);
	decoder->plain = malloc(PMIG_BLOCK_BYTES);
	if (!decoder->body || !decoder->plain)
		return pmig_fail(err, -ENOMEM, "no memory to decode pages");
	return decompressor_new(&decoder->decompressor, err);
}

void page_decoder_fini(struct page_decoder *decoder)
{
	decompressor_free(decoder->decompressor);
	free(decoder->plain);
	free(decoder->body);
}

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

bool arrival_locate_copy(const struct pmig_memory *memory,
			 const struct wire_copy *copy, uint64_t *number,
			 unsigned int *page)
{
	const struct pmig_region_map *map;

	if (copy->region >= memory->n_maps || copy->reserved)
		return false;
	map = &memory->maps[copy->region];
	if (copy->offset_bytes % PMIG_PAGE_BYTES ||
	    copy->offset_bytes >= map->region.size_bytes)
		return false;
	*number = map->first_block + copy->offset_bytes / PMIG_BLOCK_BYTES;
	*page = (unsigned int)(copy->offset_bytes / PMIG_PAGE_BYTES %
			       PMIG_BLOCK_PAGES);
	return true;
}

static int decode_copy(const struct arrival *arrival, const struct cursor *at,
		       uint8_t *page, struct pmig_error *err)
{
	struct wire_copy copy;
	const uint8_t *from;

	memcpy(&copy, at->body, sizeof(copy));
	from = arrival->original(arrival, &copy);
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
static int decode_group(struct page_decoder *decoder,
			const struct arrival *arrival, const struct cursor *at,
			uint8_t *page, struct pmig_error *err)
{
	const struct wire_entry *entry = at->entry;
	bool direct = adjacent(at->left, entry->span);
	uint8_t *out = direct ? page : decoder->plain;

	if (decompressor_run(decoder->decompressor, entry->encoding, at->body,
			     entry->stored_bytes, out,
			     entry->span * PMIG_PAGE_BYTES))
		return damaged(arrival, at->left,
			       "its compressed contents are damaged", err);
	if (!direct)
		scatter(arrival, at->left, entry->span, decoder->plain);
	return 0;
}

static int decode_entry(struct page_decoder *decoder,
			const struct arrival *arrival, const struct cursor *at,
			struct pmig_error *err)
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
		return decode_copy(arrival, at, page, err);
	case PMIG_ENCODING_LZ4:
	case PMIG_ENCODING_ZSTD:
		/* the first entry of a group decodes all of it */
		return at->entry->span
			       ? decode_group(decoder, arrival, at, page, err)
			       : 0;
	default:
		return 0;
	}
}

int arrival_decode(struct page_decoder *decoder, const struct arrival *arrival,
		   struct pmig_error *err)
{
	struct cursor at = {
		.left = arrival_stored(arrival),
		.entry = arrival->entries,
		.body = decoder->body,
	};

	for (; at.left; at.left &= at.left - 1, at.entry++) {
		int rc = decode_entry(decoder, arrival, &at, err);

		if (rc)
			return rc;
		*arrival->described |= at.left & -at.left;
		if (at.entry->encoding != PMIG_ENCODING_RAW)
			at.body += at.entry->stored_bytes;
	}
	return 0;
}
