/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guarded.h - memory that ends where nothing may be touched
 *
 * Libraries of the system are not instrumented by sanitizers, so what they
 * touch beyond a buffer has to fault: a page without access follows the last
 * byte. Bytes before the first are checked instead.
 */
#ifndef TESTS_C_GUARDED_H
#define TESTS_C_GUARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guarded {
	uint8_t *data; /* size_bytes of them; aligned to nothing */
	size_t size_bytes;
	uint8_t *map;
	size_t map_bytes;
};

/* Fails the test when there is no memory. */
void guarded_open(struct guarded *guarded, size_t size_bytes);
void guarded_close(struct guarded *guarded);

/* One that holds a copy of size_bytes at from. */
void guarded_copy(struct guarded *guarded, const void *from, size_t size_bytes);

/* Nothing was written before the first byte. */
bool guarded_intact(const struct guarded *guarded);

#endif
