/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum {
	FIRST_FRAMES = 1 << 12,
};

int index_init(struct stream_index *index, uint64_t n_blocks,
	       struct pmig_error *err)
{
	index->newest = calloc(n_blocks, sizeof(*index->newest));
	if (!index->newest)
		return pmig_fail(err, -ENOMEM, "no memory for an index");
	return 0;
}

void index_clear(struct stream_index *index, uint64_t n_blocks)
{
	memset(index->newest, 0, n_blocks * sizeof(*index->newest));
	index->n_frames = 0;
}

void index_fini(struct stream_index *index)
{
	free(index->newest);
	free(index->frames);
}

static int make_room(struct stream_index *index, struct pmig_error *err)
{
	uint32_t room = index->room ? 2 * index->room : FIRST_FRAMES;
	void *grown;

	if (index->n_frames < index->room)
		return 0;
	if (index->n_frames > UINT32_MAX / 2)
		return pmig_fail(err, -EFBIG,
				 "the file has more than %u frames of pages",
				 UINT32_MAX / 2);
	grown = realloc(index->frames, room * sizeof(*index->frames));
	if (!grown)
		return pmig_fail(err, -ENOMEM,
				 "no memory for an index of %" PRIu32 " frames",
				 room);
	index->frames = grown;
	index->room = room;
	return 0;
}

int index_add(struct stream_index *index, uint64_t block, uint64_t at_bytes,
	      uint64_t sequence, struct pmig_error *err)
{
	int rc = make_room(index, err);

	if (!rc && sequence > UINT32_MAX)
		rc = pmig_fail(err, -EFBIG, "the file has more than %u frames",
			       UINT32_MAX);
	if (rc)
		return rc;
	index->frames[index->n_frames++] = (struct stream_frame){
		.at_bytes = at_bytes,
		.sequence = (uint32_t)sequence,
		.older = index->newest[block],
	};
	index->newest[block] = index->n_frames;
	return 0;
}

int index_check_stream(const struct page_store *store,
		       const struct frame *frame, struct pmig_error *err)
{
	const struct wire_region *regions;
	const struct wire_stream *stream;
	int rc = frame_parse_stream(frame, &stream, &regions, err);

	if (rc)
		return rc;
	if (stream->channel_count != 1)
		return pmig_fail(err, -EBADMSG,
				 "the file holds channel %u of %u: a machine "
				 "is restored from a stream of one channel",
				 stream->channel_index, stream->channel_count);
	return frame_match_regions(store->memory, stream, regions, err);
}

int index_check_kind(uint32_t kind, struct pmig_error *err)
{
	if (kind == PMIG_EPOCH_SEALED)
		return 0;
	return pmig_fail(err, -EBADMSG,
			 "the stream has no sealed epoch at its end, so no "
			 "machine can be made of it");
}

int index_make(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err)
{
	int rc = index_load(index, store, err);

	store->has_index = rc > 0;
	if (!rc)
		rc = index_read(index, store, err);
	store->n_frames = index->n_frames;
	return rc < 0 ? rc : 0;
}
