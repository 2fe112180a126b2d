/* SPDX-License-Identifier: Apache-2.0 */
#include "page_history.h"

#include <stdio.h>
#include <string.h>

uint64_t history_random(struct page_history *history, uint64_t limit)
{
	history->random = history->random * 6364136223846793005ull +
			  1442695040888963407ull;
	return (history->random >> 33) % limit;
}

/*
 * Words of eight bytes, each written at once: a page may be read meanwhile,
 * as a guest's is.
 */
static void put(uint8_t *to, uint64_t word)
{
	__atomic_store_n((uint64_t *)to, word, __ATOMIC_RELAXED);
}

static uint64_t get(const uint8_t *from)
{
	return __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED);
}

static void noise(struct page_history *history, uint8_t *page)
{
	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 8)
		put(page + at, history_random(history, 1ull << 31) << 32 |
				       history_random(history, 1ull << 31));
}

static void text(struct page_history *history, uint8_t *page)
{
	uint64_t word, seed = history_random(history, 1000);
	char letters[16];

	snprintf(letters, sizeof(letters), "line%04llu",
		 (unsigned long long)seed);
	memcpy(&word, letters, sizeof(word));
	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 8)
		put(page + at, word + at / 512);
}

static void zeros(uint8_t *page)
{
	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 8)
		put(page + at, 0);
}

static void twin(struct page_history *history, uint8_t *page)
{
	const uint8_t *from =
		history->hva +
		history_random(history, history->n_pages) * PMIG_PAGE_BYTES;

	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 8)
		put(page + at, get(from + at));
}

static void edit(struct page_history *history, uint8_t *page)
{
	unsigned int lines = 1u << history_random(history, 7);

	while (lines--) {
		uint8_t *at =
			page + history_random(history, PMIG_PAGE_BYTES / 8) * 8;

		put(at, get(at) + 1);
	}
}

/* Written with what it holds: dirty, but nothing changed. */
static void touch(uint8_t *page)
{
	put(page, get(page));
}

void history_change(struct page_history *history)
{
	uint64_t number = history_random(history, history->n_pages);
	uint8_t *page = history->hva + number * PMIG_PAGE_BYTES;

	switch (history_random(history, 10)) {
	case 0:
		zeros(page);
		break;
	case 1:
		noise(history, page);
		break;
	case 2:
	case 3:
		text(history, page);
		break;
	case 4:
		twin(history, page);
		break;
	case 5:
		touch(page);
		break;
	default:
		edit(history, page);
		break;
	}
	pmig_dirty_mark(history->dirty, history->gpa + number * PMIG_PAGE_BYTES,
			PMIG_PAGE_BYTES);
}

void history_run(struct page_history *history, unsigned int changes)
{
	while (changes--)
		history_change(history);
}
