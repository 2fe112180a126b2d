/* SPDX-License-Identifier: Apache-2.0 */
/* parse_late.c - frames of pages that come late, and requests; see frame.h */
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "stream/frame.h"

static int bad(const struct frame *frame, const char *what,
	       struct pmig_error *err)
{
	char name[16];

	return pmig_fail(err, -EBADMSG, "%s frame: %s",
			 frame_name(frame->header.type, name), what);
}

static int check_sizes(const struct frame *frame, size_t head_bytes,
		       bool may_have_body, struct pmig_error *err)
{
	if (frame->header.head_bytes != head_bytes)
		return bad(frame, "its head has the wrong size", err);
	if (frame->header.body_bytes && !may_have_body)
		return bad(frame, "it has a body", err);
	return 0;
}

/* The number of the block that begins so far into a region. */
static int find_block(const struct frame *frame,
		      const struct pmig_memory *memory, uint32_t region,
		      uint64_t offset_bytes, uint64_t *number,
		      struct pmig_error *err)
{
	const struct pmig_region_map *map;

	if (region >= memory->n_maps)
		return bad(frame, "region number out of range", err);
	map = &memory->maps[region];
	if (offset_bytes % PMIG_BLOCK_BYTES ||
	    offset_bytes >= map->region.size_bytes)
		return bad(frame, "offset outside its region", err);
	*number = map->first_block + offset_bytes / PMIG_BLOCK_BYTES;
	return 0;
}

int frame_parse_served(const struct frame *frame,
		       const struct wire_served **served,
		       struct pmig_error *err)
{
	*served = (const void *)frame->head;
	return check_sizes(frame, sizeof(**served), false, err);
}

int frame_parse_arrived(const struct frame *frame, struct pmig_error *err)
{
	return check_sizes(frame, 0, false, err);
}

int frame_parse_placed(const struct frame *frame, uint32_t n_channels,
		       const struct wire_placed **placed,
		       struct pmig_error *err)
{
	int rc = check_sizes(frame, sizeof(**placed), false, err);

	*placed = (const void *)frame->head;
	if (!rc && (*placed)->channel >= n_channels)
		rc = bad(frame, "channel number out of range", err);
	if (!rc && (*placed)->reserved)
		rc = bad(frame, "a reserved field is set", err);
	return rc;
}

int frame_parse_outstanding(const struct frame *frame,
			    const struct pmig_memory *memory,
			    const struct wire_outstanding **outstanding,
			    uint64_t *first_block, struct pmig_error *err)
{
	const struct wire_outstanding *o = (const void *)frame->head;
	const struct pmig_region_map *map;
	uint64_t plain_bytes;
	int rc = check_sizes(frame, sizeof(*o), true, err);

	if (!rc)
		rc = find_block(frame, memory, o->region, o->offset_bytes,
				first_block, err);
	if (rc)
		return rc;
	map = &memory->maps[o->region];
	if (o->block_count == 0 ||
	    o->block_count > WIRE_MAX_OUTSTANDING_BLOCKS ||
	    o->block_count > map->first_block + map->n_blocks - *first_block)
		return bad(frame, "block count out of range", err);
	plain_bytes = o->block_count * sizeof(uint64_t);
	if (o->encoding != PMIG_ENCODING_RAW &&
	    o->encoding != PMIG_ENCODING_ZSTD)
		return bad(frame, "unknown encoding of the bitmap", err);
	if (o->encoding == PMIG_ENCODING_RAW
		    ? frame->header.body_bytes != plain_bytes
		    : frame->header.body_bytes == 0 ||
			      frame->header.body_bytes >= plain_bytes)
		return bad(frame, "impossible size of the bitmap", err);
	*outstanding = o;
	return 0;
}

int frame_parse_request(const struct frame *frame,
			const struct pmig_memory *memory,
			const struct wire_request **request, uint64_t *block,
			struct pmig_error *err)
{
	const struct wire_request *r = (const void *)frame->head;
	struct pmig_block found;
	int rc = check_sizes(frame, sizeof(*r), false, err);

	if (!rc)
		rc = find_block(frame, memory, r->region, r->offset_bytes,
				block, err);
	if (rc)
		return rc;
	pmig_memory_locate(memory, *block, &found);
	if (r->pages == 0 || r->pages & ~found.valid)
		return bad(frame, "impossible page mask", err);
	if (r->flags & ~(uint32_t)WIRE_REQUEST_INDEPENDENT)
		return bad(frame, "unknown flags", err);
	*request = r;
	return 0;
}
