/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/choice.h"

#include <string.h>

/*
 * Figures of docs/encodings.md, for text; they only decide what is worth a
 * first trial. lz4 looks back 64 KiB, so a larger group gains nothing.
 */
const struct choice_candidate choice_candidates[CHOICE_CANDIDATES] = {
	{PMIG_ENCODING_RAW, 0, PMIG_BLOCK_PAGES, 0},
	{PMIG_ENCODING_LZ4, 1, 16, 6000},
	{PMIG_ENCODING_ZSTD, -1, PMIG_BLOCK_PAGES, 8500},
	{PMIG_ENCODING_ZSTD, 1, PMIG_BLOCK_PAGES, 10000},
	{PMIG_ENCODING_ZSTD, 2, PMIG_BLOCK_PAGES, 12500},
	{PMIG_ENCODING_ZSTD, 3, PMIG_BLOCK_PAGES, 14000},
};

/* To hash a page and hand it to the kernel; see docs/encodings.md. */
static const double RAW_NS = 500;
/* Weight of the newest figure; a few blocks decide. */
static const double NEWEST = 0.2;
/* Compressible pages are encoded in this share of the usual time at best, */
static const double BEST_CASE = 0.1;
/* or in this one of what lz4 says of pages like these. */
static const double BEST_LIKE_LZ4 = 0.5;
/* Decompressing takes this share of compressing, on the other side. */
static const double DECODING = 0.3;
/* Share of the working time that trials may take. */
static const double TRIALS = 0.01;
/* What trials may take at the start, and may save up: one round of them. */
static const double MAX_BUDGET_NS = 3e6;
/* However busy the processors are, a worker gets some of them. */
static const double LEAST_SHARE = 0.5;
/* A candidate must be this much better than doing nothing. */
static const double ADVANTAGE = 0.95;
/* A mixture is made of candidates that take at most so much of the best. */
static const double NEAR = 1.5;
/* More work is for a link that has enough for so many blocks of it, */
static const double AMPLE_BLOCKS = 4;
/* and has to make pages smaller than this share of what they were. */
static const double WORTHWHILE = 0.97;

void choice_init(struct choice *choice)
{
	memset(choice, 0, sizeof(*choice));
	choice->learned[CHOICE_RAW] = (struct choice_learned){true, 0, 1};
	choice->budget_ns = MAX_BUDGET_NS;
}

