/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - which frames of a stream describe a block
 *
 * Theory of operation
 *
 * A stream that was recorded into a file describes a page as often as it was
 * sent, and the last version counts. The index is what it takes to find that
 * version: where each frame of pages is, and for each block a list of its
 * frames, newest first, as links from frame to frame. It costs 16 bytes for
 * each frame and 12 for each block.
 *
 * Where the file ends with an INDEX frame, that is all that is read, besides
 * the first frame and the state. Where there is none, or none that can be
 * used, all headers and heads are read, some 1,100 bytes for each 256 KiB, and
 * what can be known from them is checked: numbers, order, counts, digests.
 *
 * In either case a head is checked again whenever a page is read, and the
 * hashes in it are compared then.
 */
#ifndef PMIG_RESTORE_INDEX_H
#define PMIG_RESTORE_INDEX_H

#include "restore/store.h"

/**
 * struct stream_frame - a frame of pages
 * @at_bytes:	where it is in the file
 * @sequence:	its number
 * @older:	the frame of the same block before it; 0: none
 */
struct stream_frame {
	uint64_t at_bytes;
	uint32_t sequence;
	uint32_t older;
};

/**
 * struct stream_index - see above. Frames are numbered from 1.
 * @frames:	in the order of the file; owned
 * @n_frames:	how many
 * @room:	for how many there is room
 * @newest:	per block, its newest frame; 0: it has none; owned
 */
struct stream_index {
	struct stream_frame *frames;
	uint32_t n_frames;
	uint32_t room;
	uint32_t *newest;
};

static inline const struct stream_frame *
index_frame(const struct stream_index *index, uint32_t number)
{
	return &index->frames[number - 1];
}

/* index_fini() is right also after a failure, and of zeros. */
int index_init(struct stream_index *index, uint64_t n_blocks,
	       struct pmig_error *err);
void index_fini(struct stream_index *index);

/* Forget all frames. */
void index_clear(struct stream_index *index, uint64_t n_blocks);

/* A frame of a block, newer than all before it. */
int index_add(struct stream_index *index, uint64_t block, uint64_t at_bytes,
	      uint64_t sequence, struct pmig_error *err);

/*
 * Find what the file of a store holds: fills in the index, and the store's
 * @stored, @state and @n_frames.
 */
int index_make(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err);

/* Is the first frame that of a stream that we can read? */
int index_check_stream(const struct page_store *store,
		       const struct frame *frame, struct pmig_error *err);

/* Does a stream whose last epoch is of that kind hold a machine? */
int index_check_kind(uint32_t kind, struct pmig_error *err);

/*
 * index_load.c: from the INDEX frame. 1: done; 0: there is none that can be
 * used, and nothing is changed; -errno: no machine can be made of the file.
 */
int index_load(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err);

/* index_read.c: from all heads. */
int index_read(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err);

#endif
