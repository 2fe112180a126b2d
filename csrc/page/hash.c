/* SPDX-License-Identifier: Apache-2.0 */
#include "page/hash.h"

/*
 * libxxhash itself is compiled for the baseline processor; its dispatch
 * header picks the widest version that this one has, at run time.
 */
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t pmig_hash(const void *data, size_t size_bytes)
{
	return XXH3_64bits(data, size_bytes);
}

uint64_t pmig_hash_placed(uint64_t region, uint64_t page, uint64_t hash)
{
	const uint64_t words[3] = {region, page, hash};

	return XXH3_64bits(words, sizeof(words));
}
