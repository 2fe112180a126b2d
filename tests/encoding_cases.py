# SPDX-License-Identifier: Apache-2.0
"""Streams with every encoding that a decoder must take, and what they hold."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import lz4.block
import stream_pages as sp
import zstandard
from stream_builder import BLOCK, PAGE, SEALED, Region, Writer, page_of
from stream_pages import Entry

REGIONS = (Region(), Region(b"high", 1 << 32, 2 * BLOCK - 5 * PAGE))
ZEROS = bytes(PAGE)
Contents = Mapping[int, bytes | Entry | None]


class Good(NamedTuple):
    """A stream, the pages that are not zero after it, what was stale meanwhile.

    :ivar pages: by number; those of the second region follow those of the first.
    :ivar stale: pages, after each epoch.
    """

    data: bytes
    pages: dict[int, bytes]
    stale: tuple[int, ...]


def noise(seed: int, size: int = PAGE) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def edited(page: bytes, *lines: int) -> bytes:
    """The page with some 64-byte lines changed."""
    data = bytearray(page)
    for line in lines:
        data[line * 64] ^= 0xFF
    return bytes(data)


def wrong(entry: Entry) -> Entry:
    """The entry with another hash than the page that it gives."""
    return replace(entry, hash=entry.hash ^ 1)


def epochs(*parts: Contents, kinds: str = "") -> bytes:
    """An epoch of block 0 for each part: f fuzzy, s sealed; the last is sealed."""
    writer = Writer(REGIONS)
    for part, kind in zip(parts, kinds or "f" * (len(parts) - 1) + "s", strict=True):
        writer.begin(SEALED if kind == "s" else 1)
        if part:
            writer.block(part)
        writer.finish()
    return writer.end()


def of_size(size: int) -> bytes:
    """A page whose LZ4 block has exactly so many bytes."""
    for n in range(size - 40, PAGE):
        page = noise(1, n) + bytes(PAGE - n)
        if len(lz4.block.compress(page, store_size=False)) == size:
            return page
    raise AssertionError(f"no page compresses to {size} bytes")


def streamed(window_log: int, *pages: bytes) -> bytes:
    """A zstd frame that says how large its window is, not how much it holds."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log, write_content_size=False, compression_level=3
    )
    squeeze = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return squeeze.compress(b"".join(pages)) + squeeze.flush()


A, B, C = page_of(1), page_of(2), noise(3)


def rests_on_nothing() -> dict[str, Good]:
    full = [noise(n, 100) + bytes(PAGE - 100) for n in range(64)]
    tight = of_size(PAGE)
    mixed = {
        0: A,
        1: None,
        **sp.at(2, sp.lz4_group(A, B, C)),
        5: C,
        **sp.at(6, sp.zstd_group(B, A)),
        9: None,
        **sp.at(10, sp.lz4_group(B)),
        63: sp.zstd_group(C[:64] + bytes(PAGE - 64))[0],
    }
    spread = dict(zip([3, 7, 40], sp.zstd_group(A, B, C), strict=True)) | {5: None, 41: None}
    holds = {0: A, 2: A, 3: B, 4: C, 5: C, 6: B, 7: A, 10: B, 63: C[:64] + bytes(PAGE - 64)}
    return {
        "raw zeros": Good(epochs({0: ZEROS}), {}, (0,)),
        "lz4 span 1": Good(epochs(sp.at(0, sp.lz4_group(A))), {0: A}, (0,)),
        "lz4 span 64": Good(epochs(sp.at(0, sp.lz4_group(*full))), dict(enumerate(full)), (0,)),
        "lz4 as large as a page": Good(epochs({0: sp.lz4_group(tight)[0]}), {0: tight}, (0,)),
        "lz4 zeros": Good(epochs({0: C}, sp.at(0, sp.lz4_group(ZEROS))), {}, (0, 0)),
        "zstd span 1": Good(epochs(sp.at(0, sp.zstd_group(A))), {0: A}, (0,)),
        "zstd fastest": Good(epochs(sp.at(0, sp.zstd_group(A, level=-50))), {0: A}, (0,)),
        "zstd best": Good(
            epochs(sp.at(0, sp.zstd_group(*full, level=19))), dict(enumerate(full)), (0,)
        ),
        "zstd checksum": Good(epochs(sp.at(0, sp.zstd_group(B, checksum=True))), {0: B}, (0,)),
        "zstd window": Good(
            epochs(sp.at(0, sp.group(sp.ZSTD, full, streamed(18, *full)))),
            dict(enumerate(full)),
            (0,),
        ),
        "groups, raw and zeros": Good(epochs(mixed), holds, (0,)),
        "group with gaps": Good(epochs({5: C}, spread), {3: A, 7: B, 40: C}, (0, 0)),
    }


