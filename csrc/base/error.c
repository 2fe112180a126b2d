/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format_message(struct pmig_error *err, int code, const char *format,
			   va_list args)
{
	err->code = code;
	vsnprintf(err->message, sizeof(err->message), format, args);
}

int pmig_fail(struct pmig_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	format_message(err, code, format, args);
	va_end(args);
	return code;
}

int pmig_fail_errno(struct pmig_error *err, const char *format, ...)
{
	int code = -errno;
	char reason[128];
	va_list args;
	size_t used;

	if (!err)
		return code;
	va_start(args, format);
	format_message(err, code, format, args);
	va_end(args);
	used = strlen(err->message);
	snprintf(err->message + used, sizeof(err->message) - used, ": %s",
		 strerror_r(-code, reason, sizeof(reason)));
	return code;
}

void pmig_error_prefix(struct pmig_error *err, const char *format, ...)
{
	struct pmig_error inner = *err;
	size_t used;
	va_list args;

	va_start(args, format);
	format_message(err, inner.code, format, args);
	va_end(args);
	used = strlen(err->message);
	snprintf(err->message + used, sizeof(err->message) - used, ": %s",
		 inner.message);
}
