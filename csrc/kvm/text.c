/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pymigrate.h"

static bool make_room(struct pmig_text *text, size_t more_bytes)
{
	size_t capacity = text->capacity ? text->capacity : 256;
	char *grown;

	while (capacity < text->length + more_bytes)
		capacity *= 2;
	if (capacity == text->capacity)
		return true;
	grown = realloc(text->data, capacity);
	if (!grown)
		return false;
	text->data = grown;
	text->capacity = capacity;
	return true;
}

void pmig_text_add(struct pmig_text *text, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (text->failed || length < 0 ||
	    !make_room(text, (size_t)length + 1)) {
		text->failed = true;
		return;
	}
	va_start(args, format);
	vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
	va_end(args);
	text->length += (size_t)length;
}

void pmig_string_free(char *string)
{
	free(string);
}
