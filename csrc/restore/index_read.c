/* SPDX-License-Identifier: Apache-2.0 */
/* index_read.c - what each frame of a file means to its index; see index.h */
#include "restore/index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "page/hash.h"
#include "restore/scan.h"
#include "transfer/arrival.h"
#include "transfer/events.h"
#include "transfer/hint.h"

/**
 * struct index_build - an index that is being made
 * @index:	the index
 * @store:	of the file
 * @scan:	of the file
 * @opened:	STREAM has come
 * @ended:	END has come
 * @announced:	RANGES has come
 * @in_epoch:	between EPOCH and EPOCH_END
 * @part:	of the running epoch, or the last one
 * @n_frames:	of pages, in it
 * @n_before:	frames of pages before it
 * @state_digest: what STATE frames before the epoch add to its digest
 */
struct index_build {
	struct stream_index *index;
	struct page_store *store;
	struct frame_scan scan;
	bool opened;
	bool ended;
	bool announced;
	bool in_epoch;
	struct epoch_part part;
	uint64_t n_frames;
	uint32_t n_before;
	uint64_t state_digest;
};

static int out_of_place(const struct index_build *build, struct pmig_error *err)
{
	char name[16];

	return pmig_fail(err, -EBADMSG, "%s frame out of place",
			 frame_name(build->scan.frame->header.type, name));
}

static int on_stream(struct index_build *build, struct pmig_error *err)
{
	build->opened = true;
	return index_check_stream(build->store, build->scan.frame, err);
}

/* ---- blobs ------------------------------------------------------------- */

static int on_blob(struct index_build *build, struct pmig_error *err)
{
	const struct wire_header *header = &build->scan.frame->header;
	struct page_store *store = build->store;
	uint8_t *data;
	int rc;

	if (build->in_epoch && header->type == PMIG_FRAME_CONFIG)
		return out_of_place(build, err);
	rc = scan_blob(&build->scan, &data, err);
	if (rc)
		return rc;
	if (header->type != PMIG_FRAME_STATE) {
		free(data);
		return 0;
	}
	build->state_digest +=
		((const struct wire_blob *)build->scan.frame->head)->body_hash;
	/* the last one counts */
	free(store->state);
	store->state = data;
	store->state_bytes = header->body_bytes;
	return 0;
}

/* ---- epochs ------------------------------------------------------------ */

static int late_pages(struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the file was recorded from a migration whose pages "
			 "came late (post-copy): it does not hold a machine");
}

static int on_epoch(struct index_build *build, struct pmig_error *err)
{
	const struct wire_epoch *epoch;
	int rc = frame_parse_epoch(build->scan.frame, &epoch, err);

	if (rc)
		return rc;
	if (build->in_epoch)
		return out_of_place(build, err);
	if (epoch->epoch != build->part.epoch + 1)
		return pmig_fail(err, -EBADMSG,
				 "epoch %" PRIu64 " follows epoch %" PRIu64,
				 epoch->epoch, build->part.epoch);
	if (epoch->kind == PMIG_EPOCH_LATE)
		return late_pages(err);
	build->in_epoch = true;
	build->n_frames = 0;
	build->n_before = build->index->n_frames;
	build->part = (struct epoch_part){
		.epoch = epoch->epoch,
		.kind = epoch->kind,
	};
	return 0;
}

static int on_epoch_end(struct index_build *build, struct pmig_error *err)
{
	const struct wire_epoch_end *end;
	int rc = frame_parse_epoch_end(build->scan.frame, &end, err);

	if (rc)
		return rc;
	if (!build->in_epoch)
		return out_of_place(build, err);
	build->part.digest += build->state_digest;
	build->state_digest = 0;
	build->in_epoch = false;
	return epoch_part_check(&build->part, build->n_frames, end, err);
}

/* ---- pages ------------------------------------------------------------- */

static int add_frame(struct index_build *build, const struct wire_pages *pages,
		     uint64_t number, struct pmig_error *err)
{
	uint64_t *stored = &build->store->stored[number];

	if (build->index->newest[number] > build->n_before)
		return pmig_fail(
			err, -EBADMSG,
			"the block at offset %" PRIu64 " of region %" PRIu32
			" came twice in epoch %" PRIu64,
			pages->offset_bytes, pages->region, pages->epoch);
	*stored = (*stored & ~pages->zero_mask) |
		  (pages->mask & ~pages->zero_mask);
	return index_add(build->index, number, build->scan.frame_at_bytes,
			 build->scan.sequence - 1, err);
}

