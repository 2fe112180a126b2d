/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pvmm_fail(struct pmig_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	return code;
}

int pvmm_fail_errno(struct pmig_error *err, const char *format, ...)
{
	int code = -errno;
	char reason[128];
	char sentence[256];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return pvmm_fail(err, code, "%s: %s", sentence,
			 strerror_r(-code, reason, sizeof(reason)));
}
