/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zero.h - is a page all zeros?
 *
 * One kernel for each instruction set; all give the same answers. They stop
 * at the first group of bytes that is not zero, which in a page with content
 * is nearly always the first group: so for such a page the test costs a few
 * nanoseconds, and for a zero page it costs one read of the page.
 */
#ifndef PMIG_PAGE_ZERO_H
#define PMIG_PAGE_ZERO_H

#include "pymigrate.h"

struct pmig_zero_kernel {
	const char *name;
	/* does this processor have it? */
	bool (*supported)(void);
	/* is every byte of the PMIG_PAGE_BYTES at page zero? */
	bool (*is_zero)(const void *page);
};

/* Best first; ends with the scalar one, which is always supported. */
extern const struct pmig_zero_kernel pmig_zero_kernels[];
extern const unsigned int pmig_zero_kernels_count;

/* The first supported one. A few nanoseconds; callers may keep it. */
const struct pmig_zero_kernel *pmig_zero_best(void);

#endif
