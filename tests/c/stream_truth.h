/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_truth.h - what memory must hold after a stream was taken
 *
 * Every page has the hash that the stream said of it last, or was never
 * mentioned and is zero. One that comes late has that of the first time that
 * it could be built.
 */
#ifndef TESTS_C_STREAM_TRUTH_H
#define TESTS_C_STREAM_TRUTH_H

#include "pymigrate.h"

/*
 * A page of memory that is not what the channel's bytes, which a receiver took
 * whole, say of it last; or -1. The number counts the pages of all blocks.
 */
int64_t stream_truth(const struct pmig_memory *memory, const uint8_t *data,
		     size_t size_bytes);

/* Is the last epoch of such a channel sealed, or late? */
bool stream_ends_whole(const uint8_t *data, size_t size_bytes);

#endif
