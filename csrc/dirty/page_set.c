/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/page_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int page_set_init(struct page_set *set, uint64_t n_blocks)
{
	set->n_groups = n_blocks / PAGE_SET_GROUP_BLOCKS +
			(n_blocks % PAGE_SET_GROUP_BLOCKS != 0);
	set->words = calloc(set->n_groups,
			    PAGE_SET_GROUP_BLOCKS * sizeof(*set->words));
	set->summary = calloc(set->n_groups, sizeof(*set->summary));
	return set->words && set->summary ? 0 : -ENOMEM;
}

void page_set_release(struct page_set *set)
{
	free(set->words);
	free(set->summary);
}

void page_set_add(struct page_set *set, uint64_t block, uint64_t bits)
{
	uint64_t *summary = &set->summary[block / PAGE_SET_GROUP_BLOCKS];

	/* in this order: whoever sees the summary finds the pages */
	pmig_bits_or(&set->words[block], bits);
	pmig_bits_or(summary, UINT64_C(1) << (block % PAGE_SET_GROUP_BLOCKS));
}

bool page_set_take(struct page_set *set, uint64_t group, uint64_t *words)
{
	uint64_t blocks = pmig_bits_take(&set->summary[group]);
	uint64_t *from = &set->words[group * PAGE_SET_GROUP_BLOCKS];

	if (!blocks)
		return false;
	memset(words, 0, PAGE_SET_GROUP_BLOCKS * sizeof(*words));
	for (; blocks; blocks &= blocks - 1) {
		int block = __builtin_ctzll(blocks);

		words[block] = pmig_bits_take(&from[block]);
	}
	return true;
}
