/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.h - making the pages of a block small
 *
 * Theory of operation
 *
 * A block is sent in one of two ways. Plain: every page is hashed where it
 * lies and goes out from there, raw; nothing is cheaper for the processor.
 * Encoded: each page is first copied to the outbox, so that it holds still,
 * and then becomes the first of these that applies:
 *
 *	zero
 *	unchanged	every line has the fingerprint of what was sent last
 *	delta		few lines differ
 *	copy		another page of this epoch holds the same
 *	compressed	together with its neighbours, unless it looks random
 *	raw		from the copy
 *
 * Which way a block goes, and which compressor is used, is the cost model's
 * decision (codec/choice.h) or the caller's (struct pmig_tuning). Fingerprints
 * have a price, too: when pages are sent for the first time they are made only
 * where the link is slow enough to hide it; when pages come again they are
 * made unless experience says that these pages change in every line.
 */
#ifndef PMIG_TRANSFER_ENCODE_H
#define PMIG_TRANSFER_ENCODE_H

#include "codec/choice.h"
#include "codec/compress.h"
#include "transfer/prints.h"
#include "transfer/tuning.h"
#include "transfer/twins.h"

struct draft;

/**
 * struct encoder - what one worker knows and owns
 * @prints:	the sender's; NULL where the receiver reads no delta
 * @encodings:	that the receiver reads
 * @tuning:	as it was last seen
 * @climate:	as it was last seen
 * @choice:	what compressing costs and brings
 * @compressor:	owned
 * @twins:	TWINS_SLOTS of them; owned
 * @scratch:	for trials: their input and output; owned
 * @changed:	share of a page's lines that differ when it comes again,
 *		where it had fingerprints
 * @n_blocks:	counts blocks, so that now and then one is looked at closely
 * @forced:	what the tuning asks for, where it does
 * @candidate:	for the block at hand: CHOICE_RAW does not compress,
 *		CHOICE_CANDIDATES is @forced
 * @used_pages:	of the running round, by candidate
 */
struct encoder {
	struct prints *prints;
	uint32_t encodings;
	struct tuning_copy tuning;
	struct choice_climate climate;
	struct choice choice;
	struct compressor *compressor;
	struct twin *twins;
	uint8_t *scratch;
	double changed;
	uint64_t n_blocks;
	struct choice_candidate forced;
	unsigned int candidate;
	uint64_t used_pages[CHOICE_CANDIDATES + 1];
};

enum {
	/* room for the copies of a block, and for what becomes of them */
	ENCODE_ROOM_BYTES =
		PMIG_BLOCK_BYTES + PMIG_BLOCK_PAGES * WIRE_MAX_STORED_BYTES,
};

int encoder_init(struct encoder *encoder, struct prints *prints,
		 uint32_t encodings, struct pmig_error *err);
void encoder_fini(struct encoder *encoder);

/* How the next block is to be sent. */
struct encode_plan {
	bool track;    /* make and compare fingerprints */
	bool compress; /* with encoder->candidate */
	bool trial;    /* see what others would make of it */
	bool late;     /* fingerprints are compared, and not made anew */
};

/* The candidate for the block at hand. */
const struct choice_candidate *encoder_candidate(const struct encoder *encoder);

/* Decide; first: pages are sent for the first time. */
struct encode_plan encode_plan(struct encoder *encoder, bool first);

/* Decide for pages that will not be sent again; urgent: somebody waits. */
struct encode_plan encode_plan_late(struct encoder *encoder, uint64_t block,
				    uint64_t pages, bool urgent);

/*
 * When it is time for that, compress a few pages of the draft that are not
 * zero, only to learn what it would bring.
 */
void encode_trial(struct encoder *encoder, const struct draft *draft);

/*
 * Encode the pages of the draft that are in present; the others are zero.
 * room has ENCODE_ROOM_BYTES. Returns how many of them must be kept until
 * the outbox is written.
 */
uint32_t encode_block(struct encoder *encoder, struct draft *draft,
		      struct encode_plan plan, uint64_t present, uint8_t *room);

#endif
