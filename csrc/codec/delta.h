/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delta.h - the changed lines of a page; docs/stream-format.md, "delta"
 *
 * Pure functions on the caller's memory; nothing allocates.
 */
#ifndef PMIG_CODEC_DELTA_H
#define PMIG_CODEC_DELTA_H

#include "codec/line.h"

enum {
	DELTA_MAX_BYTES = 8 + PMIG_PAGE_BYTES,
};

/* Bytes of a delta of so many lines. */
static inline uint32_t delta_bytes(uint64_t lines)
{
	return 8 + LINE_BYTES * (uint32_t)__builtin_popcountll(lines);
}

/*
 * Write the delta of the lines (not 0) of page to out, which has room for
 * delta_bytes(lines). Returns delta_bytes(lines).
 */
uint32_t delta_encode(const void *page, uint64_t lines, void *out);

/*
 * Put the lines of a delta that came from a peer into page. -EBADMSG when
 * size_bytes is not what its mask asks for, or the mask is 0; page is then
 * unchanged. delta needs no alignment.
 */
int delta_apply(void *page, const void *delta, uint32_t size_bytes);

#endif
