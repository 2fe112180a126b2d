/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - those entries of a frame that are needed, as a frame of its own
 *
 * Groups stay whole. The contents are read from where they lie in the file,
 * neighbours in one call: raw pages to where they belong, groups to the
 * bench, where arrival_decode() looks for them.
 */
#ifndef PMIG_RESTORE_CUT_H
#define PMIG_RESTORE_CUT_H

#include "restore/stream.h"

/**
 * struct cut_read - contents that follow each other in the file
 * @at_bytes:	where they begin
 * @first:	of the iov
 * @n:		how many
 */
struct cut_read {
	uint64_t at_bytes;
	int first;
	int n;
};

/**
 * struct cut - see above
 * @pages:	its head
 * @entries:	those of @pages
 * @n_entries:	how many
 * @iov:	where the contents go
 * @n_iov:	how many
 * @reads:	where they come from
 * @n_reads:	how many
 */
struct cut {
	struct wire_pages pages;
	struct wire_entry entries[PMIG_BLOCK_PAGES];
	uint32_t n_entries;
	struct iovec iov[PMIG_BLOCK_PAGES];
	int n_iov;
	struct cut_read reads[PMIG_BLOCK_PAGES];
	int n_reads;
};

/*
 * Put together pages of the frame that was opened last, all of which stand
 * for themselves, and check them; nothing else at @at is changed.
 */
int cut_fetch(const struct stream_store *stream, struct store_bench *bench,
	      const struct arrival *arrival, uint64_t pages, uint8_t *at,
	      struct pmig_error *err);

#endif
