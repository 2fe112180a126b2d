/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is decompressed comes from a peer. Both libraries promise to write
 * within the size they are given whatever they read; what the stream asks for
 * beyond that is checked here: the exact size, and of zstd one frame that is
 * neither skippable nor of an old format, with a window that any decoder of
 * the stream is prepared for, and nothing behind it.
 */
#include "codec/compress.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <zstd.h>

#include "base/error.h"

struct decompressor {
	ZSTD_DCtx *zstd;
};

/* The byte behind the magic number; RFC 8878, 3.1.1.1.1 */
enum {
	FRAME_DESCRIPTOR = 4,
	FRAME_WINDOW = 5,
	SINGLE_SEGMENT = 0x20,
	DICTIONARY = 0x03,
	FRAME_HEADER_MIN_BYTES = 6,
};

int decompressor_new(struct decompressor **out, struct pmig_error *err)
{
	struct decompressor *d = calloc(1, sizeof(*d));

	if (d)
		d->zstd = ZSTD_createDCtx();
	if (!d || !d->zstd) {
		free(d);
		return pmig_fail(err, -ENOMEM, "no memory for a decompressor");
	}
	*out = d;
	return 0;
}

void decompressor_free(struct decompressor *decompressor)
{
	if (!decompressor)
		return;
	ZSTD_freeDCtx(decompressor->zstd);
	free(decompressor);
}

static bool run_lz4(const void *in, uint32_t in_bytes, void *out,
		    uint32_t size_bytes)
{
	return LZ4_decompress_safe(in, out, (int)in_bytes, (int)size_bytes) ==
	       (int)size_bytes;
}

/* A frame that is one segment has no window of its own but its size. */
static uint64_t window_bytes(const uint8_t *frame)
{
	uint64_t base;

	if (frame[FRAME_DESCRIPTOR] & SINGLE_SEGMENT)
		return 0;
	base = 1ull << (10 + (frame[FRAME_WINDOW] >> 3));
	return base + base / 8 * (frame[FRAME_WINDOW] & 7);
}

/*
 * libzstd holds windows to a limit only where it has to allocate them, which
 * it need not here; another decoder may.
 */
static bool frame_allowed(const uint8_t *frame, uint32_t in_bytes)
{
	uint32_t magic;

	if (in_bytes < FRAME_HEADER_MIN_BYTES)
		return false;
	memcpy(&magic, frame, sizeof(magic));
	return le32toh(magic) == ZSTD_MAGICNUMBER &&
	       !(frame[FRAME_DESCRIPTOR] & DICTIONARY) &&
	       window_bytes(frame) <= PMIG_BLOCK_BYTES;
}

static bool run_zstd(struct decompressor *d, const void *in, uint32_t in_bytes,
		     void *out, uint32_t size_bytes)
{
	return frame_allowed(in, in_bytes) &&
	       ZSTD_findFrameCompressedSize(in, in_bytes) == in_bytes &&
	       ZSTD_decompressDCtx(d->zstd, out, size_bytes, in, in_bytes) ==
		       size_bytes;
}

int decompressor_run(struct decompressor *decompressor,
		     enum pmig_encoding encoding, const void *in,
		     uint32_t in_bytes, void *out, uint32_t size_bytes)
{
	bool ok = false;

	if (!in_bytes || !size_bytes || in_bytes > PMIG_BLOCK_BYTES ||
	    size_bytes > PMIG_BLOCK_BYTES)
		return -EBADMSG;
	if (encoding == PMIG_ENCODING_LZ4)
		ok = run_lz4(in, in_bytes, out, size_bytes);
	else if (encoding == PMIG_ENCODING_ZSTD)
		ok = run_zstd(decompressor, in, in_bytes, out, size_bytes);
	return ok ? 0 : -EBADMSG;
}
