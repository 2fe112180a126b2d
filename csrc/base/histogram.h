/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram.h - durations, counted in buckets of growing width
 *
 * 16 buckets for each power of two, so a percentile is right to 3 %, from
 * 1 ns to centuries, in a fixed size. Not thread-safe.
 */
#ifndef PMIG_BASE_HISTOGRAM_H
#define PMIG_BASE_HISTOGRAM_H

#include <stdint.h>

enum {
	HISTOGRAM_STEPS_LOG2 = 4,
	HISTOGRAM_BUCKETS = (64 - HISTOGRAM_STEPS_LOG2 + 1)
			    << HISTOGRAM_STEPS_LOG2,
};

/**
 * struct histogram - see above
 * @counts:	per bucket
 * @n:		values
 * @sum:	of all values
 * @max:	the largest
 */
struct histogram {
	uint32_t counts[HISTOGRAM_BUCKETS];
	uint64_t n;
	uint64_t sum;
	uint64_t max;
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* The value that a share of them, 0 to 1, do not exceed; 0 of none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

/* The largest value that a bucket holds. */
uint64_t histogram_limit(unsigned int bucket);

#endif
