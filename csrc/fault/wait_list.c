/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/wait_list.h"

struct waiting *wait_list_add(struct wait_list *list,
			      const struct waiting *fault)
{
	if (list->n == WAIT_LIST_ENTRIES)
		return NULL;
	list->entries[list->n] = *fault;
	return &list->entries[list->n++];
}

uint64_t wait_list_pages(const struct wait_list *list, uint64_t block)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < list->n; i++)
		if (list->entries[i].block == block)
			pages |= UINT64_C(1) << list->entries[i].page;
	return pages;
}

bool wait_list_take(struct wait_list *list, uint64_t block, uint64_t pages,
		    struct waiting *fault)
{
	for (uint32_t i = 0; i < list->n; i++) {
		struct waiting *entry = &list->entries[i];

		if (entry->block != block || !(pages >> entry->page & 1))
			continue;
		*fault = *entry;
		*entry = list->entries[--list->n];
		return true;
	}
	return false;
}
