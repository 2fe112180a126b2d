/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - how a block is to be sent; theory in encode.h */
#include "transfer/encode.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

enum {
	/* of blocks whose pages seem to change entirely, look at every so
	 * manieth whether that is still so */
	LOOK_AGAIN = 16,
	DELTA_BITS = 1 << PMIG_ENCODING_DELTA | 1 << PMIG_ENCODING_UNCHANGED,
};

/* Of a page sent raw, and of copying and fingerprinting it; see bench/. */
static const double PLAIN_NS = 400;
static const double TRACK_NS = 300;
/* What fingerprints of first pages may take: of what is idle, and anyway. */
static const double IDLE_SHARE = 0.5;
static const double LITTLE = 0.02;
/* Pages that differ in a greater share of their lines gain nothing. */
static const double MOSTLY_CHANGED = 0.85;

int encoder_init(struct encoder *encoder, struct prints *prints,
		 uint32_t encodings, struct pmig_error *err)
{
	encoder->prints = prints;
	encoder->encodings = encodings;
	choice_init(&encoder->choice);
	encoder->twins = calloc(TWINS_SLOTS, sizeof(*encoder->twins));
	encoder->scratch = malloc(2 * PMIG_BLOCK_BYTES);
	if (!encoder->twins || !encoder->scratch)
		return pmig_fail(err, -ENOMEM, "no memory for an encoder");
	return compressor_new(&encoder->compressor, err);
}

void encoder_fini(struct encoder *encoder)
{
	compressor_free(encoder->compressor);
	free(encoder->scratch);
	free(encoder->twins);
}

const struct choice_candidate *encoder_candidate(const struct encoder *encoder)
{
	return encoder->candidate == CHOICE_CANDIDATES
		       ? &encoder->forced
		       : &choice_candidates[encoder->candidate];
}

/* What the tuning asks for, if the receiver reads it. */
static unsigned int forced_candidate(struct encoder *encoder)
{
	const struct pmig_tuning *value = &encoder->tuning.value;
	bool lz4 = value->compression == PMIG_COMPRESSION_LZ4;
	enum pmig_encoding encoding =
		lz4 ? PMIG_ENCODING_LZ4 : PMIG_ENCODING_ZSTD;

	if (value->compression == PMIG_COMPRESSION_NONE ||
	    !(encoder->encodings >> encoding & 1))
		return CHOICE_RAW;
	encoder->forced = (struct choice_candidate){
		.encoding = encoding,
		.level = value->level ? value->level : 1,
		.group_pages = lz4 ? 16 : PMIG_BLOCK_PAGES,
	};
	return CHOICE_CANDIDATES;
}

static unsigned int pick(struct encoder *encoder)
{
	if (encoder->tuning.value.compression != PMIG_COMPRESSION_AUTO)
		return forced_candidate(encoder);
	return choice_mix(&encoder->choice, &encoder->climate,
			  encoder->encodings,
			  choice_pick(&encoder->choice, &encoder->climate,
				      encoder->encodings));
}

/* Do fingerprints of pages that go at this pace slow nobody down? */
static bool is_free(const struct choice_climate *climate)
{
	double page_ns = choice_page_ns(climate, PLAIN_NS, PMIG_PAGE_BYTES);
	double share = TRACK_NS / page_ns;

	return share <= LITTLE || share <= IDLE_SHARE * climate->idle;
}

static bool should_track(const struct encoder *encoder, bool first)
{
	uint32_t delta = encoder->tuning.value.delta;

	if (!encoder->prints || delta == PMIG_CHOICE_OFF ||
	    (encoder->encodings & DELTA_BITS) != DELTA_BITS)
		return false;
	if (delta == PMIG_CHOICE_ON)
		return true;
	/* nothing is known of the link yet: a few pages cost little */
	if (first)
		return prints_cover_all(encoder->prints) &&
		       (encoder->climate.link_ns_per_byte <= 0 ||
			is_free(&encoder->climate));
	return encoder->changed < MOSTLY_CHANGED ||
	       encoder->n_blocks % LOOK_AGAIN == 0;
}

struct encode_plan encode_plan(struct encoder *encoder, bool first)
{
	struct encode_plan plan;

	encoder->n_blocks++;
	encoder->candidate = pick(encoder);
	plan.compress = encoder->candidate != CHOICE_RAW;
	plan.track = should_track(encoder, first);
	plan.trial = encoder->tuning.value.compression == PMIG_COMPRESSION_AUTO;
	plan.late = false;
	return plan;
}

struct encode_plan encode_plan_late(struct encoder *encoder, uint64_t block,
				    uint64_t pages, bool urgent)
{
	struct encode_plan plan = encode_plan(encoder, false);

	plan.late = true;
	plan.trial = plan.trial && !urgent;
	plan.track = plan.track && encoder->prints->valid[block] & pages;
	return plan;
}
