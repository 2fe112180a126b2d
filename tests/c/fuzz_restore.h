/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_restore.h - any bytes as the file that a machine runs out of */
#ifndef TESTS_C_FUZZ_RESTORE_H
#define TESTS_C_FUZZ_RESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Restore the machine of fuzz_receiver.h out of the bytes. Fails the test when
 * that hangs, or when it is restored and memory is not what the stream says.
 * True when it was restored.
 */
bool fuzz_restore(const uint8_t *data, size_t size_bytes);

#endif
