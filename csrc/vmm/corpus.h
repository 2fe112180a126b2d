/* SPDX-License-Identifier: Apache-2.0 */
/*
 * corpus.h - bytes of this system's programs and libraries
 *
 * Content of kind executable is cut out of them. It is the same again as long
 * as the files are; a digest kept in guest memory tells whether they are.
 */
#ifndef PVMM_CORPUS_H
#define PVMM_CORPUS_H

#include "vmm/vmm.h"

/**
 * struct pvmm_corpus - ELF files, back to back
 * @bytes:	malloc'd; NULL when it is not loaded
 * @size_bytes:	at least a few MiB
 * @digest:	of all bytes, not 0
 */
struct pvmm_corpus {
	uint8_t *bytes;
	uint64_t size_bytes;
	uint64_t digest;
};

/* Read it. -ENOENT: there are no programs here to speak of. */
int pvmm_corpus_load(struct pvmm_corpus *corpus, struct pmig_error *err);
void pvmm_corpus_free(struct pvmm_corpus *corpus);

/* Copy out the page that follows from seed and page number. */
void pvmm_corpus_page(const struct pvmm_corpus *corpus, uint64_t seed,
		      uint64_t page, uint64_t *words);

#endif
