/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_receiver.h - any bytes as a stream, through a memory channel */
#ifndef TESTS_C_FUZZ_RECEIVER_H
#define TESTS_C_FUZZ_RECEIVER_H

#include <stdbool.h>
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
 * Let a receiver take the bytes. Aborts with a sentence when it hangs, or
 * when it takes a stream and memory is not what the stream says. True when
 * the stream was taken whole, with a sealed or a late epoch at the end. One
 * with late pages is tried on memory of files as well.
 */
bool fuzz_receive(const uint8_t *data, size_t size_bytes);

/*
 * Mend the bytes, then the same. Returns 0; the name and the type are those
 * that libFuzzer asks for.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* Called before it aborts, to say what was tried; or NULL. */
extern void (*fuzz_last_words)(void);

#endif
