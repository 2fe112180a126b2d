/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - pages out of a recorded stream
 *
 * Theory of operation
 *
 * What a page holds is said by the newest frame that describes it. So the
 * frames of a block are looked at from the newest on, and each gives those of
 * the wanted pages that no newer one did. Older versions are not read.
 *
 * Pages that stand for themselves (raw, lz4, zstd) are decoded by the
 * receiver's own code: of the frame a smaller one is made (cut.h), which has
 * only the entries that are needed. Pages that rest on others (unchanged,
 * delta, copy) are traced one by one back to such a page (trace.c). Writers of
 * files avoid these encodings, since nobody could ask them again.
 *
 * Whatever the way, the page must have the hash that its newest frame says.
 */
#ifndef PMIG_RESTORE_STREAM_H
#define PMIG_RESTORE_STREAM_H

#include "restore/index.h"
#include "transfer/arrival.h"

/**
 * struct stream_store - see above
 * @base:	the common part
 * @index:	where the frames are
 */
struct stream_store {
	struct page_store base;
	struct stream_index index;
};

/*
 * Read and check the head of a frame of a block, unless it is on the bench.
 * Fills in @arrival but for where it is put together; what that points to is
 * valid until another frame is opened.
 */
int stream_open(const struct stream_store *stream, struct store_bench *bench,
		uint64_t block, uint32_t frame, struct arrival *arrival,
		struct pmig_error *err);

/**
 * struct stream_piece - contents that are decoded together
 * @pages:	one page, or those of a group
 * @entry:	of the lowest of them
 * @at_bytes:	where in the file the contents are
 */
struct stream_piece {
	uint64_t pages;
	const struct wire_entry *entry;
	uint64_t at_bytes;
};

/**
 * struct stream_pieces - a walk over the pieces of a frame
 * @left:	pages that are still to come
 * @entry:	of the lowest of them
 * @at_bytes:	where its contents are
 */
struct stream_pieces {
	uint64_t left;
	const struct wire_entry *entry;
	uint64_t at_bytes;
};

/* Begin a walk over the frame that was opened last. */
struct stream_pieces stream_pieces(const struct stream_store *stream,
				   const struct store_bench *bench,
				   const struct arrival *arrival);

/* The next piece; false when there is none. */
bool stream_next_piece(struct stream_pieces *pieces,
		       struct stream_piece *piece);

/* All pages of the pieces that some pages are in. */
uint64_t stream_whole_pieces(const struct stream_store *stream,
			     const struct store_bench *bench,
			     const struct arrival *arrival, uint64_t pages);

/*
 * trace.c: put a page of a block together that frame describes, from whatever
 * it rests on. -EBADMSG when what comes out has another hash than it should.
 */
int stream_trace(const struct stream_store *stream, struct store_bench *bench,
		 uint64_t block, uint32_t frame, unsigned int page, uint8_t *to,
		 struct pmig_error *err);

#endif
