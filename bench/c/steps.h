/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.h - the steps of the page pipeline, for bench/native.py to call
 *
 * Each handles many pages, so that the call itself costs nothing. stride is
 * the distance of the pages in bytes; with 0 it is the same page every time,
 * which then lies in the first-level cache. What is returned depends on all
 * of the work.
 */
#ifndef BENCH_C_STEPS_H
#define BENCH_C_STEPS_H

#include <stddef.h>
#include <stdint.h>

#define BENCH_EXPORT __attribute__((visibility("default")))

/* Name of kernel number i, or NULL past the last or where unsupported. */
BENCH_EXPORT const char *bench_kernel(unsigned int i);

BENCH_EXPORT uint64_t bench_prints(unsigned int kernel, const void *pages,
				   size_t stride, uint32_t n);
BENCH_EXPORT uint64_t bench_changes(uint32_t n);
BENCH_EXPORT uint64_t bench_hash(const void *pages, size_t stride, uint32_t n);

/* How many look random; flags (or NULL) takes one byte for each. */
BENCH_EXPORT uint64_t bench_sample(const void *pages, size_t stride, uint32_t n,
				   uint8_t *flags);

BENCH_EXPORT uint64_t bench_delta_encode(const void *pages, size_t stride,
					 uint32_t n, uint64_t lines);
BENCH_EXPORT uint64_t bench_delta_apply(void *pages, size_t stride, uint32_t n,
					uint64_t lines);

/*
 * Groups of group pages, one behind the other into out; each stored raw where
 * it does not become smaller. sizes takes the size of each group. Returns
 * their sum, 0 when something went wrong.
 */
BENCH_EXPORT uint64_t bench_compress(unsigned int encoding, int level,
				     const uint8_t *pages, uint32_t n,
				     uint32_t group, uint8_t *out,
				     uint32_t *sizes);

/* The other way. Returns 0, or -1 for what does not decompress. */
BENCH_EXPORT int bench_decompress(unsigned int encoding, const uint8_t *in,
				  const uint32_t *sizes, uint32_t n,
				  uint32_t group, uint8_t *pages);

#endif
