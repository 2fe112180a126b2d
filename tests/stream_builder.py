# SPDX-License-Identifier: Apache-2.0
"""An independent encoder of the stream, written from docs/stream-format.md.

Frames are in stream_frame, the pages and their encodings in stream_pages;
here is what else a stream is made of, and a writer that keeps the sums.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import zstandard
from stream_frame import (
    ARRIVED,
    BLOCK,
    CONFIG,
    END,
    EPOCH,
    EPOCH_END,
    FUZZY,
    LATE,
    M64,
    OUTSTANDING,
    PAGE,
    PAGES,
    PLACED,
    RANGES,
    REQUEST,
    SEALED,
    SERVED,
    SESSION,
    STATE,
    STREAM,
    Frame,
    encode,
    xxh3,
)
from stream_pages import Entry, hash_of, page_digest, pages


@dataclass(frozen=True)
class Region:
    name: bytes = b"ram"
    gpa: int = 0
    size: int = 4 * BLOCK
    backing: int = PAGE
    kind: int = 1
    reserved: int = 0

    def encode(self) -> bytes:
        return struct.pack(
            "<QQQII32s", self.gpa, self.size, self.backing, self.kind, self.reserved, self.name
        )


def stream(
    regions: Sequence[Region] = (Region(),),
    *,
    version: tuple[int, int] = (1, 2),
    channel: tuple[int, int] = (0, 1),
    session: bytes = SESSION,
    page: int = PAGE,
    block: int = 64,
    count: int | None = None,
    reserved: bytes = bytes(12),
) -> Frame:
    count = len(regions) if count is None else count
    fixed = struct.pack("<HHHH16sIII12s", *version, *channel, session, page, block, count, reserved)
    return Frame(STREAM, fixed + b"".join(region.encode() for region in regions))


def blob(kind: int, body: bytes, body_hash: int | None = None) -> Frame:
    body_hash = xxh3(body) if body_hash is None else body_hash
    return Frame(kind, struct.pack("<Q", body_hash), body)


def config(value: Mapping[str, Any]) -> Frame:
    return blob(CONFIG, json.dumps(value).encode())


def item(
    name: bytes, data: bytes, version: int = 1, flags: int = 0, size: int | None = None
) -> bytes:
    size = len(data) if size is None else size
    return struct.pack("<48sIIQ", name, version, flags, size) + data + bytes(-len(data) % 8)


def state_list(
    items: Sequence[bytes],
    *,
    magic: bytes = b"PMST",
    version: int = 1,
    count: int | None = None,
    reserved: int = 0,
) -> bytes:
    count = len(items) if count is None else count
    return struct.pack("<4sIII", magic, version, count, reserved) + b"".join(items)


def state(*items: bytes) -> Frame:
    return blob(STATE, state_list(items))


def ranges(entries: Sequence[tuple[int, int, int]], *, count: int | None = None) -> Frame:
    """Entries are (region, offset, size)."""
    count = len(entries) if count is None else count
    body = b"".join(struct.pack("<IIQQ", region, 0, at, size) for region, at, size in entries)
    return Frame(RANGES, struct.pack("<II", count, 0) + body, flags=1)


def epoch(number: int, kind: int = FUZZY, reserved: int = 0) -> Frame:
    return Frame(EPOCH, struct.pack("<QII", number, kind, reserved))


@dataclass(frozen=True)
class Stored:
    """A page, and how an entry of PAGES carries it."""

    page: bytes
    encoding: int = 0
    stored: bytes = b""
    span: int = 0
    hash: int | None = None
    reserved: int = 0
    size: int | None = None

    def entry(self) -> bytes:
        digest = xxh3(self.page) if self.hash is None else self.hash
        size = len(self.stored) if self.size is None else self.size
        return struct.pack("<QIBBH", digest, size, self.encoding, self.span, self.reserved)


def stored_pages(
    number: int, contents: Mapping[int, Stored | None], *, region: int = 0, offset: int = 0
) -> Frame:
    """Pages of one block, each with an encoding; None stands for a zero page."""
    full = [stored for _, stored in sorted(contents.items()) if stored is not None]
    mask = sum(1 << page for page in contents)
    zero_mask = sum(1 << page for page, stored in contents.items() if stored is None)
    head = struct.pack("<QQIIQQ", number, offset, region, len(full), mask, zero_mask)
    body = b"".join(stored.stored for stored in full)
    return Frame(PAGES, head + b"".join(stored.entry() for stored in full), body)


def epoch_end(
    number: int, kind: int, frames: int, count: int, digest: int, reserved: int = 0
) -> Frame:
    return Frame(EPOCH_END, struct.pack("<QIIQQQ", number, kind, reserved, frames, count, digest))


def outstanding(
    number: int,
    masks: Sequence[int],
    *,
    region: int = 0,
    offset: int = 0,
    squeeze: bool = False,
    encoding: int | None = None,
    count: int | None = None,
    bitmap_hash: int | None = None,
) -> Frame:
    """Pages of blocks that follow each other from offset on, a mask for each."""
    bitmap = b"".join(struct.pack("<Q", mask) for mask in masks)
    body = zstandard.ZstdCompressor().compress(bitmap) if squeeze else bitmap
    encoding = (5 if squeeze else 0) if encoding is None else encoding
    count = len(masks) if count is None else count
    bitmap_hash = xxh3(bitmap) if bitmap_hash is None else bitmap_hash
    head = struct.pack("<QQIIQQ", number, offset, region, encoding, count, bitmap_hash)
    return Frame(OUTSTANDING, head, body)


def served(waited_ns: int) -> Frame:
    return Frame(SERVED, struct.pack("<Q", waited_ns), flags=1)


def request(pages: int, offset: int = 0, region: int = 0, flags: int = 0) -> Frame:
    """From the receiver: pages of a block."""
    return Frame(REQUEST, struct.pack("<QQII", pages, offset, region, flags))


def end(count: int) -> Frame:
    return Frame(END, struct.pack("<Q", count))


@dataclass
class Writer:
    """Writes a correct channel, keeping count for the frames that sum up."""

    regions: Sequence[Region] = (Region(),)
    channel: tuple[int, int] = (0, 1)
    frames: list[Frame] = field(default_factory=list)
    _number: int = 0
    _kind: int = 0
    _digest: int = 0
    _n_frames: int = 0
    _n_pages: int = 0

    def __post_init__(self) -> None:
        self.frames.append(stream(self.regions, channel=self.channel))

    def add(self, frame: Frame) -> Writer:
        self.frames.append(frame)
        if frame.type == STATE:
            self._digest += xxh3(frame.body)
        return self

    def begin(self, kind: int = FUZZY) -> Writer:
        self._number += 1
        self._kind, self._n_frames, self._n_pages = kind, 0, 0
        return self.add(epoch(self._number, kind))

    def block(
        self,
        contents: Mapping[int, bytes | Entry | None],
        region: int = 0,
        offset: int = 0,
        **lies: Any,
    ) -> Writer:
        frame = pages(self._number, contents, region=region, offset=offset, **lies)
        hashes = lies.get("hashes") or {}
        for page, data in contents.items():
            digest = hashes.get(page, hash_of(data))
            self._digest += page_digest(region, offset // PAGE + page, digest)
        self._n_frames += 1
        self._n_pages += len(contents)
        return self.add(frame)

    def stored(
        self, contents: Mapping[int, Stored | None], region: int = 0, offset: int = 0
    ) -> Writer:
        """A block whose pages have encodings."""
        for page, stored in contents.items():
            digest = 0
            if stored is not None:
                digest = xxh3(stored.page) if stored.hash is None else stored.hash
            self._digest += page_digest(region, offset // PAGE + page, digest)
        self._n_frames += 1
        self._n_pages += len(contents)
        return self.add(stored_pages(self._number, contents, region=region, offset=offset))

    def outstanding(self, masks: Sequence[int], **lies: Any) -> Writer:
        frame = outstanding(self._number, masks, **lies)
        self._digest += struct.unpack_from("<Q", frame.head, 32)[0]
        return self.add(frame)

    def finish(self) -> Writer:
        digest, self._digest = self._digest & M64, 0
        return self.add(epoch_end(self._number, self._kind, self._n_frames, self._n_pages, digest))

    def end(self) -> bytes:
        self.frames.append(end(len(self.frames)))
        return encode(self.frames)


def page_of(number: int) -> bytes:
    """A page that is not zero and differs for each number."""
    return struct.pack("<Q", number + 1) * (PAGE // 8)


def sample() -> list[Frame]:
    """A correct channel that holds every frame type and both epoch kinds."""
    writer = Writer((Region(), Region(b"high", 1 << 32, 2 * BLOCK - 5 * PAGE)))
    writer.add(ranges([(0, 0, BLOCK), (1, PAGE, PAGE)]))
    writer.add(config({"kind": "sample", "vcpus": 2}))
    writer.add(state(item(b"rehearsal", b"early")))
    writer.begin().block({0: page_of(1), 3: None, 63: page_of(2)})
    writer.block({5: page_of(3)}, region=1, offset=BLOCK).finish()
    writer.add(Frame(200, b"from a newer minor version", bytes(100), flags=1))
    writer.begin(SEALED).block({0: None, 1: page_of(4)})
    writer.add(state(item(b"kvm/vcpu0/regs", bytes(range(100)), 3), item(b"x", b"", 1, 1)))
    writer.finish()
    writer.frames.append(end(len(writer.frames)))
    return writer.frames


__all__ = [name for name in dir() if not name.startswith("_")]
__all__ += ["ARRIVED", "BLOCK", "CONFIG", "LATE", "PAGES", "PLACED", "replace"]
