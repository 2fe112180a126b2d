/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "restore/cut.h"

static int has_changed(const struct stream_frame *frame, struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the frame at %" PRIu64
			 " is not the one that was there: the file is damaged, "
			 "or was changed after it was opened",
			 frame->at_bytes);
}

/* Header and head, which were right when the index was made. */
static int read_head(const struct stream_store *stream,
		     struct store_bench *bench, uint32_t number,
		     struct pmig_error *err)
{
	const struct stream_frame *at = index_frame(&stream->index, number);
	size_t bytes = WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_BYTES;
	struct frame *frame = bench->frame;
	struct iovec iov = {frame, bytes};
	int rc;

	/* the last frame of a file has less than that */
	if (bytes > stream->base.size_bytes - at->at_bytes)
		iov.iov_len = stream->base.size_bytes - at->at_bytes;
	bench->frame_number = 0;
	rc = store_read(&stream->base, bench, &iov, 1, at->at_bytes, err);
	if (rc)
		return rc;
	if (frame_check_header(&frame->header, NULL) ||
	    frame->header.type != PMIG_FRAME_PAGES ||
	    frame->header.head_bytes > WIRE_PAGES_HEAD_BYTES ||
	    frame_check_head(frame, at->sequence, NULL))
		return has_changed(at, err);
	bench->frame_number = number;
	return 0;
}

int stream_open(const struct stream_store *stream, struct store_bench *bench,
		uint64_t block, uint32_t frame, struct arrival *arrival,
		struct pmig_error *err)
{
	int rc = 0;

	if (bench->frame_number != frame)
		rc = read_head(stream, bench, frame, err);
	if (!rc)
		rc = frame_parse_pages(bench->frame, stream->base.memory,
				       &arrival->pages, &arrival->entries,
				       &arrival->block, err);
	if (rc)
		return rc;
	arrival->number = arrival->block.map->first_block +
			  arrival->block.offset_bytes / PMIG_BLOCK_BYTES;
	if (arrival->number != block)
		return has_changed(index_frame(&stream->index, frame), err);
	return 0;
}

struct stream_pieces stream_pieces(const struct stream_store *stream,
				   const struct store_bench *bench,
				   const struct arrival *arrival)
{
	const struct stream_frame *frame =
		index_frame(&stream->index, bench->frame_number);

	return (struct stream_pieces){
		.left = arrival_stored(arrival),
		.entry = arrival->entries,
		.at_bytes = frame->at_bytes + frame_bytes(bench->frame),
	};
}

bool stream_next_piece(struct stream_pieces *pieces, struct stream_piece *piece)
{
	unsigned int n;

	if (!pieces->left)
		return false;
	n = pieces->entry->span ? pieces->entry->span : 1;
	*piece = (struct stream_piece){
		.entry = pieces->entry,
		.at_bytes = pieces->at_bytes,
	};
	pieces->at_bytes += pieces->entry->stored_bytes;
	pieces->entry += n;
	for (; n; n--, pieces->left &= pieces->left - 1)
		piece->pages |= pieces->left & -pieces->left;
	return true;
}

uint64_t stream_whole_pieces(const struct stream_store *stream,
			     const struct store_bench *bench,
			     const struct arrival *arrival, uint64_t pages)
{
	struct stream_pieces pieces = stream_pieces(stream, bench, arrival);
	struct stream_piece piece;
	uint64_t found = 0;

	while (stream_next_piece(&pieces, &piece))
		if (piece.pages & pages)
			found |= piece.pages;
	return found;
}

/* ---- reading pages of a block ------------------------------------------ */

static int survey(const struct page_store *store, struct store_bench *bench,
		  uint64_t number, uint64_t pages, uint64_t *gain,
		  struct pmig_error *err)
{
	const struct stream_store *stream = (const void *)store;
	uint32_t frame = stream->index.newest[number];
	uint64_t left = pages, newer = 0;

	*gain = pages;
	while (frame && left) {
		struct arrival arrival;
		int rc = stream_open(stream, bench, number, frame, &arrival,
				     err);

		if (rc)
			return rc;
		/* of no use where a newer frame describes them */
		*gain |= stream_whole_pieces(stream, bench, &arrival, left) &
			 ~newer;
		newer |= arrival.pages->mask;
		left &= ~arrival.pages->mask;
		frame = index_frame(&stream->index, frame)->older;
	}
	return 0;
}

/* Those of the frame that was opened; it is opened anew by tracing. */
static int fetch_frame(const struct stream_store *stream,
		       struct store_bench *bench, uint32_t frame,
		       const struct arrival *arrival, uint64_t pages,
		       struct store_lot *lot, struct pmig_error *err)
{
	uint64_t zero = pages & arrival->pages->zero_mask;
	uint64_t resting =
		pages & arrival_by_encoding(arrival, ARRIVAL_DEPENDENT);
	uint64_t alone = pages & ~zero & ~resting;
	int rc = 0;

	lot->zero |= zero;
	if (alone)
		rc = cut_fetch(stream, bench, arrival, alone, lot->at, err);
	for (; resting && !rc; resting &= resting - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(resting);

		rc = stream_trace(stream, bench, lot->number, frame, page,
				  lot->at + (size_t)page * PMIG_PAGE_BYTES,
				  err);
	}
	return rc;
}

static int fetch(const struct page_store *store, struct store_bench *bench,
		 struct store_lot *lot, struct pmig_error *err)
{
	const struct stream_store *stream = (const void *)store;
	uint32_t frame = stream->index.newest[lot->number];
	uint64_t left = lot->wanted;
	int rc = 0;

	lot->zero = 0;
	while (frame && left && !rc) {
		struct arrival arrival;
		uint64_t pages;

		rc = stream_open(stream, bench, lot->number, frame, &arrival,
				 err);
		if (rc)
			break;
		pages = left & arrival.pages->mask;
		left &= ~pages;
		if (pages)
			rc = fetch_frame(stream, bench, frame, &arrival, pages,
					 lot, err);
		frame = index_frame(&stream->index, frame)->older;
	}
	if (!rc && left)
		rc = pmig_fail(err, -EBADMSG,
			       "no frame describes the page at 0x%" PRIx64
			       ": the index of the file is another one's",
			       lot->block.map->region.gpa +
				       lot->block.offset_bytes +
				       (uint64_t)__builtin_ctzll(left) *
					       PMIG_PAGE_BYTES);
	return rc;
}

static void stream_free(struct page_store *store)
{
	struct stream_store *stream = (struct stream_store *)store;

	index_fini(&stream->index);
	store_fini(store);
	free(stream);
}

static const struct page_store_ops stream_ops = {survey, fetch, stream_free};

int stream_store_new(const struct pmig_memory *memory, int fd,
		     struct page_store **store, struct pmig_error *err)
{
	struct stream_store *stream = calloc(1, sizeof(*stream));
	int rc;

	if (!stream)
		return pmig_fail(err, -ENOMEM, "no memory for an index");
	rc = store_init(&stream->base, &stream_ops, memory, fd, err);
	if (!rc)
		rc = index_init(&stream->index, memory->n_blocks, err);
	if (!rc)
		rc = index_make(&stream->index, &stream->base, err);
	if (rc) {
		stream_free(&stream->base);
		return rc;
	}
	*store = &stream->base;
	return 0;
}
