/* SPDX-License-Identifier: Apache-2.0 */
#include "random_bytes.h"

#include <string.h>

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void random_fill(uint64_t *state, void *to, size_t size_bytes)
{
	uint8_t *at = to;

	while (size_bytes) {
		uint64_t word = random_next(state);
		size_t n =
			size_bytes < sizeof(word) ? size_bytes : sizeof(word);

		memcpy(at, &word, n);
		at += n;
		size_bytes -= n;
	}
}
