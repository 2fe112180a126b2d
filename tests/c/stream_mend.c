/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_mend.h"

#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "page/hash.h"
#include "stream/wire.h"

/* What adds up along a stream. */
struct sums {
	uint64_t sequence;
	uint64_t epoch;
	uint32_t kind;
	uint64_t frames;
	uint64_t pages;
	uint64_t digest;
};

/* One frame in the data, with what lies behind its header. */
struct part {
	struct wire_header header;
	uint32_t leave;
	uint8_t *head;
	uint8_t *body;
};

static uint32_t min_u32(uint32_t a, size_t b)
{
	return a < b ? a : (uint32_t)b;
}

/* Let the pages of a group have the hashes that its bytes give. */
static void hash_group(struct wire_entry *entries, uint32_t n,
		       const uint8_t *body)
{
	static uint8_t plain[PMIG_BLOCK_BYTES];
	size_t want = (size_t)entries->span * PMIG_PAGE_BYTES;
	size_t got = 0;

	if (want == 0 || want > sizeof(plain))
		return;
	if (entries->encoding == PMIG_ENCODING_LZ4) {
		int rc = LZ4_decompress_safe((const char *)body, (char *)plain,
					     (int)entries->stored_bytes,
					     (int)want);

		got = rc < 0 ? 0 : (size_t)rc;
	} else {
		got = ZSTD_decompress(plain, want, body, entries->stored_bytes);
		got = ZSTD_isError(got) ? 0 : got;
	}
	for (uint32_t i = 0; i < n && got >= PMIG_PAGE_BYTES; i++) {
		entries[i].hash = pmig_hash(plain + (size_t)i * PMIG_PAGE_BYTES,
					    PMIG_PAGE_BYTES);
		got -= PMIG_PAGE_BYTES;
	}
}

static void hash_entries(struct wire_entry *entries, uint32_t n,
			 const uint8_t *body)
{
	for (uint32_t i = 0; i < n; body += entries[i++].stored_bytes) {
		uint8_t encoding = entries[i].encoding;

		if (encoding == PMIG_ENCODING_RAW &&
		    entries[i].stored_bytes == PMIG_PAGE_BYTES)
			entries[i].hash = pmig_hash(body, PMIG_PAGE_BYTES);
		else if (encoding == PMIG_ENCODING_LZ4 ||
			 encoding == PMIG_ENCODING_ZSTD)
			hash_group(&entries[i], n - i, body);
	}
}

static void sum_pages(struct sums *sums, const struct wire_pages *pages,
		      const struct wire_entry *entries)
{
	uint64_t first = pages->offset_bytes / PMIG_PAGE_BYTES;
	const struct wire_entry *last = entries + pages->entry_count;

	sums->frames++;
	for (uint64_t left = pages->mask; left; left &= left - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);
		bool zero = pages->zero_mask >> page & 1;
		uint64_t hash = zero || entries == last ? 0 : entries->hash;

		entries += !zero && entries < last;
		sums->digest +=
			pmig_hash_placed(pages->region, first + page, hash);
		sums->pages++;
	}
}

/* Entries for the pages, sizes that end where the data does. */
static void mend_pages(struct part *part, struct sums *sums, size_t left)
{
	struct wire_header *header = &part->header;
	struct wire_pages pages;
	struct wire_entry entries[PMIG_BLOCK_PAGES];
	size_t body = 0;

	if (left < sizeof(pages))
		return;
	memcpy(&pages, part->head, sizeof(pages));
	pages.epoch = sums->epoch;
	pages.zero_mask &= pages.mask;
	pages.entry_count =
		(uint32_t)__builtin_popcountll(pages.mask & ~pages.zero_mask);
	header->head_bytes = (uint32_t)(sizeof(pages) +
					pages.entry_count * sizeof(*entries));
	if (header->head_bytes > left)
		return;
	left -= header->head_bytes;
	memcpy(part->head, &pages, sizeof(pages));
	part->body = part->head + header->head_bytes;
	memcpy(entries, part->head + sizeof(pages),
	       header->head_bytes - sizeof(pages));
	for (uint32_t i = 0; i < pages.entry_count; i++) {
		entries[i].stored_bytes =
			min_u32(entries[i].stored_bytes, left - body);
		body += entries[i].stored_bytes;
	}
	header->body_bytes = (uint32_t)body;
	if (!(part->leave & MEND_LEAVE_HASHES))
		hash_entries(entries, pages.entry_count, part->body);
	memcpy(part->head + sizeof(pages), entries,
	       header->head_bytes - sizeof(pages));
	sum_pages(sums, &pages, entries);
}

static void mend_blob(struct part *part, struct sums *sums)
{
	struct wire_blob blob;

	if (part->header.head_bytes != sizeof(blob))
		return;
	blob.body_hash = pmig_hash(part->body, part->header.body_bytes);
	memcpy(part->head, &blob, sizeof(blob));
	if (part->header.type == PMIG_FRAME_STATE)
		sums->digest += blob.body_hash;
}

