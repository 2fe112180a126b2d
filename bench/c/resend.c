/* SPDX-License-Identifier: Apache-2.0 */
#include "resend.h"

#include <stdlib.h>
#include <string.h>

#include "byte_runs.h"
#include "codec/delta.h"
#include "codec/line.h"

enum {
	NO_PAGE = UINT32_MAX,
};

/**
 * struct bench_cache - copies of pages as they were sent
 * @copies:	n_slots pages; page p may be in slot p modulo n_slots
 * @page:	which one it is, or NO_PAGE
 * @sent:	the round in which it was sent last
 */
struct bench_cache {
	uint8_t *copies;
	uint32_t *page;
	uint32_t *sent;
	uint32_t n_slots;
	uint32_t keep_rounds;
	uint32_t round;
};

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	return z ^ (z >> 27);
}

void bench_dirty(uint8_t *pages, uint32_t n, uint32_t runs, uint32_t run_bytes,
		 uint64_t seed)
{
	uint32_t places = (PMIG_PAGE_BYTES - run_bytes) / 4 + 1;

	for (uint32_t i = 0; i < n * runs; i++) {
		uint8_t *at = pages + (size_t)(i / runs) * PMIG_PAGE_BYTES +
			      next(&seed) % places * 4;

		for (uint32_t done = 0; done < run_bytes; done += 4) {
			uint32_t word = (uint32_t)next(&seed);

			memcpy(at + done, &word, sizeof(word));
		}
	}
}

static void count_raw(struct bench_round *round, uint8_t *to,
		      const uint8_t *page)
{
	round->raw_pages++;
	round->stored_bytes += PMIG_PAGE_BYTES;
	if (to)
		memcpy(to, page, PMIG_PAGE_BYTES);
}

static void check(struct bench_round *round, const uint8_t *to,
		  const uint8_t *page)
{
	if (to)
		round->wrong += memcmp(to, page, PMIG_PAGE_BYTES) != 0;
}

static void send_lines(const uint8_t *page, uint64_t lines, uint8_t *to,
		       struct bench_round *round)
{
	uint8_t delta[DELTA_MAX_BYTES];
	uint32_t size;

	if (!lines)
		return;
	if (delta_bytes(lines) >= PMIG_PAGE_BYTES) {
		count_raw(round, to, page);
		return;
	}
	size = delta_encode(page, lines, delta);
	round->stored_bytes += size;
	if (to)
		round->wrong += delta_apply(to, delta, size) != 0;
}

/* A key with zeros in it would not see every change of a page with zeros. */
static const struct line_key *secret(void)
{
	static struct line_key key;

	if (!key.fold && line_key_init(&key, NULL))
		abort();
	return &key;
}

void bench_lines(const uint8_t *pages, uint32_t n, void *prints, uint8_t *peer,
		 struct bench_round *round)
{
	const struct line_kernel *kernel = line_kernel_best();
	const struct line_key *key = secret();
	struct line_prints *known = prints;

	for (uint32_t i = 0; i < n; i++, pages += PMIG_PAGE_BYTES) {
		struct line_prints now;
		uint64_t lines;

		kernel->prints(key, pages, &now);
		lines = line_changes(&known[i], &now);
		known[i] = now;
		round->hits++;
		send_lines(pages, lines, peer, round);
		check(round, peer, pages);
		peer = peer ? peer + PMIG_PAGE_BYTES : NULL;
	}
}

struct bench_cache *bench_cache_new(uint32_t n_slots, uint32_t keep_rounds)
{
	struct bench_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->n_slots = n_slots;
	cache->keep_rounds = keep_rounds;
	cache->copies = malloc((size_t)n_slots * PMIG_PAGE_BYTES);
	cache->page = malloc(n_slots * sizeof(*cache->page));
	cache->sent = calloc(n_slots, sizeof(*cache->sent));
	if (!cache->copies || !cache->page || !cache->sent) {
		bench_cache_free(cache);
		return NULL;
	}
	for (uint32_t i = 0; i < n_slots; i++)
		cache->page[i] = NO_PAGE;
	return cache;
}

void bench_cache_free(struct bench_cache *cache)
{
	if (!cache)
		return;
	free(cache->copies);
	free(cache->page);
	free(cache->sent);
	free(cache);
}

/* A page that is not there takes the place of one that has had its time. */
static void insert(struct bench_cache *cache, uint32_t slot, uint32_t number,
		   const uint8_t *page)
{
	if (cache->page[slot] != NO_PAGE &&
	    cache->round - cache->sent[slot] < cache->keep_rounds)
		return;
	cache->page[slot] = number;
	cache->sent[slot] = cache->round;
	memcpy(cache->copies + (size_t)slot * PMIG_PAGE_BYTES, page,
	       PMIG_PAGE_BYTES);
}

/* The runs bring the copy up to date as well: cheaper than all of the page. */
static void send_runs(uint8_t *copy, const uint8_t *page, uint8_t *to,
		      struct bench_round *round)
{
	uint8_t runs[PMIG_PAGE_BYTES];
	uint32_t size = byte_runs_encode(copy, page, runs, sizeof(runs));

	if (!size && memcmp(copy, page, PMIG_PAGE_BYTES) != 0) {
		count_raw(round, to, page);
		memcpy(copy, page, PMIG_PAGE_BYTES);
		return;
	}
	byte_runs_apply(copy, runs, size);
	round->stored_bytes += size;
	if (to)
		byte_runs_apply(to, runs, size);
}

void bench_cached(struct bench_cache *cache, const uint8_t *pages, uint32_t n,
		  uint8_t *peer, struct bench_round *round)
{
	cache->round++;
	for (uint32_t i = 0; i < n; i++, pages += PMIG_PAGE_BYTES) {
		uint32_t slot = i % cache->n_slots;

		if (cache->page[slot] == i) {
			round->hits++;
			cache->sent[slot] = cache->round;
			send_runs(cache->copies +
					  (size_t)slot * PMIG_PAGE_BYTES,
				  pages, peer, round);
		} else {
			count_raw(round, peer, pages);
			insert(cache, slot, i, pages);
		}
		check(round, peer, pages);
		peer = peer ? peer + PMIG_PAGE_BYTES : NULL;
	}
}
