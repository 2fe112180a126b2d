/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_ERROR_H
#define PVMM_ERROR_H

#include "vmm/vmm.h"

/* Fill in err (may be NULL) and return code; the library's own idiom. */
int pvmm_fail(struct pmig_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As pvmm_fail(), with -errno, and ": strerror" appended. */
int pvmm_fail_errno(struct pmig_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
