/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_BASE_ERROR_H
#define PMIG_BASE_ERROR_H

#include "pymigrate.h"

/**
 * pmig_fail() - fill in an error and return its code
 * @err:	may be NULL
 * @code:	negative errno value, returned as it is
 * @format:	printf format of one sentence: what failed, what to do
 *
 * The idiom is `return pmig_fail(err, -EINVAL, "...")`.
 */
int pmig_fail(struct pmig_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the sentence that err (not NULL) holds. */
void pmig_error_prefix(struct pmig_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As pmig_fail(), with -errno, and ": strerror" appended to the sentence. */
int pmig_fail_errno(struct pmig_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
