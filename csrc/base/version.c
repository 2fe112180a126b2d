/* SPDX-License-Identifier: Apache-2.0 */
#include "pymigrate.h"

#define TEXT(x)	 TEXT_(x)
#define TEXT_(x) #x

/* The enum is the interface; the preprocessor cannot read it. */
#define MAJOR 0
#define MINOR 1
#define PATCH 0

_Static_assert(MAJOR == PMIG_VERSION_MAJOR && MINOR == PMIG_VERSION_MINOR &&
		       PATCH == PMIG_VERSION_PATCH,
	       "version in pymigrate.h");

const char *pmig_version(void)
{
	return TEXT(MAJOR) "." TEXT(MINOR) "." TEXT(PATCH);
}
