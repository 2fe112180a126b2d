/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_set.h - a set of pages that is quick to empty
 *
 * One word per block, and a summary with one bit per block, so that emptying
 * costs what is in the set and next to nothing for what is not. Adding is
 * lock-free and may happen at any time; one thread at a time empties.
 */
#ifndef PMIG_DIRTY_PAGE_SET_H
#define PMIG_DIRTY_PAGE_SET_H

#include "base/bitmap.h"

enum {
	PAGE_SET_GROUP_BLOCKS = 64, /* blocks under one word of the summary */
};

/**
 * struct page_set - pages by block
 * @n_groups:	groups of PAGE_SET_GROUP_BLOCKS blocks, the last one rounded up
 * @words:	one per block
 * @summary:	one per group; bit b: block b of the group may have pages
 */
struct page_set {
	uint64_t n_groups;
	uint64_t *words;
	uint64_t *summary;
};

/* 0 or -ENOMEM. A set of zero bytes may be released. */
int page_set_init(struct page_set *set, uint64_t n_blocks);
void page_set_release(struct page_set *set);

/* Add pages of one block. */
void page_set_add(struct page_set *set, uint64_t block, uint64_t bits);

/*
 * Move the pages of one group to words[PAGE_SET_GROUP_BLOCKS]. Returns false,
 * and leaves words alone, when there are none.
 */
bool page_set_take(struct page_set *set, uint64_t group, uint64_t *words);

#endif
