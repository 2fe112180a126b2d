/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_receiver.h - any bytes as a stream, through a memory channel */
#ifndef TESTS_C_FUZZ_RECEIVER_H
#define TESTS_C_FUZZ_RECEIVER_H

#include <stddef.h>
#include <stdint.h>

#include "pymigrate.h"

/* The machine of the streams: two regions, as in tests/stream_decoders.py. */
enum {
	FUZZ_LOW_BYTES = 4 * PMIG_BLOCK_BYTES,
	FUZZ_HIGH_BYTES = 2 * PMIG_BLOCK_BYTES - 5 * PMIG_PAGE_BYTES,
};
extern const struct pmig_region fuzz_regions[2];

/*
 * Mend the bytes and let a receiver take them. Aborts with a sentence when it
 * hangs, or when it takes a stream and memory is not what the stream says.
 * Returns 0; the name and the type are those that libFuzzer asks for.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* How many streams were taken whole, with a sealed epoch at the end. */
extern unsigned long fuzz_taken;

/* Called before it aborts, to say what was tried; or NULL. */
extern void (*fuzz_last_words)(void);

#endif
