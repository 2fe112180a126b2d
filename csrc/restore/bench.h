/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - what a thread puts pages of a file together with */
#ifndef PMIG_RESTORE_BENCH_H
#define PMIG_RESTORE_BENCH_H

#include "stream/frame.h"
#include "transfer/decode.h"

/* A delta that is still to be laid over a page: where it is in the file. */
struct bench_delta {
	uint64_t at_bytes;
	uint32_t size_bytes;
};

/**
 * struct store_bench - see above
 * @decoder:	of contents that are not raw
 * @staging:	room for a block; owned
 * @frame:	header and head of the frame read last; owned
 * @frame_number: which that is, 0: none
 * @group:	pages of the group that was traced last, or a block that is put
 *		together aside; PMIG_BLOCK_BYTES; owned
 * @group_at_bytes: where that group is in the file; 0: it is not there
 * @deltas:	of the page that is being traced, newest first; owned
 * @n_deltas:	how many
 * @deltas_room: for how many there is room
 * @read_bytes:	of the file, so far
 */
struct store_bench {
	struct page_decoder decoder;
	uint8_t *staging;
	struct frame *frame;
	uint32_t frame_number;
	uint8_t *group;
	uint64_t group_at_bytes;
	struct bench_delta *deltas;
	size_t n_deltas;
	size_t deltas_room;
	uint64_t read_bytes;
};

/* store_bench_fini() is right also after a failure, and of zeros. */
int store_bench_init(struct store_bench *bench, struct pmig_error *err);
void store_bench_fini(struct store_bench *bench);

/* Remember a delta to be laid over what older frames give. */
int store_bench_add_delta(struct store_bench *bench, uint64_t at_bytes,
			  uint32_t size_bytes, struct pmig_error *err);

#endif
