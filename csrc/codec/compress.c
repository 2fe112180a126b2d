/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/compress.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <lz4.h>
#include <zstd.h>

#include "base/error.h"

enum {
	/* of the stream's format; zstd would choose no more for a block */
	WINDOW_LOG = 18,
};

static_assert(1 << WINDOW_LOG == PMIG_BLOCK_BYTES, "a window holds a block");

/**
 * struct compressor - the working memory of both libraries
 * @lz4:	LZ4_sizeofState() bytes; every run begins it anew
 * @zstd:	its tables grow when a level first needs them larger
 * @level:	what zstd is set to, to set it only when it changes
 */
struct compressor {
	void *lz4;
	ZSTD_CCtx *zstd;
	int level;
};

static bool set(struct compressor *c, ZSTD_cParameter parameter, int value)
{
	return !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, parameter, value));
}

static bool set_level(struct compressor *c, int level)
{
	if (level == c->level)
		return true;
	if (!set(c, ZSTD_c_compressionLevel, level))
		return false;
	c->level = level;
	return true;
}

/*
 * No checksum, as the stream has a hash of each page. The size stays in the
 * frame: it costs two or four bytes, and a decoder that knows it needs no
 * window buffer.
 */
static bool set_all(struct compressor *c)
{
	return set_level(c, 1) && set(c, ZSTD_c_windowLog, WINDOW_LOG) &&
	       set(c, ZSTD_c_contentSizeFlag, 1) &&
	       set(c, ZSTD_c_checksumFlag, 0);
}

int compressor_new(struct compressor **out, struct pmig_error *err)
{
	struct compressor *c = calloc(1, sizeof(*c));

	if (c) {
		c->lz4 = malloc((size_t)LZ4_sizeofState());
		c->zstd = ZSTD_createCCtx();
	}
	if (!c || !c->lz4 || !c->zstd || !set_all(c)) {
		compressor_free(c);
		return pmig_fail(err, -ENOMEM, "no memory for a compressor");
	}
	*out = c;
	return 0;
}

void compressor_free(struct compressor *compressor)
{
	if (!compressor)
		return;
	ZSTD_freeCCtx(compressor->zstd);
	free(compressor->lz4);
	free(compressor);
}

static uint32_t run_lz4(struct compressor *c, int level, const void *in,
			uint32_t size_bytes, void *out, uint32_t capacity_bytes)
{
	return (uint32_t)LZ4_compress_fast_extState(
		c->lz4, in, out, (int)size_bytes, (int)capacity_bytes, level);
}

/* Out of memory counts as too large: the caller has the page itself. */
static uint32_t run_zstd(struct compressor *c, int level, const void *in,
			 uint32_t size_bytes, void *out,
			 uint32_t capacity_bytes)
{
	size_t rc;

	if (!set_level(c, level))
		return 0;
	rc = ZSTD_compress2(c->zstd, out, capacity_bytes, in, size_bytes);
	return ZSTD_isError(rc) ? 0 : (uint32_t)rc;
}

uint32_t compressor_run(struct compressor *compressor,
			enum pmig_encoding encoding, int level, const void *in,
			uint32_t size_bytes, void *out, uint32_t capacity_bytes)
{
	if (!size_bytes || size_bytes > PMIG_BLOCK_BYTES)
		return 0;
	/* a decompressor takes no more */
	if (capacity_bytes > PMIG_BLOCK_BYTES)
		capacity_bytes = PMIG_BLOCK_BYTES;
	if (!level)
		level = 1;
	if (encoding == PMIG_ENCODING_LZ4)
		return run_lz4(compressor, level, in, size_bytes, out,
			       capacity_bytes);
	if (encoding == PMIG_ENCODING_ZSTD)
		return run_zstd(compressor, level, in, size_bytes, out,
				capacity_bytes);
	return 0;
}
