/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.c - a page that rests on others, see stream.h
 *
 * A trace goes from version to version: from a delta to the page as it was
 * before, from a copy to the page that it names, until one stands for itself.
 * Then the deltas that were passed are laid over it, the oldest first. Every
 * step leads to an earlier place in the file, so there is an end to it; and no
 * step needs room but a delta, of which only the place is noted.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "codec/delta.h"
#include "page/hash.h"
#include "restore/stream.h"

/**
 * struct trace - where a trace has got to
 * @block:	of the page
 * @frame:	describes it; 0: nothing does, so it is zeros
 * @page:	in its block
 * @to:		where it is put together
 * @done:	a page was found that stands for itself
 */
struct trace {
	uint64_t block;
	uint32_t frame;
	unsigned int page;
	uint8_t *to;
	bool done;
};

static bool describes(const struct arrival *arrival, unsigned int page)
{
	return arrival->pages->mask >> page & 1;
}

/* The version before: in the next older frame that describes the page. */
static int step_back(const struct stream_store *stream,
		     struct store_bench *bench, struct trace *trace,
		     struct pmig_error *err)
{
	struct arrival arrival;
	int rc = 0;

	do {
		trace->frame = index_frame(&stream->index, trace->frame)->older;
		if (trace->frame)
			rc = stream_open(stream, bench, trace->block,
					 trace->frame, &arrival, err);
	} while (!rc && trace->frame && !describes(&arrival, trace->page));
	return rc;
}

static int bad_copy(const struct arrival *arrival, unsigned int page,
		    struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the page at 0x%" PRIx64
			 ": a copy of a page that was not sent before",
			 arrival_gpa(arrival, UINT64_C(1) << page));
}

/* The frame of that epoch, not behind limit, that describes a block; or 0. */
static int find_frame(const struct stream_store *stream,
		      struct store_bench *bench, uint64_t block, uint64_t epoch,
		      uint32_t limit, uint32_t *frame, struct pmig_error *err)
{
	uint32_t at = stream->index.newest[block];
	struct arrival arrival;
	int rc;

	*frame = 0;
	while (at > limit)
		at = index_frame(&stream->index, at)->older;
	if (!at)
		return 0;
	rc = stream_open(stream, bench, block, at, &arrival, err);
	if (!rc && arrival.pages->epoch == epoch)
		*frame = at;
	return rc;
}

/* To the page that a copy names, which has to come before it. */
static int step_to_original(const struct stream_store *stream,
			    struct store_bench *bench,
			    const struct stream_piece *piece,
			    struct trace *trace, struct pmig_error *err)
{
	uint32_t from = trace->frame, frame;
	struct arrival copier, arrival;
	struct wire_copy copy;
	struct iovec iov = {&copy, sizeof(copy)};
	unsigned int page;
	uint64_t block;
	int rc =
		store_read(&stream->base, bench, &iov, 1, piece->at_bytes, err);

	if (!rc)
		rc = stream_open(stream, bench, trace->block, from, &copier,
				 err);
	if (rc)
		return rc;
	if (!arrival_locate_copy(stream->base.memory, &copy, &block, &page) ||
	    block >= stream->base.memory->n_blocks)
		return bad_copy(&copier, trace->page, err);
	rc = find_frame(stream, bench, block, copier.pages->epoch, from, &frame,
			err);
	if (!rc && frame)
		rc = stream_open(stream, bench, block, frame, &arrival, err);
	if (rc)
		return rc;
	if (!frame || !describes(&arrival, page) ||
	    (frame == from && page >= trace->page &&
	     !(arrival.pages->zero_mask >> page & 1)))
		return pmig_fail(err, -EBADMSG,
				 "page %u of the block at offset %" PRIu64
				 " of region %" PRIu32
				 " is copied before it was sent",
				 page, copy.offset_bytes, copy.region);
	trace->block = block;
	trace->frame = frame;
	trace->page = page;
	return 0;
}

static int read_raw(const struct stream_store *stream,
		    struct store_bench *bench, uint64_t at_bytes, uint8_t *to,
		    struct pmig_error *err)
{
	struct iovec iov = {to, PMIG_PAGE_BYTES};

	return store_read(&stream->base, bench, &iov, 1, at_bytes, err);
}

/* Pages of one group often follow each other, so it is kept. */
static int open_group(const struct stream_store *stream,
		      struct store_bench *bench,
		      const struct stream_piece *piece, struct pmig_error *err)
{
	const struct wire_entry *entry = piece->entry;
	struct iovec iov = {bench->decoder.body, entry->stored_bytes};
	int rc;

	if (bench->group_at_bytes == piece->at_bytes)
		return 0;
	bench->group_at_bytes = 0;
	rc = store_read(&stream->base, bench, &iov, 1, piece->at_bytes, err);
	if (!rc &&
	    decompressor_run(bench->decoder.decompressor, entry->encoding,
			     bench->decoder.body, entry->stored_bytes,
			     bench->group, entry->span * PMIG_PAGE_BYTES))
		rc = pmig_fail(err, -EBADMSG,
			       "the compressed pages at %" PRIu64
			       " are damaged",
			       piece->at_bytes);
	if (!rc)
		bench->group_at_bytes = piece->at_bytes;
	return rc;
}

