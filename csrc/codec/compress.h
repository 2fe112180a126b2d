/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compress.h - lz4 and zstd for groups of pages
 *
 * A compressor or decompressor belongs to one thread. It allocates when it
 * is made (and zstd when a level is first used), not in between.
 */
#ifndef PMIG_CODEC_COMPRESS_H
#define PMIG_CODEC_COMPRESS_H

#include "pymigrate.h"

struct compressor;
struct decompressor;

int compressor_new(struct compressor **out, struct pmig_error *err);
void compressor_free(struct compressor *compressor);

/*
 * Compress size_bytes, at most PMIG_BLOCK_BYTES, into out. encoding is
 * PMIG_ENCODING_LZ4 or _ZSTD; level as in struct pmig_tuning. Returns the
 * compressed size, or 0 when it would not fit capacity_bytes. in must not
 * change meanwhile.
 */
uint32_t compressor_run(struct compressor *compressor,
			enum pmig_encoding encoding, int level, const void *in,
			uint32_t size_bytes, void *out,
			uint32_t capacity_bytes);

int decompressor_new(struct decompressor **out, struct pmig_error *err);
void decompressor_free(struct decompressor *decompressor);

/*
 * Decompress what came from a peer into exactly size_bytes at out. -EBADMSG
 * when it is not a valid encoding of so many bytes; out may then hold
 * anything, but nothing outside it was written.
 */
int decompressor_run(struct decompressor *decompressor,
		     enum pmig_encoding encoding, const void *in,
		     uint32_t in_bytes, void *out, uint32_t size_bytes);

#endif
