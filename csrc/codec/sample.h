/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample.h - is a page worth compressing?
 *
 * Looks at a few hundred of its bytes. A pure function: may be called on
 * memory that changes meanwhile, and the answer is a guess either way.
 */
#ifndef PMIG_CODEC_SAMPLE_H
#define PMIG_CODEC_SAMPLE_H

#include "pymigrate.h"

/*
 * True when the bytes look like random ones, so that neither lz4 nor zstd
 * would save a tenth. Costs much less than trying.
 */
bool sample_is_random(const void *page);

#endif
