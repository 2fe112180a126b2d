/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_KVM_TEXT_H
#define PMIG_KVM_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct pmig_text - a growing string
 * @data:	NUL-terminated, NULL while empty
 * @length:	bytes before the NUL
 * @capacity:	allocated bytes
 * @failed:	memory ran out; what was appended since is lost
 *
 * Starts as all zero. Appending never fails loudly, so that a writer of many
 * small pieces checks once, at the end.
 */
struct pmig_text {
	char *data;
	size_t length;
	size_t capacity;
	bool failed;
};

void pmig_text_add(struct pmig_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
