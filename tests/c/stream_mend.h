/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_mend.h - make garbage pass the outer checks of a stream
 *
 * A mutated stream mostly fails at the first checksum. Mending makes frames
 * out of any bytes: sizes fit, sequence numbers and epochs count on, hashes
 * and sums are right. What is left of a mutation is a lie about pages.
 *
 * The first reserved word of a frame's header, 0 in a stream, says what to
 * leave as it is, so that a fuzzer can also lie there.
 */
#ifndef TESTS_C_STREAM_MEND_H
#define TESTS_C_STREAM_MEND_H

#include <stddef.h>
#include <stdint.h>

enum stream_mend_leave {
	MEND_LEAVE_CHECKSUM = 1,
	MEND_LEAVE_HASHES = 2,
	MEND_LEAVE_SUMS = 4,
	MEND_LEAVE_HEAD = 8,
};

/* Mend in place; returns how many of the bytes are frames now. */
size_t stream_mend(uint8_t *data, size_t size_bytes);

#endif