/* As many blocks as the body has words for. */
static void mend_outstanding(struct part *part, struct sums *sums)
{
	static uint8_t plain[PMIG_BLOCK_BYTES];
	struct wire_outstanding head;
	const uint8_t *bitmap = part->body;
	size_t bytes = part->header.body_bytes / 8 * 8;

	if (part->header.head_bytes != sizeof(head))
		return;
	memcpy(&head, part->head, sizeof(head));
	head.epoch = sums->epoch;
	if (head.encoding == PMIG_ENCODING_ZSTD) {
		bytes = ZSTD_decompress(plain, sizeof(plain), part->body,
					part->header.body_bytes);
		bytes = ZSTD_isError(bytes) ? 0 : bytes / 8 * 8;
		bitmap = plain;
	} else {
		part->header.body_bytes = (uint32_t)bytes;
	}
	if (!(part->leave & MEND_LEAVE_HASHES)) {
		head.block_count = bytes / 8;
		head.bitmap_hash = pmig_hash(bitmap, bytes);
	}
	sums->digest += head.bitmap_hash;
	memcpy(part->head, &head, sizeof(head));
}

static void mend_epoch(struct part *part, struct sums *sums)
{
	struct wire_epoch epoch;

	if (part->header.head_bytes != sizeof(epoch))
		return;
	memcpy(&epoch, part->head, sizeof(epoch));
	epoch.epoch = ++sums->epoch;
	epoch.kind = (epoch.kind - 1) % 3 + 1;
	sums->kind = epoch.kind;
	sums->frames = 0;
	sums->pages = 0;
	memcpy(part->head, &epoch, sizeof(epoch));
}

static void mend_sums(struct part *part, struct sums *sums)
{
	const struct wire_epoch_end last = {
		.epoch = sums->epoch,
		.kind = sums->kind,
		.frame_count = sums->frames,
		.page_count = sums->pages,
		.digest = sums->digest,
	};
	const struct wire_end end = {.frame_count = sums->sequence};

	if (part->header.type == PMIG_FRAME_EPOCH_END) {
		sums->digest = 0;
		if (part->header.head_bytes == sizeof(last))
			memcpy(part->head, &last, sizeof(last));
	} else if (part->header.head_bytes == sizeof(end)) {
		memcpy(part->head, &end, sizeof(end));
	}
}

static void mend_head(struct part *part, struct sums *sums, size_t left)
{
	switch (part->header.type) {
	case PMIG_FRAME_PAGES:
		mend_pages(part, sums, left);
		break;
	case PMIG_FRAME_CONFIG:
	case PMIG_FRAME_STATE:
		mend_blob(part, sums);
		break;
	case PMIG_FRAME_OUTSTANDING:
		mend_outstanding(part, sums);
		break;
	case PMIG_FRAME_EPOCH:
		mend_epoch(part, sums);
		break;
	case PMIG_FRAME_EPOCH_END:
	case PMIG_FRAME_END:
		if (!(part->leave & MEND_LEAVE_SUMS))
			mend_sums(part, sums);
		break;
	default:
		break;
	}
}

static uint64_t checksum_of(const uint8_t *frame, uint32_t head_bytes)
{
	return pmig_hash(frame + WIRE_CHECKSUM_FROM,
			 WIRE_HEADER_BYTES - WIRE_CHECKSUM_FROM + head_bytes);
}

/* Returns the size of the frame, header included. */
static size_t mend_frame(uint8_t *data, size_t size_bytes, struct sums *sums)
{
	static const uint8_t magic[4] = WIRE_MAGIC_BYTES;
	size_t left = size_bytes - WIRE_HEADER_BYTES;
	struct part part = {.head = data + WIRE_HEADER_BYTES};
	struct wire_header *header = &part.header;

	memcpy(header, data, sizeof(*header));
	part.leave = header->reserved0;
	memcpy(header->magic, magic, sizeof(magic));
	header->reserved0 = 0;
	header->head_bytes = min_u32(header->head_bytes, left);
	header->body_bytes =
		min_u32(header->body_bytes, left - header->head_bytes);
	header->sequence = sums->sequence;
	part.body = part.head + header->head_bytes;
	if (!(part.leave & MEND_LEAVE_HEAD))
		mend_head(&part, sums, left);
	sums->sequence++;
	header->head_bytes = min_u32(header->head_bytes, left);
	memcpy(data, header, sizeof(*header));
	if (!(part.leave & MEND_LEAVE_CHECKSUM)) {
		header->checksum = checksum_of(data, header->head_bytes);
		memcpy(data, header, sizeof(*header));
	}
	return WIRE_HEADER_BYTES + (size_t)header->head_bytes +
	       min_u32(header->body_bytes, left - header->head_bytes);
}

size_t stream_mend(uint8_t *data, size_t size_bytes)
{
	struct sums sums = {0};
	size_t at = 0;

	while (size_bytes - at >= WIRE_HEADER_BYTES)
		at += mend_frame(data + at, size_bytes - at, &sums);
	return at;
}
