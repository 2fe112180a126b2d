/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "page/hash.h"

static uint64_t checksum(const struct frame *frame)
{
	return pmig_hash((const uint8_t *)frame + WIRE_CHECKSUM_FROM,
			 frame_bytes(frame) - WIRE_CHECKSUM_FROM);
}

static bool may_be_skipped(enum pmig_frame_type type)
{
	return type == PMIG_FRAME_RANGES || type == PMIG_FRAME_SERVED ||
	       type == PMIG_FRAME_INDEX;
}

void frame_begin(struct frame *frame, enum pmig_frame_type type,
		 uint32_t head_bytes, uint32_t body_bytes, uint64_t sequence)
{
	frame->header = (struct wire_header){
		.magic = WIRE_MAGIC_BYTES,
		.type = type,
		.flags = may_be_skipped(type) ? WIRE_FLAG_SKIPPABLE : 0,
		.head_bytes = head_bytes,
		.body_bytes = body_bytes,
		.sequence = sequence,
	};
}

void frame_finish(struct frame *frame)
{
	frame->header.checksum = checksum(frame);
}

size_t frame_bytes(const struct frame *frame)
{
	return WIRE_HEADER_BYTES + (size_t)frame->header.head_bytes;
}

int frame_check_header(const struct wire_header *header, struct pmig_error *err)
{
	static const uint8_t magic[4] = WIRE_MAGIC_BYTES;

	if (memcmp(header->magic, magic, sizeof(magic)) != 0)
		return pmig_fail(err, -EBADMSG,
				 "not a frame: it starts with %02x %02x %02x "
				 "%02x instead of 'PMIG'",
				 header->magic[0], header->magic[1],
				 header->magic[2], header->magic[3]);
	if (header->head_bytes > WIRE_MAX_HEAD_BYTES)
		return pmig_fail(err, -EBADMSG,
				 "frame head of %" PRIu32
				 " bytes, the limit is %d",
				 header->head_bytes, WIRE_MAX_HEAD_BYTES);
	if (header->body_bytes > WIRE_MAX_BODY_BYTES)
		return pmig_fail(err, -EBADMSG,
				 "frame body of %" PRIu32
				 " bytes, the limit is %d",
				 header->body_bytes, WIRE_MAX_BODY_BYTES);
	return 0;
}

/* Only after the checksum: these bytes are then the sender's own mistake. */
static int check_reserved(const struct wire_header *header,
			  struct pmig_error *err)
{
	if (header->reserved0 || header->reserved1 || header->reserved2 ||
	    (header->flags & ~WIRE_FLAG_SKIPPABLE))
		return pmig_fail(err, -EBADMSG,
				 "frame header with a reserved field set");
	return 0;
}

int frame_check_head(const struct frame *frame, uint64_t sequence,
		     struct pmig_error *err)
{
	if (frame->header.checksum != checksum(frame))
		return pmig_fail(err, -EBADMSG,
				 "frame %" PRIu64 ": wrong checksum, the data "
				 "was damaged on the way",
				 sequence);
	if (frame->header.sequence != sequence)
		return pmig_fail(err, -EBADMSG,
				 "frame number %" PRIu64 " came where %" PRIu64
				 " was due",
				 frame->header.sequence, sequence);
	return check_reserved(&frame->header, err);
}

bool frame_skippable(const struct wire_header *header)
{
	return header->flags & WIRE_FLAG_SKIPPABLE;
}

const char *frame_name(uint8_t type, char buffer[16])
{
	static const char *const names[] = {
		[PMIG_FRAME_STREAM] = "STREAM",
		[PMIG_FRAME_CONFIG] = "CONFIG",
		[PMIG_FRAME_EPOCH] = "EPOCH",
		[PMIG_FRAME_PAGES] = "PAGES",
		[PMIG_FRAME_STATE] = "STATE",
		[PMIG_FRAME_EPOCH_END] = "EPOCH_END",
		[PMIG_FRAME_END] = "END",
		[PMIG_FRAME_RANGES] = "RANGES",
		[PMIG_FRAME_OUTSTANDING] = "OUTSTANDING",
		[PMIG_FRAME_REQUEST] = "REQUEST",
		[PMIG_FRAME_SERVED] = "SERVED",
		[PMIG_FRAME_ARRIVED] = "ARRIVED",
		[PMIG_FRAME_INDEX] = "INDEX",
		[PMIG_FRAME_PLACED] = "PLACED",
	};

	if (type < sizeof(names) / sizeof(names[0]) && names[type])
		return names[type];
	snprintf(buffer, 16, "type %u", type);
	return buffer;
}
