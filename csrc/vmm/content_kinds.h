/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content_kinds.h - one page of each kind of content that is made by a model
 *
 * Each writes the 512 words of a page that follow from state, a number that
 * stands for seed and page.
 */
#ifndef PVMM_CONTENT_KINDS_H
#define PVMM_CONTENT_KINDS_H

#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood 2014): spreads a number over 64 bits. */
static inline uint64_t pvmm_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

void pvmm_content_text(uint64_t state, uint64_t *words);
void pvmm_content_heap(uint64_t state, uint64_t *words);

#endif
