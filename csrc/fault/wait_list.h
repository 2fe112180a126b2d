/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait_list.h - threads of the guest that wait for a page
 *
 * One entry for each fault that was read and not yet answered. There are no
 * more of them than threads that run the guest, so a short list is searched
 * from end to end. Should it be full, a fault is served all the same and only
 * not counted. Under the lock of whoever owns it.
 */
#ifndef PMIG_FAULT_WAIT_LIST_H
#define PMIG_FAULT_WAIT_LIST_H

#include "pymigrate.h"

enum {
	WAIT_LIST_ENTRIES = 1024,
};

/**
 * struct waiting - a fault
 * @block:	of the page
 * @page:	in the block
 * @thread:	that waits, or 0
 * @since_ns:	when it was read
 * @asked_ns:	when the source was asked, 0: not yet
 */
struct waiting {
	uint64_t block;
	uint32_t page;
	uint32_t thread;
	uint64_t since_ns;
	uint64_t asked_ns;
};

struct wait_list {
	struct waiting entries[WAIT_LIST_ENTRIES];
	uint32_t n;
};

/* Pages of a block that somebody waits for. */
uint64_t wait_list_pages(const struct wait_list *list, uint64_t block);

/* Add a fault; the entry, or NULL where there is no room. */
struct waiting *wait_list_add(struct wait_list *list,
			      const struct waiting *fault);

/*
 * Take an entry for one of the pages out; false when there is none. To be
 * repeated.
 */
bool wait_list_take(struct wait_list *list, uint64_t block, uint64_t pages,
		    struct waiting *fault);

#endif
