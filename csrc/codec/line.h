/* SPDX-License-Identifier: Apache-2.0 */
/*
 * line.h - keyed fingerprints of the 64-byte lines of a page
 *
 * Theory of operation
 *
 * To send only what changed, the source has to know what it sent before. It
 * keeps no copy of it but one 32-bit fingerprint for each 64-byte line: 256
 * bytes for a page, a sixteenth of its size.
 *
 * The fingerprint is NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC,
 * CRYPTO '99) with a multiplication to fold it. A line is sixteen 32-bit
 * words w (in the order of this machine's bytes, as prints never leave it),
 * the key is sixteen words nh and an odd 64-bit number fold:
 *
 *	sum   = (w[0] + nh[0]) * (w[1] + nh[1]) + ...
 *	        + (w[14] + nh[14]) * (w[15] + nh[15])
 *	print = the upper half of sum * fold
 *
 * Words are added modulo 2^32, the products are 64 bits wide and added modulo
 * 2^64, and so is the last product. Two different lines have the same sum with
 * a probability of at most 2^-32 (NH), and different sums the same print with
 * at most 2^-31 (multiply-shift, Dietzfelbinger et al. 1997), whatever they
 * hold, as long as the key is secret: a guest cannot make lines that collide.
 * It is not a signature; the receiver compares the hash of the whole page.
 *
 * All kernels give the same fingerprints. Thread rule: a key is read only
 * after line_key_init(); everything else is on the caller's memory.
 */
#ifndef PMIG_CODEC_LINE_H
#define PMIG_CODEC_LINE_H

#include "pymigrate.h"

enum {
	LINE_BYTES = 64,
	PAGE_LINES = PMIG_PAGE_BYTES / LINE_BYTES,
};

/**
 * struct line_key - secret of one sender
 * @nh:		added to the sixteen words of a line
 * @fold:	odd multiplier of the fold from 64 to 32 bits
 */
struct line_key {
	_Alignas(64) uint32_t nh[16];
	uint64_t fold;
};

/* Fingerprints of a page, in the order of its lines. */
struct line_prints {
	_Alignas(64) uint32_t line[PAGE_LINES];
};

struct line_kernel {
	const char *name; /* "scalar", "avx2", "avx512" */
	/* does this processor have it? */
	bool (*supported)(void);
	/* fingerprints of the page at page, which needs no alignment */
	void (*prints)(const struct line_key *key, const void *page,
		       struct line_prints *prints);
};

/* Best first; ends with the scalar one, which is always supported. */
extern const struct line_kernel line_kernels[];
extern const unsigned int line_kernels_count;

/* The first supported one. A few nanoseconds; callers may keep it. */
const struct line_kernel *line_kernel_best(void);

/* A fresh key from getrandom(2). */
int line_key_init(struct line_key *key, struct pmig_error *err);

/* Bit l is set where line l differs. */
uint64_t line_changes(const struct line_prints *before,
		      const struct line_prints *after);

#endif
