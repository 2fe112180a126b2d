/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vector multiplication takes the even words of both operands, so the sum
 * of words and key is multiplied with itself shifted by one word. That gives
 * the products of a line side by side, and what costs is to add them up:
 * several lines are therefore added together, transposing on the way, so
 * that the last addition leaves each line's sum in a lane of its own.
 */
#include "codec/line_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2"), always_inline)) static inline
#define AVX512                                                                 \
	__attribute__((target("avx512f,avx512dq"), always_inline)) static inline

/* ---- AVX2: half a line in a vector ------------------------------------ */

struct key_avx2 {
	__m256i low, high; /* nh[0..7], nh[8..15] */
	__m256i fold;	   /* in each of four lanes */
	__m256i fold_high; /* its upper half, likewise */
};

bool line_has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

AVX2 __m256i products_avx2(const void *words, __m256i key)
{
	__m256i sum = _mm256_add_epi32(_mm256_loadu_si256(words), key);

	return _mm256_mul_epu32(sum, _mm256_srli_epi64(sum, 32));
}

AVX2 __m256i line_avx2(const struct key_avx2 *key, const uint8_t *line)
{
	return _mm256_add_epi64(products_avx2(line, key->low),
				products_avx2(line + 32, key->high));
}

/* Four lanes each of a and b: [a0+a1, b0+b1, a2+a3, b2+b3] */
AVX2 __m256i pair_avx2(__m256i a, __m256i b)
{
	return _mm256_add_epi64(_mm256_unpacklo_epi64(a, b),
				_mm256_unpackhi_epi64(a, b));
}

/*
 * The print is the upper half of the lower 64 bits of sum * fold: only the
 * product of the lower halves has anything below it.
 */
AVX2 __m256i fold_avx2(const struct key_avx2 *key, __m256i sum)
{
	__m256i low = _mm256_mul_epu32(sum, key->fold);
	__m256i cross = _mm256_add_epi64(
		_mm256_mul_epu32(sum, key->fold_high),
		_mm256_mul_epu32(_mm256_srli_epi64(sum, 32), key->fold));

	return _mm256_add_epi64(low, _mm256_slli_epi64(cross, 32));
}

/* Prints of lines 0, 1, 4 and 5 behind line, in the upper halves. */
AVX2 __m256i four_avx2(const struct key_avx2 *key, const uint8_t *line)
{
	__m256i ab = pair_avx2(line_avx2(key, line),
			       line_avx2(key, line + LINE_BYTES));
	__m256i cd = pair_avx2(line_avx2(key, line + 4 * LINE_BYTES),
			       line_avx2(key, line + 5 * LINE_BYTES));

	return fold_avx2(
		key, _mm256_add_epi64(_mm256_permute2x128_si256(ab, cd, 0x20),
				      _mm256_permute2x128_si256(ab, cd, 0x31)));
}

/* Lines 0, 1, 4, 5 and 2, 3, 6, 7: the shuffle works within 128 bits. */
AVX2 __m256i eight_avx2(const struct key_avx2 *key, const uint8_t *line)
{
	__m256i a = four_avx2(key, line);
	__m256i b = four_avx2(key, line + 2 * LINE_BYTES);

	return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a),
						     _mm256_castsi256_ps(b),
						     _MM_SHUFFLE(3, 1, 3, 1)));
}

__attribute__((target("avx2"))) void
line_prints_avx2(const struct line_key *key, const void *page,
		 struct line_prints *prints)
{
	const struct key_avx2 k = {
		.low = _mm256_load_si256((const void *)key->nh),
		.high = _mm256_load_si256((const void *)(key->nh + 8)),
		.fold = _mm256_set1_epi64x((long long)key->fold),
		.fold_high = _mm256_set1_epi64x((long long)(key->fold >> 32)),
	};
	const uint8_t *line = page;

	for (int l = 0; l < PAGE_LINES; l += 8)
		_mm256_store_si256((void *)&prints->line[l],
				   eight_avx2(&k, line + l * LINE_BYTES));
}

/* ---- AVX-512: a line in a vector -------------------------------------- */

struct key_avx512 {
	__m512i nh;
	__m512i fold; /* in each of eight lanes */
};

bool line_has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512dq");
}

AVX512 __m512i line_avx512(const struct key_avx512 *key, const uint8_t *line)
{
	__m512i sum = _mm512_add_epi32(_mm512_loadu_si512(line), key->nh);

	return _mm512_mul_epu32(sum, _mm512_srli_epi64(sum, 32));
}

/* Two neighbouring lines: pairs of lanes added, the lines alternate. */
AVX512 __m512i pair_avx512(const struct key_avx512 *key, const uint8_t *line)
{
	__m512i a = line_avx512(key, line);
	__m512i b = line_avx512(key, line + LINE_BYTES);

	return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b),
				_mm512_unpackhi_epi64(a, b));
}

/* Add neighbouring 128 bits: [a0+a1, a2+a3, b0+b1, b2+b3] */
AVX512 __m512i halve_avx512(__m512i a, __m512i b)
{
	return _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88),
				_mm512_shuffle_i64x2(a, b, 0xdd));
}

AVX512 __m256i eight_avx512(const struct key_avx512 *key, const uint8_t *line)
{
	__m512i abcd = halve_avx512(pair_avx512(key, line),
				    pair_avx512(key, line + 2 * LINE_BYTES));
	__m512i efgh = halve_avx512(pair_avx512(key, line + 4 * LINE_BYTES),
				    pair_avx512(key, line + 6 * LINE_BYTES));
	__m512i sum = halve_avx512(abcd, efgh);

	sum = _mm512_mullo_epi64(sum, key->fold);
	return _mm512_cvtepi64_epi32(_mm512_srli_epi64(sum, 32));
}

__attribute__((target("avx512f,avx512dq"))) void
line_prints_avx512(const struct line_key *key, const void *page,
		   struct line_prints *prints)
{
	const struct key_avx512 k = {
		.nh = _mm512_load_si512(key->nh),
		.fold = _mm512_set1_epi64((long long)key->fold),
	};
	const uint8_t *line = page;

	for (int l = 0; l < PAGE_LINES; l += 8)
		_mm256_store_si256((void *)&prints->line[l],
				   eight_avx512(&k, line + l * LINE_BYTES));
}

#endif /* __x86_64__ */
