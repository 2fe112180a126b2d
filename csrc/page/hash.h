/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_PAGE_HASH_H
#define PMIG_PAGE_HASH_H

#include "pymigrate.h"

/* XXH3-64, seed 0; the hash of everything in the stream. */
uint64_t pmig_hash(const void *data, size_t size_bytes);

/*
 * What one page version adds to the digest of its epoch: XXH3-64 over
 * (region, page, hash), where a zero page has hash 0. See
 * docs/stream-format.md, EPOCH_END.
 */
uint64_t pmig_hash_placed(uint64_t region, uint64_t page, uint64_t hash);

#endif
