# SPDX-License-Identifier: Apache-2.0
"""Pages that come late: the bitmaps of OUTSTANDING frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .groups import decompress
from .regions import Fail, Region
from .wire import (
    BLOCK_BYTES,
    BLOCK_PAGES,
    MAX_OUTSTANDING_BLOCKS,
    OUTSTANDING_HEAD,
    PAGE_BYTES,
    Encoding,
    xxh3,
)

_WORD_BYTES = BLOCK_PAGES // 8


@dataclass(frozen=True)
class Outstanding:
    """The checked head of an OUTSTANDING frame."""

    epoch: int
    region: int
    offset: int
    encoding: Encoding
    blocks: int
    bitmap_hash: int


def decode_outstanding_head(
    head: bytes, body_bytes: int, regions: tuple[Region, ...], fail: Fail
) -> Outstanding:
    """Decode a head and check it against itself, its body and the regions."""
    if len(head) != OUTSTANDING_HEAD.size:
        fail(f"the OUTSTANDING head has {len(head)} bytes, it must have {OUTSTANDING_HEAD.size}")
    epoch, offset, region, encoding, blocks, bitmap_hash = OUTSTANDING_HEAD.unpack(head)
    if region >= len(regions):
        fail(f"OUTSTANDING names region {region}, there are {len(regions)}")
    size = regions[region].size_bytes
    if offset % BLOCK_BYTES or offset >= size:
        fail(f"offset {offset} of OUTSTANDING is not that of a block of its region")
    if not 1 <= blocks <= min(MAX_OUTSTANDING_BLOCKS, -(-(size - offset) // BLOCK_BYTES)):
        fail(f"OUTSTANDING names {blocks} blocks")
    plain = blocks * _WORD_BYTES
    if encoding == Encoding.RAW:
        fits = body_bytes == plain
    elif encoding == Encoding.ZSTD:
        fits = 0 < body_bytes < plain
    else:
        fail(f"the bitmap of OUTSTANDING has the unknown encoding {encoding}")
    if not fits:
        fail(f"the bitmap of OUTSTANDING is stored in {body_bytes} bytes")
    return Outstanding(epoch, region, offset, Encoding(encoding), blocks, bitmap_hash)


def decode_bitmap(
    named: Outstanding, body: memoryview, region: Region, fail: Fail
) -> Iterator[tuple[int, int]]:
    """Offset and mask of each block that has outstanding pages."""
    plain = bytes(body)
    if named.encoding is Encoding.ZSTD:
        size = named.blocks * _WORD_BYTES
        plain = decompress(Encoding.ZSTD, body, size, fail, "the bitmap of OUTSTANDING")
    if xxh3(plain) != named.bitmap_hash:
        fail("the bitmap of OUTSTANDING does not match its hash")
    for number, (mask,) in enumerate(struct.iter_unpack("<Q", plain)):
        offset = named.offset + number * BLOCK_BYTES
        if mask >> min((region.size_bytes - offset) // PAGE_BYTES, BLOCK_PAGES):
            fail("OUTSTANDING names pages past the end of its region")
        if mask:
            yield offset, mask
