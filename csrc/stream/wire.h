/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - docs/stream-format.md as C structures
 *
 * Every structure is what lies on the wire, byte for byte: little-endian,
 * naturally aligned without padding, so it can be read in place.
 */
#ifndef PMIG_STREAM_WIRE_H
#define PMIG_STREAM_WIRE_H

#include <assert.h>

#include "pymigrate.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the stream is little-endian and read in place"
#endif

enum {
	WIRE_HEADER_BYTES = 40,
	WIRE_CHECKSUM_FROM = 16, /* first byte that the checksum covers */
	WIRE_MAX_HEAD_BYTES = 1 << 20,
	WIRE_MAX_BODY_BYTES = PMIG_MAX_BLOB_BYTES,
	WIRE_FLAG_SKIPPABLE = 1,
	WIRE_LINE_BYTES = 64, /* of a delta */
};

#define WIRE_MAGIC_BYTES                                                       \
	{                                                                      \
		'P', 'M', 'I', 'G'                                             \
	}

struct wire_header {
	uint8_t magic[4];
	uint32_t reserved0;
	uint64_t checksum;
	uint8_t type; /* enum pmig_frame_type */
	uint8_t flags;
	uint16_t reserved1;
	uint32_t head_bytes;
	uint32_t body_bytes;
	uint32_t reserved2;
	uint64_t sequence;
};
static_assert(sizeof(struct wire_header) == WIRE_HEADER_BYTES, "header");
static_assert(offsetof(struct wire_header, type) == WIRE_CHECKSUM_FROM,
	      "checksum range");

struct wire_stream {
	uint16_t version_major;
	uint16_t version_minor;
	uint16_t channel_index;
	uint16_t channel_count;
	uint8_t session_id[PMIG_SESSION_ID_BYTES];
	uint32_t page_bytes;
	uint32_t block_pages;
	uint32_t region_count;
	uint32_t reserved[3];
};
static_assert(sizeof(struct wire_stream) == 48, "STREAM");

struct wire_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t backing_page_bytes;
	uint32_t kind;
	uint32_t reserved;
	char name[PMIG_NAME_BYTES];
};
static_assert(sizeof(struct wire_region) == 64, "region of STREAM");

struct wire_blob {
	uint64_t body_hash;
};
static_assert(sizeof(struct wire_blob) == 8, "CONFIG and STATE");

struct wire_epoch {
	uint64_t epoch;
	uint32_t kind;
	uint32_t reserved;
};
static_assert(sizeof(struct wire_epoch) == 16, "EPOCH");

struct wire_pages {
	uint64_t epoch;
	uint64_t offset_bytes;
	uint32_t region;
	uint32_t entry_count;
	uint64_t mask;
	uint64_t zero_mask;
};
static_assert(sizeof(struct wire_pages) == 40, "PAGES");

struct wire_entry {
	uint64_t hash;
	uint32_t stored_bytes;
	uint8_t encoding;
	uint8_t span; /* pages of the group, in its first entry */
	uint8_t reserved[2];
};
static_assert(sizeof(struct wire_entry) == 16, "entry of PAGES");

struct wire_copy {
	uint32_t region;
	uint32_t reserved;
	uint64_t offset_bytes;
};
static_assert(sizeof(struct wire_copy) == 16, "contents of a copy");

struct wire_epoch_end {
	uint64_t epoch;
	uint32_t kind;
	uint32_t reserved;
	uint64_t frame_count;
	uint64_t page_count;
	uint64_t digest;
};
static_assert(sizeof(struct wire_epoch_end) == 40, "EPOCH_END");

struct wire_end {
	uint64_t frame_count;
};
static_assert(sizeof(struct wire_end) == 8, "END");

struct wire_outstanding {
	uint64_t epoch;
	uint64_t offset_bytes; /* of the first block in its region */
	uint32_t region;
	uint32_t encoding; /* of the body: PMIG_ENCODING_RAW or _ZSTD */
	uint64_t block_count;
	uint64_t bitmap_hash;
};
static_assert(sizeof(struct wire_outstanding) == 40, "OUTSTANDING");

struct wire_served {
	uint64_t waited_ns;
};
static_assert(sizeof(struct wire_served) == 8, "SERVED");

enum {
	/* what the receiver has of the pages is not what the sender thinks */
	WIRE_REQUEST_INDEPENDENT = 1,
};

struct wire_request {
	uint64_t pages; /* bit p: page p of the block */
	uint64_t offset_bytes;
	uint32_t region;
	uint32_t flags;
};
static_assert(sizeof(struct wire_request) == 24, "REQUEST");

enum {
	/* of a channel: the receiver says so after as many more, or earlier */
	WIRE_PLACED_PAGES = 64,
};

struct wire_placed {
	uint64_t pages; /* of the late epoch that the receiver is done with */
	uint32_t channel;
	uint32_t reserved;
};
static_assert(sizeof(struct wire_placed) == 16, "PLACED");

struct wire_index {
	uint64_t body_hash;
	uint64_t entry_count;
	uint64_t state_at_bytes; /* of the STATE frame that counts, or 0 */
	uint32_t kind;		 /* of the last epoch */
	uint32_t reserved;
};
static_assert(sizeof(struct wire_index) == 32, "INDEX");

struct wire_index_entry {
	uint64_t at_bytes; /* of the PAGES frame, from the start of STREAM */
	uint64_t offset_bytes;
	uint64_t mask;
	uint64_t zero_mask;
	uint32_t region;
	uint32_t sequence;
};
static_assert(sizeof(struct wire_index_entry) == 40, "entry of INDEX");

struct wire_ranges {
	uint32_t range_count;
	uint32_t reserved;
};
static_assert(sizeof(struct wire_ranges) == 8, "RANGES");

struct wire_range {
	uint32_t region;
	uint32_t reserved;
	uint64_t offset_bytes;
	uint64_t size_bytes;
};
static_assert(sizeof(struct wire_range) == 24, "range of RANGES");

/* The largest head that a PAGES frame can have, and its header. */
enum {
	WIRE_PAGES_HEAD_BYTES = sizeof(struct wire_pages) +
				PMIG_BLOCK_PAGES * sizeof(struct wire_entry),
	WIRE_MAX_RANGES = (WIRE_MAX_HEAD_BYTES - sizeof(struct wire_ranges)) /
			  sizeof(struct wire_range),
	/* 8 GiB of memory named by one OUTSTANDING frame */
	WIRE_MAX_OUTSTANDING_BLOCKS = 1 << 15,
	/* some 400 GiB of memory, described once */
	WIRE_MAX_INDEX_ENTRIES = (WIRE_MAX_BODY_BYTES - sizeof(uint64_t)) /
				 sizeof(struct wire_index_entry),
	/* What one page needs in a body at most: a delta of all its lines. */
	WIRE_MAX_STORED_BYTES = 8 + PMIG_PAGE_BYTES,
};

#endif
