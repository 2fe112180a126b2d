/* SPDX-License-Identifier: Apache-2.0 */
/*
 * byte_runs.h - what changed in a page, to the byte
 *
 * The classic alternative to a delta of lines, for comparison only: XBZRLE's
 * kind of encoding, which needs the page as it was sent before. Pairs of
 * lengths, each in one byte below 128 and else in two: bytes that are the same,
 * bytes that are not; behind each pair the latter. The rest is the same.
 */
#ifndef BENCH_C_BYTE_RUNS_H
#define BENCH_C_BYTE_RUNS_H

#include <stdint.h>

/* Returns the size, or 0 when it would not fit capacity_bytes. */
uint32_t byte_runs_encode(const uint8_t *old_page, const uint8_t *new_page,
			  uint8_t *out, uint32_t capacity_bytes);

/* The encoder's own output, put into the old page. */
void byte_runs_apply(uint8_t *page, const uint8_t *in, uint32_t size_bytes);

#endif
