/* SPDX-License-Identifier: Apache-2.0 */
#include "byte_runs.h"

#include <stdbool.h>
#include <string.h>

#include <emmintrin.h>

#include "pymigrate.h"

enum {
	LINE = 64,
	/* a new run costs two bytes: so many that are the same go along */
	GAP_BYTES = 2,
	RUN_HEAD_MAX_BYTES = 4,
};

struct run {
	uint32_t done; /* everything before is written or the same */
	uint32_t start;
	uint32_t end; /* 0: there is none yet */
};

static uint64_t differing16(const uint8_t *a, const uint8_t *b)
{
	__m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const void *)a),
				      _mm_loadu_si128((const void *)b));

	return (uint64_t)(uint16_t)~_mm_movemask_epi8(same);
}

/* Bit i: byte i of the line differs. */
static uint64_t differing(const uint8_t *a, const uint8_t *b)
{
	return differing16(a, b) | differing16(a + 16, b + 16) << 16 |
	       differing16(a + 32, b + 32) << 32 |
	       differing16(a + 48, b + 48) << 48;
}

static uint8_t *put_length(uint8_t *at, uint32_t length)
{
	if (length >= 128) {
		*at++ = (uint8_t)(length | 128);
		length >>= 7;
	}
	*at++ = (uint8_t)length;
	return at;
}

static const uint8_t *get_length(const uint8_t *at, uint32_t *length)
{
	*length = *at++;
	if (*length & 128)
		*length = (*length & 127) | (uint32_t)*at++ << 7;
	return at;
}

/* Returns NULL when it does not fit. */
static uint8_t *put_run(uint8_t *at, const uint8_t *end, struct run *run,
			const uint8_t *page)
{
	uint32_t length = run->end - run->start;

	if (end - at < (ptrdiff_t)(length + RUN_HEAD_MAX_BYTES))
		return NULL;
	at = put_length(at, run->start - run->done);
	at = put_length(at, length);
	memcpy(at, page + run->start, length);
	run->done = run->end;
	return at + length;
}

/* Go on with the run when it is near, or write it and begin another. */
static uint8_t *extend(uint8_t *at, const uint8_t *end, struct run *run,
		       const uint8_t *page, uint32_t first, uint32_t past)
{
	if (!run->end || first > run->end + GAP_BYTES) {
		if (run->end)
			at = put_run(at, end, run, page);
		run->start = first;
	}
	run->end = past;
	return at;
}

uint32_t byte_runs_encode(const uint8_t *old_page, const uint8_t *new_page,
			  uint8_t *out, uint32_t capacity_bytes)
{
	const uint8_t *end = out + capacity_bytes;
	struct run run = {0};
	uint8_t *at = out;

	for (uint32_t l = 0; l < PMIG_PAGE_BYTES; l += LINE) {
		uint64_t mask = differing(old_page + l, new_page + l);

		while (mask) {
			uint32_t first = (uint32_t)__builtin_ctzll(mask);
			uint64_t past = ~mask & (UINT64_MAX << first);
			uint32_t n =
				past ? (uint32_t)__builtin_ctzll(past) : LINE;

			at = extend(at, end, &run, new_page, l + first, l + n);
			if (!at)
				return 0;
			mask = n < LINE ? mask & (UINT64_MAX << n) : 0;
		}
	}
	at = run.end ? put_run(at, end, &run, new_page) : at;
	return at ? (uint32_t)(at - out) : 0;
}

void byte_runs_apply(uint8_t *page, const uint8_t *in, uint32_t size_bytes)
{
	const uint8_t *end = in + size_bytes;

	while (in < end) {
		uint32_t same, changed;

		in = get_length(in, &same);
		in = get_length(in, &changed);
		page += same;
		memcpy(page, in, changed);
		page += changed;
		in += changed;
	}
}
