/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which Zstandard frames are taken: one, with a window that the stream allows
 * and nothing before or behind it. The compressor makes no other, and frames
 * that a peer may make in their stead are built here.
 */
#include <errno.h>
#include <string.h>

#include <zstd.h>

#include "codec/compress.h"
#include "guarded.h"
#include "random_bytes.h"
#include "unit.h"

enum {
	DESCRIPTOR = 4,
	SINGLE_SEGMENT = 0x20,
	CHECKSUM = 0x04,
	DICTIONARY = 0x03,
	RLE_BLOCK = 1 << 1,
	LAST_BLOCK = 1,
};

static uint64_t seed = 5;
static uint8_t block[PMIG_BLOCK_BYTES];
static uint8_t frame[2 * PMIG_BLOCK_BYTES];
static struct compressor *comp;
static struct decompressor *decomp;

static void set_up(void)
{
	struct pmig_error err;

	compressor_free(comp);
	decompressor_free(decomp);
	comp = NULL;
	decomp = NULL;
	CHECK_OK(compressor_new(&comp, &err), err);
	CHECK_OK(decompressor_new(&decomp, &err), err);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(random_next(&seed) % 20);
}

static uint32_t pack(int level, uint32_t size)
{
	return compressor_run(comp, PMIG_ENCODING_ZSTD, level, block, size,
			      frame, sizeof(frame));
}

static int take(uint32_t frame_bytes, uint32_t size_bytes)
{
	struct guarded from, to;
	int rc;

	guarded_copy(&from, frame, frame_bytes);
	guarded_open(&to, size_bytes);
	rc = decompressor_run(decomp, PMIG_ENCODING_ZSTD, from.data,
			      frame_bytes, to.data, size_bytes);
	CHECK(guarded_intact(&to));
	guarded_close(&from);
	guarded_close(&to);
	return rc;
}

/* RFC 8878, 3.1.1.1: all the compressor may write in front of its blocks. */
static void check_header(uint32_t size)
{
	uint8_t descriptor = frame[DESCRIPTOR];
	uint64_t window = size;

	CHECK(memcmp(frame, "\x28\xb5\x2f\xfd", 4) == 0);
	CHECK_EQ(descriptor & (CHECKSUM | DICTIONARY), 0);
	if (!(descriptor & SINGLE_SEGMENT)) {
		uint64_t base = 1ull << (10 + (frame[5] >> 3));

		window = base + base / 8 * (frame[5] & 7);
	}
	CHECK(window <= PMIG_BLOCK_BYTES);
	CHECK_EQ(ZSTD_getFrameContentSize(frame, sizeof(frame)), size);
}

static void test_window_of_every_level(void)
{
	set_up();
	/* what gets no smaller is refused, and then has no frame to look at */
	memset(block, 0, sizeof(block) / 2);
	for (int level = -50; level <= 19; level++) {
		if (!level)
			continue;
		CHECK(pack(level, sizeof(block)));
		check_header(sizeof(block));
		CHECK(pack(level, PMIG_PAGE_BYTES));
		check_header(PMIG_PAGE_BYTES);
	}
}

static void test_two_frames(void)
{
	uint32_t half = 2 * PMIG_PAGE_BYTES;
	uint32_t n;

	set_up();
	n = pack(1, half);
	memcpy(frame + n, frame, n);
	CHECK_EQ(take(n, half), 0);
	CHECK_EQ(take(2 * n, 2 * half), -EBADMSG);
	CHECK_EQ(take(2 * n, half), -EBADMSG);
	frame[n] = 0;
	CHECK_EQ(take(n + 1, half), -EBADMSG);
}

/* A frame that zstd skips, before, behind or instead of a good one. */
static void test_skippable_frames(void)
{
	static const uint8_t skip[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0,
				       0,    0,	   1,	 2,    3, 4};
	uint32_t n;

	set_up();
	n = pack(1, PMIG_PAGE_BYTES);
	memcpy(frame + n, skip, sizeof(skip));
	CHECK_EQ(take(n + sizeof(skip), PMIG_PAGE_BYTES), -EBADMSG);
	memmove(frame + sizeof(skip), frame, n);
	memcpy(frame, skip, sizeof(skip));
	CHECK_EQ(take(n + sizeof(skip), PMIG_PAGE_BYTES), -EBADMSG);
	CHECK_EQ(take(sizeof(skip), PMIG_PAGE_BYTES), -EBADMSG);
}

/*
 * A frame without a size: window as its byte says, then blocks that repeat
 * one byte size_bytes times in four bytes. Returns the frame's size.
 */
static uint32_t make_bomb(uint8_t window, uint32_t block_bytes, int blocks)
{
	uint32_t at = 6;

	memcpy(frame, "\x28\xb5\x2f\xfd\0", 5);
	frame[5] = window;
	for (; blocks; blocks--, at += 4) {
		uint32_t head = block_bytes << 3 | RLE_BLOCK |
				(blocks == 1 ? LAST_BLOCK : 0);

		frame[at] = (uint8_t)head;
		frame[at + 1] = (uint8_t)(head >> 8);
		frame[at + 2] = (uint8_t)(head >> 16);
		frame[at + 3] = 0xaa;
	}
	return at;
}

