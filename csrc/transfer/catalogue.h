/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue.h - where the frames of a file are, for its INDEX
 *
 * What lists the frames of pages while they are written: 40 bytes for each,
 * in memory that grows now and then. Where there is none to be had, or when
 * there are too many frames, there will be no index, and nothing else is
 * amiss: a reader then looks at all heads (docs/stream-format.md, INDEX).
 */
#ifndef PMIG_TRANSFER_CATALOGUE_H
#define PMIG_TRANSFER_CATALOGUE_H

#include "stream/frame.h"

/**
 * struct catalogue - see above; all zero to begin with
 * @entries:	in the order of the frames; owned
 * @n:		how many
 * @room:	for how many there is room
 * @state_at_bytes: where the last STATE is; 0: there was none
 * @lost:	there will be no index
 */
struct catalogue {
	struct wire_index_entry *entries;
	uint64_t n;
	uint64_t room;
	uint64_t state_at_bytes;
	bool lost;
};

void catalogue_fini(struct catalogue *catalogue);

/* A frame that is complete is about to be written there. */
void catalogue_add(struct catalogue *catalogue, uint64_t at_bytes,
		   const struct frame *frame);

/*
 * What goes into an INDEX frame, but for the kind of the epoch; the body is
 * valid as long as nothing is added. False: there is no index.
 */
bool catalogue_finish(struct catalogue *catalogue, struct wire_index *head,
		      const void **body, uint32_t *body_bytes);

#endif
