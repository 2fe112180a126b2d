/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.h - what the contents of pages are decoded with
 *
 * One object belongs to one thread. It allocates when it is made, not in
 * between.
 */
#ifndef PMIG_TRANSFER_DECODE_H
#define PMIG_TRANSFER_DECODE_H

#include "codec/compress.h"

/**
 * struct page_decoder - see above
 * @body:	contents that are not raw, WIRE_MAX_STORED_BYTES for each
 *		page of a block; owned
 * @plain:	what a group decompresses to, PMIG_BLOCK_BYTES; owned
 * @decompressor: owned
 */
struct page_decoder {
	uint8_t *body;
	uint8_t *plain;
	struct decompressor *decompressor;
};

/* page_decoder_fini() is right also after a failure, and of zeros. */
int page_decoder_init(struct page_decoder *decoder, struct pmig_error *err);
void page_decoder_fini(struct page_decoder *decoder);

#endif