/* 10 + 8 = 18: a window of 256 KiB; one more is 288 or 512 KiB. */
static void test_window_is_limited(void)
{
	set_up();
	CHECK_EQ(take(make_bomb(8 << 3, 4096, 1), 4096), 0);
	CHECK_EQ(take(make_bomb(2 << 3, 4096, 1), 4096), 0);
	CHECK_EQ(take(make_bomb(8 << 3 | 1, 4096, 1), 4096), -EBADMSG);
	CHECK_EQ(take(make_bomb(9 << 3, 4096, 1), 4096), -EBADMSG);
	CHECK_EQ(take(make_bomb(31 << 3 | 7, 4096, 1), 4096), -EBADMSG);
}

/* Empty blocks make a frame longer than what any page may take. */
static void test_longer_than_a_block(void)
{
	uint32_t at = make_bomb(8 << 3, 0, PMIG_BLOCK_BYTES / 4);

	set_up();
	frame[at - 4] &= (uint8_t)~LAST_BLOCK;
	memcpy(frame + at, "\x03\x80\x00\xaa", 4);
	CHECK_EQ(take(at + 4, PMIG_PAGE_BYTES), -EBADMSG);
	at = make_bomb(8 << 3, 0, 100);
	frame[at - 4] &= (uint8_t)~LAST_BLOCK;
	memcpy(frame + at, "\x03\x80\x00\xaa", 4);
	CHECK_EQ(take(at + 4, PMIG_PAGE_BYTES), 0);
}

/* The size in the head lies: a terabyte, or a page for very much. */
static void test_content_size_is_a_lie(void)
{
	set_up();
	memcpy(frame, "\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\1\0\0", 13);
	memcpy(frame + 13, "\x03\x00\x10\xaa", 4);
	CHECK_EQ(take(17, PMIG_BLOCK_BYTES), -EBADMSG);
	CHECK_EQ(take(17, PMIG_PAGE_BYTES), -EBADMSG);
	memcpy(frame, "\x28\xb5\x2f\xfd\xa0\0\x10\0\0", 9);
	memcpy(frame + 9, "\x03\x00\x10\xaa", 4);
	CHECK_EQ(take(13, PMIG_PAGE_BYTES), -EBADMSG);
	CHECK_EQ(take(13, 131072), -EBADMSG);
	memcpy(frame + 9, "\x03\x80\x00\xaa", 4);
	CHECK_EQ(take(13, PMIG_PAGE_BYTES), 0);
}

/* Another encoder may add a checksum; then it has to be right. */
static void test_checksums(void)
{
	ZSTD_CCtx *other = ZSTD_createCCtx();
	size_t n;

	set_up();
	CHECK(other);
	ZSTD_CCtx_setParameter(other, ZSTD_c_checksumFlag, 1);
	n = ZSTD_compress2(other, frame, sizeof(frame), block, PMIG_PAGE_BYTES);
	ZSTD_freeCCtx(other);
	CHECK(!ZSTD_isError(n));
	CHECK_EQ(take((uint32_t)n, PMIG_PAGE_BYTES), 0);
	frame[n - 1] ^= 1;
	CHECK_EQ(take((uint32_t)n, PMIG_PAGE_BYTES), -EBADMSG);
}

/* 40 KB that ask for 1.2 GB, and 10 bytes for a page more than there is. */
static void test_bombs(void)
{
	set_up();
	CHECK_EQ(take(make_bomb(8 << 3, 131072, 2), PMIG_BLOCK_BYTES), 0);
	CHECK_EQ(take(make_bomb(8 << 3, 131072, 10000), PMIG_BLOCK_BYTES),
		 -EBADMSG);
	CHECK_EQ(take(make_bomb(8 << 3, 131072, 10000), PMIG_PAGE_BYTES),
		 -EBADMSG);
	CHECK_EQ(take(make_bomb(8 << 3, 8192, 1), PMIG_PAGE_BYTES), -EBADMSG);
	CHECK_EQ(take(make_bomb(8 << 3, 4095, 1), PMIG_PAGE_BYTES), -EBADMSG);
}

/* The descriptor asks for a dictionary, or says what is reserved. */
static void test_descriptor(void)
{
	uint32_t n;

	set_up();
	for (int bit = 0; bit < 8; bit++) {
		n = pack(1, PMIG_PAGE_BYTES);
		frame[DESCRIPTOR] ^= (uint8_t)(1 << bit);
		if (bit != 4) /* unused: decoders ignore it */
			CHECK_EQ(take(n, PMIG_PAGE_BYTES), -EBADMSG);
	}
}

/* Formats before 1.0 that libzstd may have been built to read as well. */
static void test_old_formats(void)
{
	uint32_t n;

	set_up();
	n = pack(1, PMIG_PAGE_BYTES);
	for (uint8_t old = 0x1e; old < 0x28; old++) {
		frame[0] = old;
		CHECK_EQ(take(n, PMIG_PAGE_BYTES), -EBADMSG);
	}
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_window_of_every_level), UNIT(test_two_frames),
		UNIT(test_skippable_frames), UNIT(test_window_is_limited),
		UNIT(test_longer_than_a_block),
		UNIT(test_content_size_is_a_lie), UNIT(test_checksums),
		UNIT(test_bombs), UNIT(test_descriptor), UNIT(test_old_formats),
		UNIT_END});
}
