/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - building and checking frames, without any I/O
 *
 * An encoder fills in a head behind a header and calls frame_finish(). A
 * decoder reads WIRE_HEADER_BYTES, calls frame_check_header(), reads the
 * head behind the header, calls frame_check_head(), and only then looks at
 * the head through the frame_parse_*() function of its type. All checks that
 * need nothing but the frame itself and the memory map are made here.
 */
#ifndef PMIG_STREAM_FRAME_H
#define PMIG_STREAM_FRAME_H

#include "memory/memory.h"
#include "stream/wire.h"

/* A header with its head right behind it. */
struct frame {
	struct wire_header header;
	uint8_t head[];
};

/* Set everything in the header but the checksum. */
void frame_begin(struct frame *frame, enum pmig_frame_type type,
		 uint32_t head_bytes, uint32_t body_bytes, uint64_t sequence);

/* Set the checksum, once header and head are complete. */
void frame_finish(struct frame *frame);

/* Bytes of header and head. */
size_t frame_bytes(const struct frame *frame);

/* Magic, sizes, reserved fields. -EBADMSG with a sentence. */
int frame_check_header(const struct wire_header *header,
		       struct pmig_error *err);

/* Checksum, then sequence. */
int frame_check_head(const struct frame *frame, uint64_t sequence,
		     struct pmig_error *err);

/* May an unknown type be skipped? */
bool frame_skippable(const struct wire_header *header);

/* "PAGES", or "type 77" written into buffer. */
const char *frame_name(uint8_t type, char buffer[16]);

/*
 * Typed views of a checked head: each checks its size and its reserved
 * fields and returns -EBADMSG with a sentence when something is wrong.
 */
int frame_parse_stream(const struct frame *frame,
		       const struct wire_stream **stream,
		       const struct wire_region **regions,
		       struct pmig_error *err);
int frame_parse_blob(const struct frame *frame, const struct wire_blob **blob,
		     struct pmig_error *err);
int frame_parse_epoch(const struct frame *frame,
		      const struct wire_epoch **epoch, struct pmig_error *err);
int frame_parse_epoch_end(const struct frame *frame,
			  const struct wire_epoch_end **end,
			  struct pmig_error *err);
int frame_parse_end(const struct frame *frame, const struct wire_end **end,
		    struct pmig_error *err);
int frame_parse_ranges(const struct frame *frame,
		       const struct wire_ranges **ranges,
		       const struct wire_range **list, struct pmig_error *err);

int frame_parse_served(const struct frame *frame,
		       const struct wire_served **served,
		       struct pmig_error *err);

/* Also checks that the blocks lie in memory; *first_block is the first. */
int frame_parse_outstanding(const struct frame *frame,
			    const struct pmig_memory *memory,
			    const struct wire_outstanding **outstanding,
			    uint64_t *first_block, struct pmig_error *err);

/* Also checks that the pages lie in memory; *block is their block. */
int frame_parse_request(const struct frame *frame,
			const struct pmig_memory *memory,
			const struct wire_request **request, uint64_t *block,
			struct pmig_error *err);
int frame_parse_arrived(const struct frame *frame, struct pmig_error *err);
/* Also checks the number of the channel. */
int frame_parse_placed(const struct frame *frame, uint32_t n_channels,
		       const struct wire_placed **placed,
		       struct pmig_error *err);

/* Also checks masks, encodings and sizes against memory; locates the block. */
int frame_parse_pages(const struct frame *frame,
		      const struct pmig_memory *memory,
		      const struct wire_pages **pages,
		      const struct wire_entry **entries,
		      struct pmig_block *block, struct pmig_error *err);

/* Bytes of the head of a STREAM frame for memory. */
uint32_t frame_stream_head_bytes(const struct pmig_memory *memory);

/* Fill in the region table of a STREAM frame. */
void frame_put_regions(const struct pmig_memory *memory,
		       struct wire_region *regions);

/* Does the region table describe memory? -EBADMSG says what differs. */
int frame_match_regions(const struct pmig_memory *memory,
			const struct wire_stream *stream,
			const struct wire_region *regions,
			struct pmig_error *err);

#endif
