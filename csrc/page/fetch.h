/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.h - bring a page into the cache that is about to be read
 *
 * The processor's own prefetching ends where a page ends, so each page begins
 * with a wait for DRAM: a tenth of what scanning memory takes. Asking for all
 * of the next page while the last one is hashed fills that wait. The page
 * need not be there: an address without memory is passed over.
 */
#ifndef PMIG_PAGE_FETCH_H
#define PMIG_PAGE_FETCH_H

#include "pymigrate.h"

static inline void pmig_page_fetch(const void *page)
{
	enum {
		LINE_BYTES = 64
	};

	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += LINE_BYTES)
		__builtin_prefetch((const uint8_t *)page + at);
}

#endif
