/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choice.h - which encoding brings pages across soonest
 *
 * Theory of operation
 *
 * A page costs processor time to encode (c) and link time to carry (l). The
 * two overlap, because the kernel sends while the worker encodes. A worker
 * that can have only a share s of a processor, because the rest is busy with
 * something else (the guest, the receiver of a loopback migration), takes c / s
 * to encode. So a page takes
 *
 *	T = max(c / s, l)
 *
 * c is learned by timing, l is the stored share of a page (the ratio, learned
 * likewise) times what the link takes for a byte. The smallest T wins. So
 * compression turns itself off where the link is faster than the processor,
 * and up where it is slower, with nothing to configure.
 *
 * One way is seldom right for all pages: the best one leaves either the link
 * idle or the processor, and a mixture of two would use up both. What is
 * queued tells which it is. While the link has enough to carry for as long
 * as smaller pages would take to make, they are made; where it is about to run
 * dry because the best way is slow, the next pages get less work. Only ways
 * nearly as good as the best take part.
 *
 * What is not in use has to be tried now and then, or its figures would never
 * change. Trials spend a budget that is a hundredth of the working time, and
 * only on candidates that could win if the page compressed to nothing.
 *
 * Pages that look random are never compressed; their share is learned, too,
 * since it bounds what any candidate can gain.
 *
 * Pure: no clock, no I/O. One object belongs to one thread.
 */
#ifndef PMIG_CODEC_CHOICE_H
#define PMIG_CODEC_CHOICE_H

#include "pymigrate.h"

enum {
	CHOICE_RAW = 0, /* index of the candidate that compresses nothing */
	CHOICE_LZ4 = 1, /* of the one that is tried first */
	CHOICE_CANDIDATES = 6,
};

/**
 * struct choice_candidate - one way to compress
 * @encoding:	PMIG_ENCODING_RAW, _LZ4 or _ZSTD
 * @level:	as in struct pmig_tuning
 * @group_pages: compressed together at most
 * @prior_ns:	per page, until it was measured
 */
struct choice_candidate {
	enum pmig_encoding encoding;
	int level;
	uint32_t group_pages;
	double prior_ns;
};

extern const struct choice_candidate choice_candidates[CHOICE_CANDIDATES];

/**
 * struct choice_climate - what is scarce
 * @link_ns_per_byte: of this worker's share of the link; 0: not known yet
 * @idle:	processors that are idle, for each worker
 * @spare:	share of a processor that this worker may use, 0 to 1
 * @queued_ns:	for which the link has something to carry
 */
struct choice_climate {
	double link_ns_per_byte;
	double idle;
	double spare;
	double queued_ns;
};

/**
 * struct choice_learned - of the pages that do not look random
 * @known:	has been measured
 * @ns:		to encode one page
 * @ratio:	stored bytes per byte, 0 to 1
 */
struct choice_learned {
	bool known;
	double ns;
	double ratio;
};

/**
 * struct choice - what one worker has learned
 * @learned:	per candidate
 * @random:	share of pages that look random
 * @budget_ns:	for trials
 * @next_trial:	candidate to try next
 */
struct choice {
	struct choice_learned learned[CHOICE_CANDIDATES];
	double random;
	double budget_ns;
	unsigned int next_trial;
};

void choice_init(struct choice *choice);

/* The time of a page that costs cpu_ns and carries so many bytes. */
double choice_page_ns(const struct choice_climate *climate, double cpu_ns,
		      double bytes);

/*
 * The candidate to use now, of those in the mask encodings (bit e: encoding
 * e); CHOICE_RAW always is.
 */
unsigned int choice_pick(const struct choice *choice,
			 const struct choice_climate *climate,
			 uint32_t encodings);

/* The candidate for the next block where picked is the best for many. */
unsigned int choice_mix(const struct choice *choice,
			const struct choice_climate *climate,
			uint32_t encodings, unsigned int picked);

/*
 * Bytes that the candidate is expected to store for a page that does not
 * look random.
 */
double choice_expected_bytes(const struct choice *choice,
			     unsigned int candidate);

/*
 * The candidate that is worth a trial of one of its groups now, or CHOICE_RAW.
 * Its turn is over then, and the budget charged with what it should take. A
 * smaller group would show a worse ratio than it has in use.
 */
unsigned int choice_trial(struct choice *choice,
			  const struct choice_climate *climate,
			  uint32_t encodings);

/* So much time was worked: trials may have a share of it. */
void choice_worked(struct choice *choice, double ns);

/* n_pages were encoded in ns to stored_bytes. */
void choice_learn(struct choice *choice, unsigned int candidate,
		  uint32_t n_pages, double ns, uint64_t stored_bytes);

/* Of n_pages that were looked at, n_random looked random. */
void choice_saw(struct choice *choice, uint32_t n_pages, uint32_t n_random);

#endif