static int read_group(const struct stream_store *stream,
		      struct store_bench *bench,
		      const struct stream_piece *piece,
		      const struct trace *trace, struct pmig_error *err)
{
	uint64_t before = piece->pages & ((UINT64_C(1) << trace->page) - 1);
	int rc = open_group(stream, bench, piece, err);

	if (!rc)
		memcpy(trace->to,
		       bench->group + (size_t)__builtin_popcountll(before) *
					      PMIG_PAGE_BYTES,
		       PMIG_PAGE_BYTES);
	return rc;
}

static int step(const struct stream_store *stream, struct store_bench *bench,
		struct trace *trace, const struct stream_piece *piece,
		struct pmig_error *err)
{
	int rc;

	trace->done = true;
	switch (piece->entry->encoding) {
	case PMIG_ENCODING_RAW:
		return read_raw(stream, bench, piece->at_bytes, trace->to, err);
	case PMIG_ENCODING_LZ4:
	case PMIG_ENCODING_ZSTD:
		return read_group(stream, bench, piece, trace, err);
	case PMIG_ENCODING_COPY:
		trace->done = false;
		return step_to_original(stream, bench, piece, trace, err);
	case PMIG_ENCODING_DELTA:
		rc = store_bench_add_delta(bench, piece->at_bytes,
					   piece->entry->stored_bytes, err);
		if (rc)
			return rc;
		break;
	default:
		break;
	}
	trace->done = false;
	return step_back(stream, bench, trace, err);
}

/* The piece of the frame that was opened last with a page in it. */
static bool find_piece(const struct stream_store *stream,
		       const struct store_bench *bench,
		       const struct arrival *arrival, unsigned int page,
		       struct stream_piece *piece)
{
	struct stream_pieces pieces = stream_pieces(stream, bench, arrival);

	while (stream_next_piece(&pieces, piece))
		if (piece->pages >> page & 1)
			return true;
	return false;
}

static int lay_deltas(const struct stream_store *stream,
		      struct store_bench *bench, uint8_t *to,
		      struct pmig_error *err)
{
	while (bench->n_deltas) {
		const struct bench_delta *delta =
			&bench->deltas[--bench->n_deltas];
		struct iovec iov = {bench->decoder.body, delta->size_bytes};
		int rc = store_read(&stream->base, bench, &iov, 1,
				    delta->at_bytes, err);

		if (rc)
			return rc;
		if (delta_apply(to, bench->decoder.body, delta->size_bytes))
			return pmig_fail(err, -EBADMSG,
					 "the delta at %" PRIu64
					 " is malformed",
					 delta->at_bytes);
	}
	return 0;
}

/* Put together what trace leads to. */
static int follow(const struct stream_store *stream, struct store_bench *bench,
		  struct trace *trace, struct pmig_error *err)
{
	bench->n_deltas = 0;
	while (!trace->done) {
		struct stream_piece piece;
		struct arrival arrival;
		int rc = 0;

		if (trace->frame)
			rc = stream_open(stream, bench, trace->block,
					 trace->frame, &arrival, err);
		if (rc)
			return rc;
		if (!trace->frame ||
		    !find_piece(stream, bench, &arrival, trace->page, &piece)) {
			memset(trace->to, 0, PMIG_PAGE_BYTES);
			break;
		}
		rc = step(stream, bench, trace, &piece, err);
		if (rc)
			return rc;
	}
	return lay_deltas(stream, bench, trace->to, err);
}

int stream_trace(const struct stream_store *stream, struct store_bench *bench,
		 uint64_t block, uint32_t frame, unsigned int page, uint8_t *to,
		 struct pmig_error *err)
{
	struct trace trace = {block, frame, page, to, false};
	struct stream_piece piece;
	struct arrival arrival;
	uint64_t hash, gpa;
	int rc = stream_open(stream, bench, block, frame, &arrival, err);

	if (rc)
		return rc;
	gpa = arrival_gpa(&arrival, UINT64_C(1) << page);
	if (!find_piece(stream, bench, &arrival, page, &piece))
		return bad_copy(&arrival, page, err);
	/* it is no group, so this is the page's own entry */
	hash = piece.entry->hash;
	rc = follow(stream, bench, &trace, err);
	if (rc || pmig_hash(to, PMIG_PAGE_BYTES) == hash)
		return rc;
	return pmig_fail(err, -EBADMSG,
			 "the page at 0x%" PRIx64
			 " cannot be built from what the file holds: it is "
			 "damaged, or was recorded from a migration that only "
			 "its source could complete",
			 gpa);
}
