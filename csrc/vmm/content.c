/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/content.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/content_kinds.h"
#include "vmm/error.h"
#include "vmm/layout.h"

/* Linux 5.14; absent from older libc headers. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAX_FILLERS    4
#define CHUNK_PAGES    256
#define MIXED_RUN_SIZE 16
#define LANES	       8

/* xorshift64 (Marsaglia 2003) in lanes, which compilers vectorize. */
static void random_page(uint64_t state, uint64_t *words)
{
	uint64_t lanes[LANES];

	for (int i = 0; i < LANES; i++)
		lanes[i] = pvmm_mix(state + (uint64_t)i) | 1;
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
	uint64_t pattern = pvmm_mix(state);

	for (int i = 0; i < PVMM_PAGE_WORDS; i++)
		words[i] = pattern;
}

static enum pvmm_content mixed_kind(uint64_t seed, uint64_t page)
{
	static const enum pvmm_content kinds[4] = {
		PVMM_CONTENT_ZERO,
		PVMM_CONTENT_RANDOM,
		PVMM_CONTENT_TEXT,
		PVMM_CONTENT_REPEATED,
	};

	return kinds[pvmm_mix(seed + page / MIXED_RUN_SIZE) >> 62];
}

void pvmm_content_page(const struct pvmm *vm, uint64_t page, uint64_t *words)
{
	enum pvmm_content kind = vm->plan.config.content;
	uint64_t seed = vm->plan.config.seed;
	uint64_t state = pvmm_mix(seed) ^ pvmm_mix(page << 16);

	if (kind == PVMM_CONTENT_MIXED)
		kind = mixed_kind(seed, page);
	switch (kind) {
	case PVMM_CONTENT_RANDOM:
		random_page(state, words);
		return;
	case PVMM_CONTENT_TEXT:
		pvmm_content_text(state, words);
		return;
	case PVMM_CONTENT_REPEATED:
		repeated_page(state, words);
		return;
	case PVMM_CONTENT_EXECUTABLE:
		pvmm_corpus_page(&vm->corpus, seed, page, words);
		return;
	case PVMM_CONTENT_POINTERS:
		pvmm_content_heap(state, words);
		return;
	default:
		memset(words, 0, PVMM_PAGE_BYTES);
	}
}

static uint64_t *corpus_digest(const struct pvmm *vm)
{
	return (uint64_t *)(vm->ram.base + PVMM_CORPUS);
}

int pvmm_content_open(struct pvmm *vm, struct pmig_error *err)
{
	if (vm->plan.config.content != PVMM_CONTENT_EXECUTABLE)
		return 0;
	return pvmm_corpus_load(&vm->corpus, err);
}

int pvmm_content_check(const struct pvmm *vm, struct pmig_error *err)
{
	if (!vm->corpus.bytes || *corpus_digest(vm) == vm->corpus.digest)
		return 0;
	return pvmm_fail(err, -ESTALE,
			 "the content was made of programs that differ from "
			 "those on this host, so it cannot be checked here");
}

void pvmm_content_close(struct pvmm *vm)
{
	pvmm_corpus_free(&vm->corpus);
}

/**
 * struct filler - work that the filling threads share
 * @vm:		whose RAM is filled
 * @next_page:	first page of the next chunk; advanced atomically
 */
struct filler {
	const struct pvmm *vm;
	uint64_t next_page;
};

static void fill_page(const struct filler *filler, uint64_t page)
{
	const struct pvmm *vm = filler->vm;
	uint64_t offset = page * PVMM_PAGE_BYTES;
	uint64_t *words = (uint64_t *)(vm->ram.base + offset);

	if (vm->plan.config.content != PVMM_CONTENT_UNTOUCHED)
		pvmm_content_page(vm, page, words);
	if (offset < vm->plan.end_offset) {
		words[0] = 0;
		words[1] = page ^ PVMM_IDENTITY;
	}
}

static void *fill_chunks(void *opaque)
{
	struct filler *filler = opaque;
	const struct pvmm_plan *plan = &filler->vm->plan;
	uint64_t n_bytes = plan->config.memory_bytes;
	uint64_t end, page;

	/* Beyond the working set an untouched page stays untouched. */
	if (plan->config.content == PVMM_CONTENT_UNTOUCHED)
		n_bytes = plan->end_offset;
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
static void populate(const struct pvmm *vm)
{
	if (vm->plan.config.content != PVMM_CONTENT_UNTOUCHED)
		(void)madvise(vm->ram.base, vm->ram.size_bytes,
			      MADV_POPULATE_WRITE);
}

void pvmm_content_fill(const struct pvmm *vm)
{
	struct filler filler = {
		.vm = vm,
		.next_page = vm->plan.slices[0].offset / PVMM_PAGE_BYTES,
	};
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[MAX_FILLERS];
	int n_threads = 0;

	populate(vm);
	while (n_threads < MAX_FILLERS && n_threads < n_cpus - 1 &&
	       !pthread_create(&threads[n_threads], NULL, fill_chunks, &filler))
		n_threads++;
	fill_chunks(&filler);
	if (vm->corpus.bytes)
		*corpus_digest(vm) = vm->corpus.digest;
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

/* Is a page as it was at the start? A hole is not read: it stays one. */
static bool page_is_untouched(const struct pvmm *vm, uint64_t page,
			      bool present)
{
	static const uint64_t zero[PVMM_PAGE_WORDS];
	uint64_t expected[PVMM_PAGE_WORDS];
	const void *found = zero;

	if (present)
		found = vm->ram.base + page * PVMM_PAGE_BYTES;
	pvmm_content_page(vm, page, expected);
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
uint64_t pvmm_content_compare(const struct pvmm *vm, uint64_t *bad_page)
{
	const struct pvmm_config *config = &vm->plan.config;
	uint64_t end = config->memory_bytes / PVMM_PAGE_BYTES;
	uint64_t first = vm->plan.end_offset / PVMM_PAGE_BYTES;
	uint64_t present = 0;

	*bad_page = UINT64_MAX;
	for (uint64_t page = first; page < end; page++) {
		unsigned int bit = page % PMIG_BLOCK_PAGES;

		if (page == first || !bit)
			present = present_pages(&vm->ram,
						page / PMIG_BLOCK_PAGES);
		if (!present && config->content == PVMM_CONTENT_UNTOUCHED)
			continue;
		if (!page_is_untouched(vm, page, present >> bit & 1)) {
			*bad_page = page;
			return page - first;
		}
	}
	return end - first;
}
