/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resend.h - a round of pages that were sent before, by lines or from a cache
 *
 * Both get the same pages, changed in the same way, in the order of their
 * addresses as every round has them.
 */
#ifndef BENCH_C_RESEND_H
#define BENCH_C_RESEND_H

#include "steps.h"

/* What a round came to. */
struct bench_round {
	uint64_t stored_bytes;
	uint64_t raw_pages; /* sent as they are */
	uint64_t hits;	    /* pages of which something was known */
	uint64_t wrong;	    /* pages that the other side got wrong */
};

/*
 * In each page write runs of so many random bytes at random multiples of 4;
 * with 4096 all of it.
 */
BENCH_EXPORT void bench_dirty(uint8_t *pages, uint32_t n, uint32_t runs,
			      uint32_t run_bytes, uint64_t seed);

/*
 * Line delta. prints has 256 bytes for each page. peer is what the other
 * side has, to check what it gets, or NULL.
 */
BENCH_EXPORT void bench_lines(const uint8_t *pages, uint32_t n, void *prints,
			      uint8_t *peer, struct bench_round *round);

struct bench_cache;

/*
 * A direct-mapped cache of n_slots copies of pages. A page that was sent less
 * than keep_rounds rounds ago is not pushed out by another.
 */
BENCH_EXPORT struct bench_cache *bench_cache_new(uint32_t n_slots,
						 uint32_t keep_rounds);
BENCH_EXPORT void bench_cache_free(struct bench_cache *cache);
BENCH_EXPORT void bench_cached(struct bench_cache *cache, const uint8_t *pages,
			       uint32_t n, uint8_t *peer,
			       struct bench_round *round);

#endif
