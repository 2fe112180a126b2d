/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/content.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/layout.h"

/* Linux 5.14; absent from older libc headers. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAX_FILLERS    4
#define CHUNK_PAGES    256
#define MIXED_RUN_SIZE 16
#define LANES	       8

/* splitmix64 (Steele, Lea, Flood 2014): spreads a number over 64 bits. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* xorshift64 (Marsaglia 2003) in lanes, which compilers vectorize. */
static void random_page(uint64_t state, uint64_t *words)
{
	uint64_t lanes[LANES];

	for (int i = 0; i < LANES; i++)
		lanes[i] = mix(state + (uint64_t)i) | 1;
	for (int word = 0; word < PVMM_PAGE_WORDS; word += LANES) {
		for (int i = 0; i < LANES; i++) {
			lanes[i] ^= lanes[i] << 13;
			lanes[i] ^= lanes[i] >> 7;
			lanes[i] ^= lanes[i] << 17;
			words[word + i] = lanes[i];
		}
	}
}

static void repeated_page(uint64_t state, uint64_t *words)
{
	uint64_t pattern = mix(state);

	for (int i = 0; i < PVMM_PAGE_WORDS; i++)
		words[i] = pattern;
}

/* Words of at most 8 bytes, each with its blank, back to back. */
static void text_page(uint64_t state, uint64_t *words)
{
	static const char vocabulary[32][9] = {
		"the ",	   "of ",     "and ",	 "page ",    "to ",
		"in ",	   "guest ",  "memory ", "is ",	     "that ",
		"for ",	   "it ",     "write ",	 "was ",     "on ",
		"round ",  "with ",   "dirty ",	 "as ",	     "be ",
		"stream ", "block ",  "this ",	 "machine ", "from ",
		"state ",  "target ", "which ",	 "source, ", "running ",
		"time.\n", "sent. ",
	};
	char text[PVMM_PAGE_BYTES + 8];
	size_t used = 0;

	for (uint64_t n = 0; used < PVMM_PAGE_BYTES; n++) {
		const char *word = vocabulary[mix(state + n) >> 59];

		memcpy(text + used, word, 8);
		used += strlen(word);
	}
	memcpy(words, text, PVMM_PAGE_BYTES);
}

static enum pvmm_content mixed_kind(uint64_t seed, uint64_t page)
{
	static const enum pvmm_content kinds[4] = {
		PVMM_CONTENT_ZERO,
		PVMM_CONTENT_RANDOM,
		PVMM_CONTENT_TEXT,
		PVMM_CONTENT_REPEATED,
	};

	return kinds[mix(seed + page / MIXED_RUN_SIZE) >> 62];
}

void pvmm_content_page(enum pvmm_content kind, uint64_t seed, uint64_t page,
		       uint64_t *words)
{
	uint64_t state = mix(seed) ^ mix(page << 16);

	if (kind == PVMM_CONTENT_MIXED)
		kind = mixed_kind(seed, page);
	switch (kind) {
	case PVMM_CONTENT_RANDOM:
		random_page(state, words);
		return;
	case PVMM_CONTENT_TEXT:
		text_page(state, words);
		return;
	case PVMM_CONTENT_REPEATED:
		repeated_page(state, words);
		return;
	default:
		memset(words, 0, PVMM_PAGE_BYTES);
	}
}

uint64_t pvmm_content_start(const struct pvmm_plan *plan)
{
	return plan->slices[0].offset;
}

/**
 * struct filler - work that the filling threads share
 * @next_page:	first page of the next chunk; advanced atomically
 */
struct filler {
	const struct pvmm_ram *ram;
	const struct pvmm_plan *plan;
	uint64_t next_page;
};

