/* SPDX-License-Identifier: Apache-2.0 */
/* line_kernels.h - the vector kernels behind line_kernels[] of line.h */
#ifndef PMIG_CODEC_LINE_KERNELS_H
#define PMIG_CODEC_LINE_KERNELS_H

#include "codec/line.h"

#if defined(__x86_64__)
bool line_has_avx2(void);
void line_prints_avx2(const struct line_key *key, const void *page,
		      struct line_prints *prints);

bool line_has_avx512(void);
void line_prints_avx512(const struct line_key *key, const void *page,
			struct line_prints *prints);
#endif

#endif
