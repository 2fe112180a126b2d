/* SPDX-License-Identifier: Apache-2.0 */
/* random_bytes.h - the same pseudo-random bytes in every run */
#ifndef TESTS_C_RANDOM_BYTES_H
#define TESTS_C_RANDOM_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64; state is the seed and then what comes next. */
uint64_t random_next(uint64_t *state);

void random_fill(uint64_t *state, void *to, size_t size_bytes);

#endif
