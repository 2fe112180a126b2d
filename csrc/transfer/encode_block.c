/* SPDX-License-Identifier: Apache-2.0 */
/* encode_block.c - one block made small; theory in encode.h */
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "codec/delta.h"
#include "codec/sample.h"
#include "page/hash.h"
#include "page/zero.h"
#include "transfer/draft.h"
#include "transfer/encode.h"

/* What a page turns out to be; entries are made once all are known. */
enum form {
	FORM_UNCHANGED,
	FORM_DELTA,
	FORM_COPY,
	FORM_WHOLE,  /* to be compressed, or raw */
	FORM_RANDOM, /* raw */
};

/**
 * struct staged - a page that is not zero
 * @page:	its number in the block
 * @form:	what it became
 * @copy:	its contents, holding still
 * @hash:	of @copy
 * @lines:	FORM_DELTA: that changed
 * @twin:	FORM_COPY: where the same lies
 */
struct staged {
	unsigned int page;
	enum form form;
	uint8_t *copy;
	uint64_t hash;
	uint64_t lines;
	struct wire_copy twin;
};

/**
 * struct stage - a block being encoded
 * @encoder:	who does it
 * @draft:	frame under construction
 * @plan:	how
 * @out:	behind what was encoded so far
 * @staged:	the pages that are not zero, lowest first
 * @n_staged:	how many
 * @raw:	one of them goes out raw from its copy
 */
struct stage {
	struct encoder *encoder;
	struct draft *draft;
	struct encode_plan plan;
	uint8_t *out;
	struct staged staged[PMIG_BLOCK_PAGES];
	uint32_t n_staged;
	bool raw;
};

/* Pages whose next version must rest on nothing. */
static uint64_t independent(const struct stage *stage)
{
	const struct pmig_sender *sender = stage->draft->worker->sender;

	return pmig_bits_load(&sender->independent[stage->draft->number]);
}

/* ---- what a page is ---------------------------------------------------- */

static void learn_changed(struct encoder *encoder, uint64_t lines)
{
	double share = (double)__builtin_popcountll(lines) / PAGE_LINES;

	encoder->changed += (share - encoder->changed) / 256;
}

/* Larger than this a delta is not worth it. */
static double delta_limit_bytes(const struct encoder *encoder)
{
	double whole = 0.9 * PMIG_PAGE_BYTES;
	double expected;

	if (encoder->candidate == CHOICE_RAW ||
	    encoder->candidate == CHOICE_CANDIDATES)
		return whole;
	expected = choice_expected_bytes(&encoder->choice, encoder->candidate);
	return expected < whole ? expected : whole;
}

/* Compare with what was sent last, and remember this; true when it helps. */
static bool track(struct stage *stage, struct staged *page)
{
	struct prints *prints = stage->encoder->prints;
	uint64_t number = stage->draft->number, bit = 1ull << page->page;
	struct line_prints *before = prints_of(prints, number, page->page);
	bool known = prints->valid[number] & bit & ~independent(stage);
	struct line_prints now;

	prints->kernel->prints(&prints->key, page->copy, &now);
	if (known) {
		page->lines = line_changes(before, &now);
		learn_changed(stage->encoder, page->lines);
	}
	if (!stage->plan.late) {
		*before = now;
		prints->valid[number] |= bit;
	}
	if (!known)
		return false;
	page->form = page->lines ? FORM_DELTA : FORM_UNCHANGED;
	return page->lines == 0 ||
	       delta_bytes(page->lines) <= delta_limit_bytes(stage->encoder);
}

static const uint8_t *page_of(const struct pmig_memory *memory,
			      const struct wire_copy *at)
{
	return (const uint8_t *)memory->maps[at->region].region.hva +
	       at->offset_bytes;
}

/* The guest may have changed a late page by now, unless it goes with this. */
static uint64_t twin_epoch(const struct stage *stage)
{
	const struct send_worker *worker = stage->draft->worker;

	return stage->plan.late ? UINT64_MAX - worker->frames
				: worker->round.epoch;
}

/* Was the same sent on this channel in this epoch? If not, it is now. */
static bool find_twin(struct stage *stage, struct staged *page)
{
	struct draft *draft = stage->draft;
	uint64_t epoch = twin_epoch(stage);
	const struct wire_copy here = {
		.region = draft->region,
		.offset_bytes = draft->block.offset_bytes +
				(uint64_t)page->page * PMIG_PAGE_BYTES,
	};
	struct twin *twins = stage->encoder->twins;
	const struct twin *twin = twins_find(twins, page->hash, epoch);

	if (!twin) {
		twins_put(twins, page->hash, epoch, &here);
		return false;
	}
	page->twin = twin->at;
	page->form = FORM_COPY;
	return !memcmp(page_of(draft->worker->sender->memory, &twin->at),
		       page->copy, PMIG_PAGE_BYTES);
}

static bool may_copy(const struct stage *stage, const struct staged *page)
{
	return stage->encoder->encodings >> PMIG_ENCODING_COPY & 1 &&
	       !(independent(stage) >> page->page & 1);
}

static void classify(struct stage *stage, struct staged *page)
{
	if (stage->plan.track && track(stage, page))
		return;
	if (may_copy(stage, page) && find_twin(stage, page))
		return;
	page->form = FORM_WHOLE;
	if (stage->plan.compress && sample_is_random(page->copy))
		page->form = FORM_RANDOM;
}

/* What was sent before is gone at the receiver. */
static void forget(struct stage *stage, unsigned int page)
{
	if (stage->plan.track && !stage->plan.late)
		stage->encoder->prints->valid[stage->draft->number] &=
			~(1ull << page);
}

