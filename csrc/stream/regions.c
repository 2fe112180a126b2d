/* SPDX-License-Identifier: Apache-2.0 */
/* regions.c - the region table of a STREAM frame; see frame.h */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "stream/frame.h"

uint32_t frame_stream_head_bytes(const struct pmig_memory *memory)
{
	return (uint32_t)(sizeof(struct wire_stream) +
			  memory->n_maps * sizeof(struct wire_region));
}

void frame_put_regions(const struct pmig_memory *memory,
		       struct wire_region *regions)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		regions[i] = (struct wire_region){
			.gpa = region->gpa,
			.size_bytes = region->size_bytes,
			.backing_page_bytes = region->page_size_bytes,
			.kind = region->kind,
		};
		memcpy(regions[i].name, region->name,
		       strnlen(region->name, PMIG_NAME_BYTES - 1));
	}
}

/* Ended by a zero byte, and nothing but zero bytes after it. */
static bool is_padded(const char name[PMIG_NAME_BYTES])
{
	size_t length = strnlen(name, PMIG_NAME_BYTES);
	char rest = 0;

	for (size_t i = length; i < PMIG_NAME_BYTES; i++)
		rest |= name[i];
	return length < PMIG_NAME_BYTES && rest == 0;
}

static int match_region(const struct pmig_region *here,
			const struct wire_region *there, uint32_t index,
			struct pmig_error *err)
{
	if (here->gpa != there->gpa || here->size_bytes != there->size_bytes ||
	    here->kind != there->kind)
		return pmig_fail(err, -EBADMSG,
				 "memory region %" PRIu32
				 " ('%.31s') is %" PRIu64 " bytes at 0x%" PRIx64
				 " here and %" PRIu64 " bytes at 0x%" PRIx64
				 " in the stream",
				 index, here->name, here->size_bytes, here->gpa,
				 there->size_bytes, there->gpa);
	if (there->reserved || !is_padded(there->name))
		return pmig_fail(err, -EBADMSG,
				 "malformed memory region %" PRIu32
				 " in the stream",
				 index);
	return 0;
}

int frame_match_regions(const struct pmig_memory *memory,
			const struct wire_stream *stream,
			const struct wire_region *regions,
			struct pmig_error *err)
{
	if (stream->region_count != memory->n_maps)
		return pmig_fail(err, -EBADMSG,
				 "the stream has %" PRIu32
				 " memory regions, this machine has %" PRIu32,
				 stream->region_count, memory->n_maps);
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		int rc = match_region(&memory->maps[i].region, &regions[i], i,
				      err);

		if (rc)
			return rc;
	}
	return 0;
}