/* What a page takes of a processor, of which only a share is to be had. */
static double encoding_ns(const struct choice_climate *climate, double cpu_ns)
{
	return cpu_ns /
	       (climate->spare > LEAST_SHARE ? climate->spare : LEAST_SHARE);
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

double choice_page_ns(const struct choice_climate *climate, double cpu_ns,
		      double bytes)
{
	return larger(encoding_ns(climate, cpu_ns),
		      bytes * climate->link_ns_per_byte);
}

/**
 * struct forecast - of the pages to come, random ones among them
 * @encode_ns:	for a page, by a worker with its share of a processor
 * @link_ns:	for a page, on the link
 */
struct forecast {
	double encode_ns;
	double link_ns;
};

/* With these figures of the pages that do not look random. */
static struct forecast forecast(const struct choice *choice,
				const struct choice_climate *climate, double ns,
				double ratio)
{
	double compressible = 1 - choice->random;
	double decoding_ns = (1 - climate->spare) * DECODING * ns;
	double stored = choice->random + compressible * ratio;
	double cpu_ns = RAW_NS * stored + compressible * (ns + decoding_ns);

	return (struct forecast){
		.encode_ns = encoding_ns(climate, cpu_ns),
		.link_ns = PMIG_PAGE_BYTES * stored * climate->link_ns_per_byte,
	};
}

static struct forecast forecast_learned(const struct choice *choice,
					const struct choice_climate *climate,
					unsigned int candidate)
{
	const struct choice_learned *learned = &choice->learned[candidate];

	return forecast(choice, climate, learned->ns, learned->ratio);
}

static double page_ns(const struct forecast *forecast)
{
	return larger(forecast->encode_ns, forecast->link_ns);
}

static double raw_ns(const struct choice *choice,
		     const struct choice_climate *climate)
{
	const struct forecast raw =
		forecast_learned(choice, climate, CHOICE_RAW);

	return page_ns(&raw);
}

static bool allowed(unsigned int candidate, uint32_t encodings)
{
	return candidate == CHOICE_RAW ||
	       (encodings >> choice_candidates[candidate].encoding & 1);
}

unsigned int choice_pick(const struct choice *choice,
			 const struct choice_climate *climate,
			 uint32_t encodings)
{
	double best_ns = ADVANTAGE * raw_ns(choice, climate);
	unsigned int best = CHOICE_RAW;

	if (climate->link_ns_per_byte <= 0)
		return CHOICE_RAW;
	for (unsigned int i = 1; i < CHOICE_CANDIDATES; i++) {
		struct forecast it;

		if (!choice->learned[i].known || !allowed(i, encodings))
			continue;
		it = forecast_learned(choice, climate, i);
		if (page_ns(&it) < best_ns) {
			best_ns = page_ns(&it);
			best = i;
		}
	}
	return best;
}

/* Would the link run dry while n_blocks are encoded like this? */
static bool runs_dry(const struct choice_climate *climate,
		     const struct forecast *it, double n_blocks)
{
	return climate->queued_ns < n_blocks * PMIG_BLOCK_PAGES * it->encode_ns;
}

/* Is it, for the block at hand, better than what is best for many? */
static bool suits_now(const struct choice_climate *climate,
		      const struct forecast *it, const struct forecast *best)
{
	if (runs_dry(climate, best, 1))
		return best->encode_ns > best->link_ns &&
		       it->encode_ns < best->encode_ns;
	return it->link_ns < WORTHWHILE * best->link_ns &&
	       !runs_dry(climate, it, AMPLE_BLOCKS);
}

unsigned int choice_mix(const struct choice *choice,
			const struct choice_climate *climate,
			uint32_t encodings, unsigned int picked)
{
	struct forecast best = forecast_learned(choice, climate, picked);
	const double limit_ns = NEAR * page_ns(&best);

	for (unsigned int i = 0; i < CHOICE_CANDIDATES; i++) {
		struct forecast it;

		if (!choice->learned[i].known || !allowed(i, encodings))
			continue;
		it = forecast_learned(choice, climate, i);
		if (page_ns(&it) > limit_ns || !suits_now(climate, &it, &best))
			continue;
		best = it;
		picked = i;
	}
	return picked;
}

double choice_expected_bytes(const struct choice *choice,
			     unsigned int candidate)
{
	const struct choice_learned *learned = &choice->learned[candidate];

	return learned->known ? PMIG_PAGE_BYTES * learned->ratio
			      : PMIG_PAGE_BYTES;
}

/* lz4 is the cheapest to try, and where it takes long all do. */
static double best_case_ns(const struct choice *choice, unsigned int candidate)
{
	const struct choice_learned *learned = &choice->learned[candidate];
	const struct choice_learned *lz4 = &choice->learned[CHOICE_LZ4];
	double prior_ns = choice_candidates[candidate].prior_ns;

	if (learned->known)
		return learned->ns;
	if (!lz4->known)
		return BEST_CASE * prior_ns;
	return BEST_LIKE_LZ4 * prior_ns * lz4->ns /
	       choice_candidates[CHOICE_LZ4].prior_ns;
}

/* Could it win, if pages compressed to nothing? */
static bool could_win(const struct choice *choice,
		      const struct choice_climate *climate,
		      unsigned int candidate)
{
	const struct forecast best =
		forecast(choice, climate, best_case_ns(choice, candidate), 0);

	return page_ns(&best) < raw_ns(choice, climate);
}

unsigned int choice_trial(struct choice *choice,
			  const struct choice_climate *climate,
			  uint32_t encodings)
{
	if (climate->link_ns_per_byte <= 0)
		return CHOICE_RAW;
	for (unsigned int i = 1; i < CHOICE_CANDIDATES; i++) {
		unsigned int candidate =
			1 + choice->next_trial % (CHOICE_CANDIDATES - 1);
		double cost_ns = choice_candidates[candidate].prior_ns *
				 choice_candidates[candidate].group_pages;

		if (choice->budget_ns < cost_ns)
			return CHOICE_RAW;
		choice->next_trial++;
		if (!allowed(candidate, encodings) ||
		    !could_win(choice, climate, candidate))
			continue;
		choice->budget_ns -= cost_ns;
		return candidate;
	}
	return CHOICE_RAW;
}

void choice_worked(struct choice *choice, double ns)
{
	choice->budget_ns += TRIALS * ns;
	if (choice->budget_ns > MAX_BUDGET_NS)
		choice->budget_ns = MAX_BUDGET_NS;
}

static double blend(double old, double newest, double weight)
{
	return old + weight * (newest - old);
}

void choice_learn(struct choice *choice, unsigned int candidate,
		  uint32_t n_pages, double ns, uint64_t stored_bytes)
{
	struct choice_learned *learned = &choice->learned[candidate];
	double weight = learned->known ? NEWEST : 1;

	if (candidate == CHOICE_RAW || n_pages == 0)
		return;
	learned->ns = blend(learned->ns, ns / n_pages, weight);
	learned->ratio =
		blend(learned->ratio,
		      (double)stored_bytes / PMIG_PAGE_BYTES / n_pages, weight);
	learned->known = true;
}

void choice_saw(struct choice *choice, uint32_t n_pages, uint32_t n_random)
{
	if (n_pages)
		choice->random = blend(choice->random,
				       (double)n_random / n_pages, NEWEST);
}
