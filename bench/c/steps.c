/* SPDX-License-Identifier: Apache-2.0 */
#include "steps.h"

#include <string.h>

#include "codec/compress.h"
#include "codec/delta.h"
#include "codec/line.h"
#include "codec/sample.h"
#include "page/hash.h"

const char *bench_kernel(unsigned int i)
{
	if (i >= line_kernels_count || !line_kernels[i].supported())
		return NULL;
	return line_kernels[i].name;
}

uint64_t bench_prints(unsigned int kernel, const void *pages, size_t stride,
		      uint32_t n)
{
	static const struct line_key key = {.nh = {1, 2, 3}, .fold = 5};
	const uint8_t *page = pages;
	struct line_prints prints;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++, page += stride) {
		line_kernels[kernel].prints(&key, page, &prints);
		sum += prints.line[i % PAGE_LINES];
	}
	return sum;
}

uint64_t bench_changes(uint32_t n)
{
	struct line_prints before = {{0}}, after = {{0}};
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		after.line[i % PAGE_LINES] = i;
		sum += line_changes(&before, &after);
	}
	return sum;
}

uint64_t bench_hash(const void *pages, size_t stride, uint32_t n)
{
	const uint8_t *page = pages;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++, page += stride)
		sum += pmig_hash(page, PMIG_PAGE_BYTES);
	return sum;
}

uint64_t bench_sample(const void *pages, size_t stride, uint32_t n,
		      uint8_t *flags)
{
	const uint8_t *page = pages;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++, page += stride) {
		bool random = sample_is_random(page);

		if (flags)
			flags[i] = random;
		sum += random;
	}
	return sum;
}

uint64_t bench_delta_encode(const void *pages, size_t stride, uint32_t n,
			    uint64_t lines)
{
	const uint8_t *page = pages;
	uint8_t delta[DELTA_MAX_BYTES];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++, page += stride) {
		sum += delta_encode(page, lines, delta);
		sum += delta[8];
	}
	return sum;
}

uint64_t bench_delta_apply(void *pages, size_t stride, uint32_t n,
			   uint64_t lines)
{
	uint8_t *page = pages;
	uint8_t delta[DELTA_MAX_BYTES];
	uint32_t size = delta_encode(page, lines, delta);
	uint64_t failed = 0;

	for (uint32_t i = 0; i < n; i++, page += stride)
		failed += delta_apply(page, delta, size) != 0;
	return failed;
}

static uint32_t group_bytes(uint32_t n, uint32_t at, uint32_t group)
{
	return (n - at < group ? n - at : group) * PMIG_PAGE_BYTES;
}

uint64_t bench_compress(unsigned int encoding, int level, const uint8_t *pages,
			uint32_t n, uint32_t group, uint8_t *out,
			uint32_t *sizes)
{
	struct compressor *compressor;
	uint64_t sum = 0;

	if (compressor_new(&compressor, NULL))
		return 0;
	for (uint32_t at = 0; at < n; at += group) {
		const uint8_t *in = pages + (size_t)at * PMIG_PAGE_BYTES;
		uint32_t raw = group_bytes(n, at, group);
		uint32_t stored = compressor_run(compressor, encoding, level,
						 in, raw, out + sum, raw - 1);

		if (!stored)
			memcpy(out + sum, in, stored = raw);
		sizes[at / group] = stored;
		sum += stored;
	}
	compressor_free(compressor);
	return sum;
}

int bench_decompress(unsigned int encoding, const uint8_t *in,
		     const uint32_t *sizes, uint32_t n, uint32_t group,
		     uint8_t *pages)
{
	struct decompressor *decompressor;
	int rc = 0;

	if (decompressor_new(&decompressor, NULL))
		return -1;
	for (uint32_t at = 0; at < n && !rc; at += group) {
		uint8_t *to = pages + (size_t)at * PMIG_PAGE_BYTES;
		uint32_t raw = group_bytes(n, at, group);
		uint32_t stored = sizes[at / group];

		if (stored == raw)
			memcpy(to, in, raw);
		else if (decompressor_run(decompressor, encoding, in, stored,
					  to, raw))
			rc = -1;
		in += stored;
	}
	decompressor_free(decompressor);
	return rc;
}
