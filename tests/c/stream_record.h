/* SPDX-License-Identifier: Apache-2.0 */
/* stream_record.h - streams of the real sender, for the machine of the fuzzer
 */
#ifndef TESTS_C_STREAM_RECORD_H
#define TESTS_C_STREAM_RECORD_H

#include "pymigrate.h"

enum {
	RECORD_TUNINGS = 9
};

/* Every compressor, with and without what rests on what went before. */
extern const struct pmig_tuning record_tunings[RECORD_TUNINGS];

/*
 * A stream of several epochs of random pages, malloc'd; the last epoch is
 * sealed. Fails the test on error.
 */
uint8_t *stream_record(const struct pmig_tuning *tuning, uint64_t seed,
		       size_t *size_bytes);

/*
 * The same with the last pages left outstanding, which come late. They were
 * sent on two channels, as it came about, and are merged into one.
 */
uint8_t *stream_record_late(const struct pmig_tuning *tuning, uint64_t seed,
			    size_t *size_bytes);

#endif