static void fill_page(const struct filler *filler, uint64_t page)
{
	const struct pvmm_config *config = &filler->plan->config;
	uint64_t offset = page * PVMM_PAGE_BYTES;
	uint64_t *words = (uint64_t *)(filler->ram->base + offset);

	if (config->content != PVMM_CONTENT_UNTOUCHED)
		pvmm_content_page(config->content, config->seed, page, words);
	if (offset < filler->plan->end_offset) {
		words[0] = 0;
		words[1] = page ^ PVMM_IDENTITY;
	}
}

static void *fill_chunks(void *opaque)
{
	struct filler *filler = opaque;
	uint64_t n_bytes = filler->plan->config.memory_bytes;
	uint64_t end, page;

	/* Beyond the working set an untouched page stays untouched. */
	if (filler->plan->config.content == PVMM_CONTENT_UNTOUCHED)
		n_bytes = filler->plan->end_offset;
	end = n_bytes / PVMM_PAGE_BYTES;
	for (;;) {
		page = __atomic_fetch_add(&filler->next_page, CHUNK_PAGES,
					  __ATOMIC_RELAXED);
		if (page >= end)
			return NULL;
		for (int i = 0; i < CHUNK_PAGES && page < end; i++, page++)
			fill_page(filler, page);
	}
}

/* In one step where the kernel can; otherwise filling faults pages in. */
static void populate(const struct pvmm_ram *ram, const struct pvmm_plan *plan)
{
	if (plan->config.content != PVMM_CONTENT_UNTOUCHED)
		(void)madvise(ram->base, ram->size_bytes, MADV_POPULATE_WRITE);
}

void pvmm_content_fill(const struct pvmm_ram *ram, const struct pvmm_plan *plan)
{
	struct filler filler = {
		.ram = ram,
		.plan = plan,
		.next_page = pvmm_content_start(plan) / PVMM_PAGE_BYTES,
	};
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[MAX_FILLERS];
	int n_threads = 0;

	populate(ram, plan);
	while (n_threads < MAX_FILLERS && n_threads < n_cpus - 1 &&
	       !pthread_create(&threads[n_threads], NULL, fill_chunks, &filler))
		n_threads++;
	fill_chunks(&filler);
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

/* Is a page as it was at the start? A hole is not read: it stays one. */
static bool page_is_untouched(const struct pvmm_ram *ram,
			      const struct pvmm_config *config, uint64_t page,
			      bool present)
{
	static const uint64_t zero[PVMM_PAGE_WORDS];
	uint64_t expected[PVMM_PAGE_WORDS];
	const void *found = zero;

	if (present)
		found = ram->base + page * PVMM_PAGE_BYTES;
	pvmm_content_page(config->content, config->seed, page, expected);
	return !memcmp(expected, found, sizeof(expected));
}

/* Which pages of a block may hold something; all where nobody can say. */
static uint64_t present_pages(const struct pvmm_ram *ram, uint64_t block)
{
	uint64_t present;

	if (pmig_memory_present(ram->memory, block, 1, &present, NULL))
		return ~0ull;
	return present;
}

/*
 * Regions begin at multiples of a block in RAM, so the number of a block
 * follows from the number of a page.
 */
uint64_t pvmm_content_compare(const struct pvmm_ram *ram,
			      const struct pvmm_plan *plan, uint64_t *bad_page)
{
	const struct pvmm_config *config = &plan->config;
	uint64_t end = config->memory_bytes / PVMM_PAGE_BYTES;
	uint64_t first = plan->end_offset / PVMM_PAGE_BYTES;
	uint64_t present = 0;

	*bad_page = UINT64_MAX;
	for (uint64_t page = first; page < end; page++) {
		unsigned int bit = page % PMIG_BLOCK_PAGES;

		if (page == first || !bit)
			present = present_pages(ram, page / PMIG_BLOCK_PAGES);
		if (!present && config->content == PVMM_CONTENT_UNTOUCHED)
			continue;
		if (!page_is_untouched(ram, config, page, present >> bit & 1)) {
			*bad_page = page;
			return page - first;
		}
	}
	return end - first;
}
