/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/delta.h"

#include <errno.h>
#include <string.h>

#include <endian.h>

uint32_t delta_encode(const void *page, uint64_t lines, void *out)
{
	const uint64_t mask = htole64(lines);
	const uint8_t *from = page;
	uint8_t *at = out;

	memcpy(at, &mask, sizeof(mask));
	at += sizeof(mask);
	for (; lines; lines &= lines - 1, at += LINE_BYTES)
		memcpy(at, from + __builtin_ctzll(lines) * LINE_BYTES,
		       LINE_BYTES);
	return (uint32_t)(at - (uint8_t *)out);
}

int delta_apply(void *page, const void *delta, uint32_t size_bytes)
{
	const uint8_t *at = delta;
	uint8_t *to = page;
	uint64_t lines;

	if (size_bytes < sizeof(lines))
		return -EBADMSG;
	memcpy(&lines, at, sizeof(lines));
	lines = le64toh(lines);
	if (!lines || size_bytes != delta_bytes(lines))
		return -EBADMSG;
	at += sizeof(lines);
	for (; lines; lines &= lines - 1, at += LINE_BYTES)
		memcpy(to + __builtin_ctzll(lines) * LINE_BYTES, at,
		       LINE_BYTES);
	return 0;
}