static int on_pages(struct index_build *build, struct pmig_error *err)
{
	const struct wire_entry *entries;
	const struct wire_pages *pages;
	struct pmig_block block;
	int rc;

	if (!build->in_epoch)
		return out_of_place(build, err);
	rc = frame_parse_pages(build->scan.frame, build->store->memory, &pages,
			       &entries, &block, err);
	if (rc)
		return rc;
	if (pages->epoch != build->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "pages of epoch %" PRIu64
				 " came in epoch %" PRIu64,
				 pages->epoch, build->part.epoch);
	build->n_frames++;
	build->part.pages += (uint64_t)__builtin_popcountll(pages->mask);
	build->part.digest += arrival_digest(pages, entries);
	return add_frame(build, pages,
			 block.map->first_block +
				 block.offset_bytes / PMIG_BLOCK_BYTES,
			 err);
}

/* ---- the rest ---------------------------------------------------------- */

/* What was announced is of no use here, and right all the same. */
static int on_ranges(struct index_build *build, struct pmig_error *err)
{
	const struct wire_ranges *ranges;
	const struct wire_range *list;
	struct block_range blocks;
	int rc = frame_parse_ranges(build->scan.frame, &ranges, &list, err);

	if (rc)
		return rc;
	if (build->announced || build->in_epoch || build->part.epoch)
		return out_of_place(build, err);
	build->announced = true;
	for (uint32_t i = 0; i < ranges->range_count && !rc; i++)
		rc = hint_blocks(build->store->memory, &list[i], &blocks, err);
	return rc;
}

static int on_end(struct index_build *build, struct pmig_error *err)
{
	const struct wire_end *end;
	int rc = frame_parse_end(build->scan.frame, &end, err);

	if (rc)
		return rc;
	if (build->in_epoch)
		return out_of_place(build, err);
	if (end->frame_count != build->scan.sequence - 1)
		return pmig_fail(err, -EBADMSG,
				 "the stream had %" PRIu64
				 " frames, the file has %" PRIu64,
				 end->frame_count, build->scan.sequence - 1);
	if (build->scan.at_bytes != build->scan.size_bytes)
		return pmig_fail(err, -EBADMSG,
				 "something follows the end of the stream");
	build->ended = true;
	return 0;
}

static int on_unknown(const struct index_build *build, struct pmig_error *err)
{
	const struct wire_header *header = &build->scan.frame->header;
	char name[16];

	if (frame_skippable(header))
		return 0;
	return pmig_fail(err, -EBADMSG, "unknown frame of %s",
			 frame_name(header->type, name));
}

static int on_frame(struct index_build *build, struct pmig_error *err)
{
	uint8_t type = build->scan.frame->header.type;

	if (build->opened == (type == PMIG_FRAME_STREAM))
		return out_of_place(build, err);
	switch (type) {
	case PMIG_FRAME_STREAM:
		return on_stream(build, err);
	case PMIG_FRAME_CONFIG:
	case PMIG_FRAME_STATE:
		return on_blob(build, err);
	case PMIG_FRAME_EPOCH:
		return on_epoch(build, err);
	case PMIG_FRAME_PAGES:
		return on_pages(build, err);
	case PMIG_FRAME_EPOCH_END:
		return on_epoch_end(build, err);
	case PMIG_FRAME_END:
		return on_end(build, err);
	case PMIG_FRAME_RANGES:
		return on_ranges(build, err);
	case PMIG_FRAME_OUTSTANDING:
		return late_pages(err);
	case PMIG_FRAME_REQUEST:
	case PMIG_FRAME_SERVED:
	case PMIG_FRAME_ARRIVED:
	case PMIG_FRAME_PLACED:
		return out_of_place(build, err);
	default:
		return on_unknown(build, err);
	}
}

static int read_frames(struct index_build *build, struct pmig_error *err)
{
	int rc = 0;

	while (!rc && !build->ended) {
		rc = scan_next(&build->scan, err);
		if (!rc)
			rc = on_frame(build, err);
	}
	return rc ? rc : index_check_kind(build->part.kind, err);
}

int index_read(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err)
{
	struct index_build build = {.index = index, .store = store};
	int rc = scan_init(&build.scan, store->fd, store->size_bytes, err);

	if (!rc)
		rc = read_frames(&build, err);
	scan_fini(&build.scan);
	return rc;
}
