# SPDX-License-Identifier: Apache-2.0
"""Pages in every encoding of docs/stream-format.md, right and wrong.

Like stream_builder it knows nothing of the decoders.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import lz4.block
import stream_builder as sb
import zstandard
from stream_builder import BLOCK, PAGE, Stored, Writer, page_of, replace
from stream_cases import Case

RAW, UNCHANGED, DELTA, COPY, LZ4, ZSTD = range(6)
LINE = 64


def raw(page: bytes) -> Stored:
    return Stored(page, RAW, page)


def unchanged(page: bytes) -> Stored:
    return Stored(page, UNCHANGED)


def delta(before: bytes, after: bytes) -> Stored:
    """The lines in which after differs; its first line where none does."""
    lines = [n for n in range(PAGE // LINE) if line(before, n) != line(after, n)] or [0]
    mask = sum(1 << n for n in lines)
    return Stored(after, DELTA, struct.pack("<Q", mask) + b"".join(line(after, n) for n in lines))


def line(page: bytes, number: int) -> bytes:
    return page[number * LINE : (number + 1) * LINE]


def copy(page: bytes, region: int, offset: int, reserved: int = 0) -> Stored:
    return Stored(page, COPY, struct.pack("<IIQ", region, reserved, offset))


def group(encoding: int, pages: Sequence[bytes], stored: bytes | None = None) -> list[Stored]:
    """Entries of pages that are compressed together."""
    data = b"".join(pages)
    if stored is None:
        stored = lz4_of(data) if encoding == LZ4 else zstd_of(data)
    first = Stored(pages[0], encoding, stored, len(pages))
    return [first, *(Stored(page, encoding) for page in pages[1:])]


def lz4_of(data: bytes) -> bytes:
    return bytes(lz4.block.compress(data, store_size=False))


def zstd_of(data: bytes, level: int = 1, with_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_content_size=with_size).compress(data)


def numbered(*entries: Stored | None) -> dict[int, Stored | None]:
    return dict(enumerate(entries))


def changed(page: bytes, *lines: int) -> bytes:
    """A page with some of its lines rewritten."""
    data = bytearray(page)
    for number in lines:
        data[number * LINE : (number + 1) * LINE] = bytes([number + 100]) * LINE
    return bytes(data)


A, B, C = page_of(1), page_of(2), page_of(3)


def sample() -> bytes:
    """A correct channel with every encoding, two regions and two sealed epochs."""
    writer = Writer((sb.Region(), sb.Region(b"high", 1 << 32, 2 * BLOCK - 5 * PAGE)))
    writer.begin().stored(numbered(raw(A), raw(B), *group(LZ4, [B, C, A]), None))
    writer.stored(numbered(copy(A, 0, 0), copy(C, 0, 3 * PAGE)), region=1, offset=BLOCK).finish()
    writer.begin().stored(
        numbered(unchanged(A), delta(B, changed(B, 0, 63)), *group(ZSTD, [C]), copy(A, 0, 0), None)
    ).finish()
    lie = replace(unchanged(A), hash=7)
    writer.begin(sb.SEALED).add(sb.state(sb.item(b"x", b"1")))
    writer.stored({8: None, 9: copy(bytes(PAGE), 0, 8 * PAGE), 10: lie}).finish()
    writer.begin(sb.SEALED).stored({10: raw(A)}).finish()
    return writer.end()


def expected() -> bytes:
    """The first pages of region 0 after the sample."""
    return b"".join([A, changed(B, 0, 63), C, A, bytes(PAGE)])


def one_block(contents: Mapping[int, Stored | None]) -> bytes:
    """A channel whose only block, in a second epoch, is this; pages 0 and 1 were sent before."""
    writer = Writer().begin().stored(numbered(raw(A), raw(B))).finish()
    return writer.begin(sb.SEALED).stored(contents).finish().end()


def delta_cases() -> dict[str, Case]:
    good = delta(A, changed(A, 5))

    def of(stored: bytes) -> bytes:
        return one_block({0: replace(good, stored=stored)})

    lines = bytes(LINE)
    return {
        "delta of no line": Case(of(struct.pack("<Q", 0) + lines), "says 0 lines changed"),
        "delta with more lines": Case(of(struct.pack("<Q", 3) + lines), "says 2 lines changed"),
        "delta with fewer lines": Case(of(struct.pack("<Q", 1) + 2 * lines), "says 1 lines"),
        "delta without lines": Case(of(struct.pack("<Q", 1)), "stored in 8 bytes"),
        "delta of half a line": Case(of(bytes(8 + 32)), "stored in 40 bytes"),
        "delta too long": Case(of(bytes(8 + 65 * LINE)), "stored in"),
        "delta empty": Case(of(b""), "stored in 0 bytes"),
        "delta with span": Case(one_block({0: replace(good, span=1)}), "has the span 1"),
        "unchanged with body": Case(
            one_block({0: replace(unchanged(A), stored=b"x")}), "stored in 1 bytes"
        ),
        "unchanged with span": Case(one_block({0: replace(unchanged(A), span=2)}), "the span 2"),
        "stale in the last epoch": Case(
            one_block({0: replace(unchanged(A), hash=7)}), "cannot be built from what came before"
        ),
        "stale delta in the last epoch": Case(
            one_block({0: replace(good, hash=7)}), "the first in region 0 at offset 0x0"
        ),
    }


def copy_cases() -> dict[str, Case]:
    def of(source: Stored, *before: Stored | None) -> bytes:
        return one_block(numbered(*before, source))

    never = "was not described before in this epoch"
    return {
        "copy of an earlier epoch": Case(of(copy(B, 0, PAGE)), never),
        "copy of itself": Case(of(copy(A, 0, 0)), never),
        "copy of a later page": Case(of(copy(A, 0, PAGE)), never),
        "copy of another block": Case(of(copy(A, 0, BLOCK)), never),
        "copy from nowhere": Case(of(copy(A, 0, 4 * BLOCK)), "which does not exist"),
        "copy from far away": Case(of(copy(A, 0, (1 << 64) - PAGE)), "which does not exist"),
        "copy from no region": Case(of(copy(A, 1, 0)), "which does not exist"),
        "copy unaligned": Case(of(copy(A, 0, 100), raw(A)), "where no page begins"),
        "copy reserved": Case(of(copy(A, 0, 0, reserved=1), raw(A)), "reserved bytes"),
        "copy short": Case(of(replace(copy(A, 0, 0), stored=bytes(8)), raw(A)), "in 8 bytes"),
        "copy with span": Case(of(replace(copy(A, 0, 0), span=1), raw(A)), "has the span 1"),
    }


def group_cases() -> dict[str, Case]:
    def of(entries: Sequence[Stored]) -> bytes:
        return one_block(numbered(*entries))

    def first(encoding: int, **lies: object) -> bytes:
        head, *rest = group(encoding, [A, B])
        return of([replace(head, **lies), *rest])

    def second(**lies: object) -> bytes:
        head, member = group(LZ4, [A, B])
        return of([head, replace(member, **lies)])

    cases = {
        "raw with span": Case(of([replace(raw(A), span=1)]), "has the span 1"),
        "entry reserved 2": Case(of([replace(raw(A), reserved=1)]), "reserved bytes"),
        "member with body": Case(second(stored=b"x"), "does not continue the group"),
        "member with span": Case(second(span=1), "does not continue the group"),
        "member of another kind": Case(second(encoding=ZSTD), "does not continue the group"),
        "raw member": Case(second(encoding=RAW, stored=B), "does not continue the group"),
    }
    for encoding, name in ((LZ4, "lz4"), (ZSTD, "zstd")):
        good = group(encoding, [A, B])[0].stored
        three = group(encoding, [A, B, C])[0].stored
        one = group(encoding, [A])[0].stored
        cases |= {
            f"{name} without span": Case(first(encoding, span=0), "a group of 0 pages"),
            f"{name} span 65": Case(first(encoding, span=65), "a group of 65 pages"),
            f"{name} group cut off": Case(first(encoding, span=3), "lacks its last 1"),
            f"{name} empty": Case(first(encoding, stored=b""), "stored in 0 bytes"),
            f"{name} oversized": Case(first(encoding, stored=bytes(8193)), "stored in 8193"),
            f"{name} garbage": Case(first(encoding, stored=b"\xff" * 100), "a group of pages is"),
            f"{name} cut": Case(first(encoding, stored=good[:-1]), "a group of pages is no"),
            f"{name} with a tail": Case(first(encoding, stored=good + b"\0"), "is no"),
            f"{name} too long": Case(first(encoding, stored=three), "8192 bytes"),
            f"{name} too short": Case(first(encoding, stored=one), "of 8192 bytes decompresses"),
            f"{name} wrong hash": Case(first(encoding, hash=7), "does not match its hash"),
        }
    return cases | zstd_cases()


def zstd_cases() -> dict[str, Case]:
    """What a frame may not ask of a decoder."""

    def of(stored: bytes, pages: int = 1) -> bytes:
        return one_block(numbered(*group(ZSTD, [A] * pages, stored)))

    named = zstandard.train_dictionary(1024, [bytes([n % 256]) * 100 + A[:n] for n in range(500)])
    with_id = zstandard.ZstdCompressor(dict_data=named).compress(A)
    wide = zstandard.ZstdCompressionParameters(window_log=19)
    streamed = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    window = streamed.compress(A) + streamed.flush()
    bomb = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    endless = bomb.compress(bytes(64 << 20)) + bomb.flush()
    return {
        "zstd two frames": Case(of(zstd_of(A[:2048]) + zstd_of(A[2048:])), "decompresses to 2048"),
        "zstd dictionary": Case(of(with_id), "needs a dictionary"),
        "zstd window": Case(of(window), "a window of 524288 bytes"),
        "zstd bomb": Case(of(endless, 64), "a group of pages"),
        "zstd skippable frame": Case(
            of(struct.pack("<II", 0x184D2A50, 4) + bytes(4)), "not a Zstandard frame"
        ),
    }


def encoded_cases() -> dict[str, Case]:
    return delta_cases() | copy_cases() | group_cases()
