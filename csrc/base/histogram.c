/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram.h"

enum {
	STEPS = 1 << HISTOGRAM_STEPS_LOG2,
};

/* Below STEPS every value has a bucket; above, the leading bits count. */
static unsigned int bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < STEPS)
		return (unsigned int)value;
	shift = 63u - (unsigned int)__builtin_clzll(value) -
		HISTOGRAM_STEPS_LOG2;
	return (shift << HISTOGRAM_STEPS_LOG2) + (unsigned int)(value >> shift);
}

uint64_t histogram_limit(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < STEPS)
		return bucket;
	shift = (bucket >> HISTOGRAM_STEPS_LOG2) - 1;
	return (((uint64_t)(bucket % STEPS) + STEPS + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->counts[bucket_of(value)]++;
	histogram->n++;
	histogram->sum += value;
	if (value > histogram->max)
		histogram->max = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
	uint64_t rank = (uint64_t)(share * (double)histogram->n);
	uint64_t seen = 0;

	if (!histogram->n)
		return 0;
	if (rank >= histogram->n)
		rank = histogram->n - 1;
	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t limit;

		seen += histogram->counts[i];
		if (seen <= rank)
			continue;
		limit = histogram_limit(i);
		return limit < histogram->max ? limit : histogram->max;
	}
	return histogram->max;
}
