/* SPDX-License-Identifier: Apache-2.0 */
/* recorded.h - memory that was sent into a file */
#ifndef TESTS_C_RECORDED_H
#define TESTS_C_RECORDED_H

#include "backing.h"

enum {
	RECORDED_BYTES = 24 << 20,
	RECORDED_PAGES = RECORDED_BYTES / PMIG_PAGE_BYTES,
	RECORDED_TUNINGS = 7,
};

/* Every compressor, with and without deltas; the first one only raw pages. */
extern const struct pmig_tuning recorded_tunings[RECORDED_TUNINGS];

/**
 * struct recorded - the source, and the file
 * @fd:		the file
 * @n_pages:	of the memory
 * @tuning:	of the sender; to be changed before recorded_connect()
 * @flags:	of the sender, likewise; enum pmig_sender_flags
 */
struct recorded {
	struct backed source;
	struct pmig_memory *memory;
	uint64_t n_pages;
	struct pmig_dirty *dirty;
	struct pmig_view *view;
	struct pmig_tuning tuning;
	uint32_t flags;
	int fd;
	struct pmig_channel *channel;
	struct pmig_sender *sender;
	struct pmig_round round;
};

void recorded_open(struct recorded *recorded, uint64_t size_bytes);

/* Begin the stream. */
void recorded_connect(struct recorded *recorded);

/* Fill pages with what tells them apart: noise, text, zeros in turn. */
void recorded_fill(struct recorded *recorded, uint64_t first_page,
		   uint64_t n_pages, uint64_t seed);

/* Change a line of every so manieth page. */
void recorded_change(struct recorded *recorded, uint64_t every, uint64_t seed);

void recorded_round(struct recorded *recorded, enum pmig_epoch_kind kind);

/* The last epoch, with state, and the end. */
void recorded_seal(struct recorded *recorded);

/* A whole file of a few epochs, with whatever the tuning and flags allow. */
void recorded_make(struct recorded *recorded, uint64_t size_bytes,
		   const struct pmig_tuning *tuning, uint32_t flags);

void recorded_close(struct recorded *recorded);

#endif
