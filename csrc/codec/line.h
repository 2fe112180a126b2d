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
 * CRYPTO '99) over the sixteen 32-bit words of a line with a secret key,
 * folded to 32 bits by a second keyed multiplication. Two different lines have
 * the same fingerprint with a probability of about 2^-32 whatever they hold, as
 * long as the key is secret: a guest cannot make lines that collide. It is
 * not a signature; the receiver compares the hash of the whole page.
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
