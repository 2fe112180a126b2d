# SPDX-License-Identifier: Apache-2.0
"""PAGES frames and every encoding of a page, from docs/stream-format.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lz4.block
import zstandard
from stream_frame import PAGE, PAGES, Frame, xxh3

RAW, UNCHANGED, DELTA, COPY, LZ4, ZSTD = range(6)
LINE = 64


@dataclass(frozen=True)
class Entry:
    """How one page travels; every field can be made a lie with replace().

    :ivar hash: of the page that the decoder must end up with.
    :ivar stored: the stored_bytes of the entry; None is the size of the body.
    """

    encoding: int
    hash: int
    body: bytes = b""
    span: int = 0
    reserved: bytes = bytes(2)
    stored: int | None = None

    def encode(self) -> bytes:
        stored = len(self.body) if self.stored is None else self.stored
        return struct.pack("<QIBB2s", self.hash, stored, self.encoding, self.span, self.reserved)


def raw(page: bytes) -> Entry:
    return Entry(RAW, xxh3(page), page)


def unchanged(page: bytes) -> Entry:
    return Entry(UNCHANGED, xxh3(page))


def changed_lines(before: bytes, after: bytes) -> int:
    """Bit l is set where line l differs."""
    lines = range(0, PAGE, LINE)
    return sum(1 << at // LINE for at in lines if before[at : at + LINE] != after[at : at + LINE])


def delta(before: bytes, after: bytes, mask: int | None = None) -> Entry:
    """The lines that changed; a mask of more lines is right as well."""
    mask = changed_lines(before, after) if mask is None else mask
    lines = [after[n * LINE : (n + 1) * LINE] for n in range(PAGE // LINE) if mask >> n & 1]
    return Entry(DELTA, xxh3(after), struct.pack("<Q", mask) + b"".join(lines))


def copy(page: bytes, offset: int, region: int = 0, reserved: int = 0) -> Entry:
    """What the page at offset bytes of region holds, which is page."""
    return Entry(COPY, xxh3(page), struct.pack("<IIQ", region, reserved, offset))


def group(encoding: int, pages: Sequence[bytes], body: bytes) -> list[Entry]:
    """Pages that travel in one compressed body."""
    followers = [Entry(encoding, xxh3(page)) for page in pages[1:]]
    return [Entry(encoding, xxh3(pages[0]), body, len(pages)), *followers]


def lz4_group(*pages: bytes) -> list[Entry]:
    return group(LZ4, pages, lz4.block.compress(b"".join(pages), store_size=False))


def zstd_group(*pages: bytes, level: int = 1, checksum: bool = False) -> list[Entry]:
    squeeze = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
    return group(ZSTD, pages, squeeze.compress(b"".join(pages)))


def at(first: int, entries: Sequence[Entry]) -> dict[int, Entry]:
    """Entries on pages that follow each other."""
    return dict(enumerate(entries, first))


def hash_of(content: bytes | Entry | None) -> int:
    """What a page adds to the digest: its hash, 0 for a zero page."""
    if content is None:
        return 0
    return content.hash if isinstance(content, Entry) else xxh3(content)


def page_digest(region: int, page: int, page_hash: int) -> int:
    return xxh3(struct.pack("<QQQ", region, page, page_hash))


def pages(
    number: int,
    contents: Mapping[int, bytes | Entry | None],
    *,
    region: int = 0,
    offset: int = 0,
    hashes: Mapping[int, int] | None = None,
    mask: int | None = None,
    zero_mask: int | None = None,
    count: int | None = None,
    encoding: int = RAW,
    stored: int | None = None,
    reserved: bytes = bytes(2),
) -> Frame:
    """Pages of one block by number.

    None stands for a zero page, bytes for a page that travels raw: what is
    said of encoding, hash and size is said of these.
    """
    entries = []
    for page, content in sorted(contents.items()):
        if isinstance(content, Entry):
            entries.append(content)
        elif content is not None:
            page_hash = (hashes or {}).get(page, xxh3(content))
            entries.append(Entry(encoding, page_hash, content, 0, reserved, stored))
    if mask is None:
        mask = sum(1 << page for page in contents)
    if zero_mask is None:
        zero_mask = sum(1 << page for page, content in contents.items() if content is None)
    count = len(entries) if count is None else count
    head = struct.pack("<QQIIQQ", number, offset, region, count, mask, zero_mask)
    head += b"".join(entry.encode() for entry in entries)
    return Frame(PAGES, head, b"".join(entry.body for entry in entries))
