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
	{PMIG_ENCODING_ZSTD, -5, PMIG_BLOCK_PAGES, 7500},
	{PMIG_ENCODING_ZSTD, -1, PMIG_BLOCK_PAGES, 8500},
	{PMIG_ENCODING_ZSTD, 1, PMIG_BLOCK_PAGES, 10000},
	{PMIG_ENCODING_ZSTD, 3, PMIG_BLOCK_PAGES, 14000},
};

/* To hash a page and hand it to the kernel; see docs/encodings.md. */
static const double RAW_NS = 500;
/* Weight of the newest figure; a few blocks decide. */
static const double NEWEST = 0.2;
/* Compressible pages are encoded in this share of the usual time at best. */
static const double BEST_CASE = 0.1;
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

void choice_init(struct choice *choice)
{
	memset(choice, 0, sizeof(*choice));
	choice->learned[CHOICE_RAW] = (struct choice_learned){true, 0, 1};
	choice->budget_ns = MAX_BUDGET_NS;
}

double choice_page_ns(const struct choice_climate *climate, double cpu_ns,
		      double bytes)
{
	double share =
		climate->spare > LEAST_SHARE ? climate->spare : LEAST_SHARE;
	double link_ns = bytes * climate->link_ns_per_byte;

	return cpu_ns / share > link_ns ? cpu_ns / share : link_ns;
}

/* With what is known of candidate, or with the figures given. */
static double predict(const struct choice *choice,
		      const struct choice_climate *climate, double ns,
		      double ratio)
{
	double compressible = 1 - choice->random;
	double decoding_ns = (1 - climate->spare) * DECODING * ns;
	double cpu_ns = RAW_NS * (choice->random + compressible * ratio) +
			compressible * (ns + decoding_ns);

	return choice_page_ns(climate, cpu_ns,
			      PMIG_PAGE_BYTES *
				      (choice->random + compressible * ratio));
}

static double raw_ns(const struct choice *choice,
		     const struct choice_climate *climate)
{
	return predict(choice, climate, 0, 1);
}

static bool allowed(unsigned int candidate, uint32_t encodings)
{
	return encodings >> choice_candidates[candidate].encoding & 1;
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
		const struct choice_learned *learned = &choice->learned[i];
		double ns;

		if (!learned->known || !allowed(i, encodings))
			continue;
		ns = predict(choice, climate, learned->ns, learned->ratio);
		if (ns < best_ns) {
			best_ns = ns;
			best = i;
		}
	}
	return best;
}

double choice_expected_bytes(const struct choice *choice,
			     unsigned int candidate)
{
	const struct choice_learned *learned = &choice->learned[candidate];

	return learned->known ? PMIG_PAGE_BYTES * learned->ratio
			      : PMIG_PAGE_BYTES;
}

static double best_case_ns(const struct choice *choice, unsigned int candidate)
{
	const struct choice_learned *learned = &choice->learned[candidate];

	return learned->known
		       ? learned->ns
		       : BEST_CASE * choice_candidates[candidate].prior_ns;
}

/* Could it win, if pages compressed to nothing? */
static bool could_win(const struct choice *choice,
		      const struct choice_climate *climate,
		      unsigned int candidate)
{
	return predict(choice, climate, best_case_ns(choice, candidate), 0) <
	       raw_ns(choice, climate);
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