def rests_on_before() -> dict[str, Good]:
    """Unchanged and delta, on all that may be there before."""
    some = edited(C, 0, 31, 63)
    every = noise(9)
    return {
        "unchanged": Good(epochs({0: A}, {0: sp.unchanged(A)}), {0: A}, (0, 0)),
        "unchanged zeros": Good(epochs({0: sp.unchanged(ZEROS)}), {}, (0,)),
        "unchanged after zero": Good(
            epochs({0: A}, {0: None}, {0: sp.unchanged(ZEROS)}), {}, (0, 0, 0)
        ),
        "delta of lines": Good(epochs({0: C}, {0: sp.delta(C, some)}), {0: some}, (0, 0)),
        "delta of all lines": Good(epochs({0: C}, {0: sp.delta(C, every)}), {0: every}, (0, 0)),
        "delta of what is the same": Good(
            epochs({0: C}, {0: sp.delta(C, C, mask=5)}), {0: C}, (0, 0)
        ),
        "delta on a hole": Good(epochs({0: sp.delta(ZEROS, A)}), {0: A}, (0,)),
        "delta on a zero page": Good(
            epochs({0: C}, {0: None}, {0: sp.delta(ZEROS, edited(ZEROS, 7))}),
            {0: edited(ZEROS, 7)},
            (0, 0, 0),
        ),
        "delta to zeros": Good(epochs({0: A}, {0: sp.delta(A, ZEROS)}), {}, (0, 0)),
        "zero after delta": Good(epochs({}, {0: sp.delta(ZEROS, A)}, {0: None}), {}, (0, 0, 0)),
        "delta on a group": Good(
            epochs(sp.at(0, sp.lz4_group(A, C)), {1: sp.delta(C, some)}), {0: A, 1: some}, (0, 0)
        ),
        "deltas on deltas": Good(
            epochs({0: C}, {0: sp.delta(C, some)}, {0: sp.delta(some, every)}),
            {0: every},
            (0, 0, 0),
        ),
    }


def rests_on_epoch() -> dict[str, Good]:
    """Copies of all that an epoch may have described before."""
    far = Writer(REGIONS).begin(SEALED).block({58: C}, region=1, offset=BLOCK)
    far.block({3: sp.copy(C, BLOCK + 58 * PAGE, region=1)}).finish()
    frames = Writer(REGIONS).begin(SEALED).block({9: B}, offset=3 * BLOCK)
    frames.block({0: sp.copy(B, 3 * BLOCK + 9 * PAGE), 1: sp.copy(B, 0)}).finish()
    return {
        "copy of raw": Good(epochs({0: A, 5: sp.copy(A, 0)}), {0: A, 5: A}, (0,)),
        "copy of a later zero page": Good(
            epochs({0: A}, {0: sp.copy(ZEROS, 9 * PAGE), 9: None}), {}, (0, 0)
        ),
        "copy of a group": Good(
            epochs({**sp.at(0, sp.zstd_group(A, B)), 2: sp.copy(B, PAGE)}),
            {0: A, 1: B, 2: B},
            (0,),
        ),
        "copy of a delta": Good(
            epochs({0: C}, {0: sp.delta(C, edited(C, 3)), 1: sp.copy(edited(C, 3), 0)}),
            {0: edited(C, 3), 1: edited(C, 3)},
            (0, 0),
        ),
        "copy of unchanged": Good(
            epochs({0: C}, {0: sp.unchanged(C), 1: sp.copy(C, 0)}), {0: C, 1: C}, (0, 0)
        ),
        "copy of a copy": Good(
            epochs({0: C, 1: sp.copy(C, 0), 2: sp.copy(C, PAGE)}), {0: C, 1: C, 2: C}, (0,)
        ),
        "copy of another region": Good(far.end(), {3: C, 256 + 122: C}, (0,)),
        "copy of a frame before": Good(frames.end(), {201: B, 0: B, 1: B}, (0,)),
    }


def stale_cases() -> dict[str, Good]:
    bad_delta, bad_copy = wrong(sp.delta(A, B)), wrong(sp.copy(C, 0))
    blind = wrong(sp.unchanged(A))
    return {
        "stale unchanged": Good(epochs({0: A}, {0: blind}, {0: B}), {0: B}, (0, 1, 0)),
        "stale delta": Good(epochs({0: A}, {0: bad_delta}, {0: C}), {0: C}, (0, 1, 0)),
        "stale copy": Good(epochs({0: C, 1: bad_copy}, {1: B}), {0: C, 1: B}, (1, 0)),
        "stale, then zero": Good(epochs({0: A}, {0: blind}, {0: None}), {}, (0, 1, 0)),
        "stale, then a group": Good(
            epochs({0: A}, {0: blind}, sp.at(0, sp.lz4_group(C, B))), {0: C, 1: B}, (0, 1, 0)
        ),
        "stale twice": Good(epochs({0: A}, {0: blind}, {0: blind}, {0: A}), {0: A}, (0, 1, 1, 0)),
        "stale pages add up": Good(
            epochs({0: blind, 1: A}, {1: blind, 2: blind}, {0: A, 1: A, 2: A}),
            {0: A, 1: A, 2: A},
            (1, 3, 0),
        ),
        "a second sealed epoch settles": Good(
            epochs({0: A}, {0: blind}, {0: A}, kinds="fss"), {0: A}, (0, 1, 0)
        ),
        "a fourth sealed epoch settles": Good(
            epochs({0: A}, {0: bad_delta}, {0: blind}, {0: blind}, {0: C}, kinds="fssss"),
            {0: C},
            (0, 1, 1, 1, 0),
        ),
        "stale without a sealed epoch": Good(
            epochs({0: A}, {0: blind}, kinds="ff"), {0: A}, (0, 1)
        ),
        "copy of a stale page": Good(
            epochs({0: A}, {0: blind, 1: sp.copy(A, 0)}, {0: A}), {0: A, 1: A}, (0, 1, 0)
        ),
        "delta mends a suspect page": Good(
            epochs({0: replace(sp.raw(A), hash=5)}, {0: sp.delta(A, B)}), {0: B}, (0, 0)
        ),
        "delta on a suspect page": Good(
            epochs({0: replace(sp.raw(A), hash=5)}, {0: bad_delta}, {0: C}, kinds="fss"),
            {0: C},
            (0, 1, 0),
        ),
    }


def good_cases() -> dict[str, Good]:
    return rests_on_nothing() | rests_on_before() | rests_on_epoch() | stale_cases()
