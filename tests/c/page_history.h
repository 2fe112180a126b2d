/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_history.h - pages that change as those of a guest do
 *
 * A page becomes zeros, noise, text or a copy of another page; a few of its
 * lines change; it is written with what it holds already; it is said to be
 * written and is not. Everything follows from the seed.
 */
#ifndef TESTS_C_PAGE_HISTORY_H
#define TESTS_C_PAGE_HISTORY_H

#include "pymigrate.h"

/**
 * struct page_history - one region's pages
 * @dirty:	is told of every write, after it
 * @hva:	the pages
 * @gpa:	of the first
 * @n_pages:	how many
 * @random:	state; the seed to begin with
 */
struct page_history {
	struct pmig_dirty *dirty;
	uint8_t *hva;
	uint64_t gpa;
	uint64_t n_pages;
	uint64_t random;
};

/* A number below limit. */
uint64_t history_random(struct page_history *history, uint64_t limit);

/* Change one page, chosen at random. */
void history_change(struct page_history *history);

/* Change so many pages, or the same page so many times. */
void history_run(struct page_history *history, unsigned int changes);

#endif
