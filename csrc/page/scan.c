/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.c - the one read of a page
 *
 * Reading a page from DRAM costs more than anything done to it afterwards,
 * so the zero test and the hash follow each other on a page that the first
 * of them has just brought into the cache.
 */
#include "page/hash.h"
#include "page/zero.h"

const char *pmig_cpu_kernel(void)
{
	return pmig_zero_best()->name;
}

bool pmig_page_scan(const void *page, uint64_t *hash)
{
	if (pmig_zero_best()->is_zero(page))
		return true;
	*hash = pmig_hash(page, PMIG_PAGE_BYTES);
	return false;
}
