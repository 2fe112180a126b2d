/* SPDX-License-Identifier: Apache-2.0 */
#include "page/zero.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static bool always(void)
{
	return true;
}

static bool is_zero_scalar(const void *page)
{
	const uint8_t *bytes = page;
	uint64_t words[8];

	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += sizeof(words)) {
		memcpy(words, bytes + at, sizeof(words));
		if (words[0] | words[1] | words[2] | words[3] | words[4] |
		    words[5] | words[6] | words[7])
			return false;
	}
	return true;
}

#if defined(__x86_64__)

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

__attribute__((target("avx2"))) static bool is_zero_avx2(const void *page)
{
	const __m256i *v = page;

	for (size_t i = 0; i < PMIG_PAGE_BYTES / sizeof(*v); i += 4) {
		__m256i a = _mm256_or_si256(_mm256_loadu_si256(v + i),
					    _mm256_loadu_si256(v + i + 1));
		__m256i b = _mm256_or_si256(_mm256_loadu_si256(v + i + 2),
					    _mm256_loadu_si256(v + i + 3));

		a = _mm256_or_si256(a, b);
		if (!_mm256_testz_si256(a, a))
			return false;
	}
	return true;
}

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}

__attribute__((target("avx512f"))) static bool is_zero_avx512(const void *page)
{
	const uint8_t *bytes = page;

	for (size_t at = 0; at < PMIG_PAGE_BYTES; at += 256) {
		__m512i a =
			_mm512_or_si512(_mm512_loadu_si512(bytes + at),
					_mm512_loadu_si512(bytes + at + 64));
		__m512i b =
			_mm512_or_si512(_mm512_loadu_si512(bytes + at + 128),
					_mm512_loadu_si512(bytes + at + 192));

		a = _mm512_or_si512(a, b);
		if (_mm512_test_epi64_mask(a, a))
			return false;
	}
	return true;
}

#endif /* __x86_64__ */

const struct pmig_zero_kernel pmig_zero_kernels[] = {
#if defined(__x86_64__)
	{"avx512", has_avx512, is_zero_avx512},
	{"avx2", has_avx2, is_zero_avx2},
#endif
	{"scalar", always, is_zero_scalar},
};

const unsigned int pmig_zero_kernels_count =
	sizeof(pmig_zero_kernels) / sizeof(pmig_zero_kernels[0]);

const struct pmig_zero_kernel *pmig_zero_best(void)
{
	const struct pmig_zero_kernel *kernel = pmig_zero_kernels;

	while (!kernel->supported())
		kernel++;
	return kernel;
}
