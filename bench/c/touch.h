/* SPDX-License-Identifier: Apache-2.0 */
/*
 * touch.h - what a page fault costs that a thread of this process serves
 *
 * The floor under everything that post-copy does: one thread touches pages
 * that are missing, in a scattered order, another reads the fault and copies
 * a page to it. Nothing else happens between the two.
 */
#ifndef BENCH_C_TOUCH_H
#define BENCH_C_TOUCH_H

#include <stdint.h>

#include "steps.h"

/* Nanoseconds for each of n touches into out; 0 or -errno. */
BENCH_EXPORT int bench_touch(uint32_t n, uint64_t *out);

#endif