/* Copy what is not zero, so that it holds still, and find out what it is. */
static void stage_pages(struct stage *stage, uint64_t present, uint8_t *copies)
{
	bool (*is_zero)(const void *) = pmig_zero_best()->is_zero;
	struct draft *draft = stage->draft;

	for (uint64_t left = draft->pages->mask; left; left &= left - 1) {
		unsigned int number = (unsigned int)__builtin_ctzll(left);
		struct staged *page = &stage->staged[stage->n_staged];

		page->page = number;
		page->copy = copies + (size_t)stage->n_staged * PMIG_PAGE_BYTES;
		if (present >> number & 1)
			memcpy(page->copy, draft_page(draft, number),
			       PMIG_PAGE_BYTES);
		if (!(present >> number & 1) || is_zero(page->copy)) {
			forget(stage, number);
			draft_zero(draft, number);
			continue;
		}
		page->hash = pmig_hash(page->copy, PMIG_PAGE_BYTES);
		classify(stage, page);
		stage->n_staged++;
	}
}

/* ---- entries ----------------------------------------------------------- */

static void add_raw(struct stage *stage, const struct staged *page)
{
	draft_add(stage->draft, page->page, page->hash, PMIG_ENCODING_RAW,
		  page->copy, PMIG_PAGE_BYTES);
	stage->raw = true;
}

static void add_out(struct stage *stage, const struct staged *page,
		    enum pmig_encoding encoding, uint32_t bytes)
{
	draft_add(stage->draft, page->page, page->hash, encoding, stage->out,
		  bytes);
	stage->out += bytes;
}

static void add_small(struct stage *stage, const struct staged *page)
{
	switch (page->form) {
	case FORM_UNCHANGED:
		add_out(stage, page, PMIG_ENCODING_UNCHANGED, 0);
		break;
	case FORM_DELTA:
		add_out(stage, page, PMIG_ENCODING_DELTA,
			delta_encode(page->copy, page->lines, stage->out));
		break;
	case FORM_COPY:
		memcpy(stage->out, &page->twin, sizeof(page->twin));
		add_out(stage, page, PMIG_ENCODING_COPY, sizeof(page->twin));
		break;
	default:
		add_raw(stage, page);
	}
}

/* Compress n pages together; false when that saves too little. */
static bool add_group(struct stage *stage, const struct staged *pages,
		      uint32_t n)
{
	struct encoder *encoder = stage->encoder;
	const struct choice_candidate *candidate = encoder_candidate(encoder);
	uint32_t plain_bytes = n * PMIG_PAGE_BYTES;
	uint64_t begin_ns = pmig_cpu_now_ns();
	uint32_t bytes =
		compressor_run(encoder->compressor, candidate->encoding,
			       candidate->level, pages->copy, plain_bytes,
			       stage->out, plain_bytes - plain_bytes / 16);

	if (encoder->candidate < CHOICE_CANDIDATES)
		choice_learn(&encoder->choice, encoder->candidate, n,
			     (double)(pmig_cpu_now_ns() - begin_ns),
			     bytes ? bytes : plain_bytes);
	if (bytes == 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		draft_add(stage->draft, pages[i].page, pages[i].hash,
			  candidate->encoding, stage->out, 0);
	draft_group(stage->draft, n, stage->out, bytes);
	stage->out += bytes;
	return true;
}

/* The pages from first on that are compressed together. */
static uint32_t group_length(const struct stage *stage, uint32_t first)
{
	uint32_t limit = encoder_candidate(stage->encoder)->group_pages;
	uint32_t n = 0;

	while (first + n < stage->n_staged && n < limit &&
	       stage->staged[first + n].form == FORM_WHOLE)
		n++;
	return n;
}

static void add_entries(struct stage *stage)
{
	for (uint32_t i = 0; i < stage->n_staged;) {
		const struct staged *page = &stage->staged[i];
		uint32_t n = 1;

		if (page->form != FORM_WHOLE || !stage->plan.compress) {
			add_small(stage, page);
		} else {
			n = group_length(stage, i);
			if (!add_group(stage, page, n))
				for (uint32_t k = 0; k < n; k++)
					add_raw(stage, &page[k]);
		}
		i += n;
	}
}

/* ---- the block --------------------------------------------------------- */

static void learn_randomness(struct stage *stage)
{
	uint32_t whole = 0, random = 0;

	for (uint32_t i = 0; i < stage->n_staged; i++) {
		whole += stage->staged[i].form >= FORM_WHOLE;
		random += stage->staged[i].form == FORM_RANDOM;
	}
	choice_saw(&stage->encoder->choice, whole, random);
}

uint32_t encode_block(struct encoder *encoder, struct draft *draft,
		      struct encode_plan plan, uint64_t present, uint8_t *room)
{
	struct stage stage = {
		.encoder = encoder,
		.draft = draft,
		.plan = plan,
		.out = room,
	};

	if (plan.track && !plan.late)
		stage.plan.track = prints_hold(encoder->prints, draft->number,
					       draft->worker->round.epoch);
	if (!stage.plan.track && encoder->prints && !plan.late)
		encoder->prints->valid[draft->number] &= ~draft->pages->mask;
	stage_pages(&stage, present,
		    room + PMIG_BLOCK_PAGES * WIRE_MAX_STORED_BYTES);
	if (plan.compress)
		learn_randomness(&stage);
	add_entries(&stage);
	encoder->used_pages[encoder->candidate] += stage.n_staged;
	return stage.raw ? ENCODE_ROOM_BYTES : (uint32_t)(stage.out - room);
}
