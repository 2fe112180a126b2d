# SPDX-License-Identifier: Apache-2.0
"""Frames of the stream, written from docs/stream-format.md.

It shares nothing with the inspector or the C core, and it can be told to lie
in every field: a frame is a :class:`Frame` until :func:`encode` gives it its
sequence number and checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

PAGE = 4096
BLOCK = 64 * PAGE
STREAM, CONFIG, EPOCH, PAGES, STATE, EPOCH_END, END, RANGES = range(1, 9)
OUTSTANDING, REQUEST, SERVED, ARRIVED = range(9, 13)
PLACED = 14
FUZZY, SEALED, LATE = 1, 2, 3
SESSION = bytes(range(1, 17))
M64 = (1 << 64) - 1


def xxh3(data: bytes) -> int:
    return int(xxhash.xxh3_64_intdigest(data))


@dataclass(frozen=True)
class Frame:
    """A frame; what is None is filled in with the right value."""

    type: int
    head: bytes = b""
    body: bytes = b""
    flags: int = 0
    magic: bytes = b"PMIG"
    reserved: tuple[int, int, int] = (0, 0, 0)
    head_bytes: int | None = None
    body_bytes: int | None = None
    sequence: int | None = None
    checksum: int | None = None

    def encode(self, sequence: int) -> bytes:
        tail = struct.pack(
            "<BBHIIIQ",
            self.type,
            self.flags,
            self.reserved[1],
            len(self.head) if self.head_bytes is None else self.head_bytes,
            len(self.body) if self.body_bytes is None else self.body_bytes,
            self.reserved[2],
            sequence if self.sequence is None else self.sequence,
        )
        checksum = xxh3(tail + self.head) if self.checksum is None else self.checksum
        start = struct.pack("<4sIQ", self.magic, self.reserved[0], checksum)
        return start + tail + self.head + self.body


def encode(frames: Iterable[Frame]) -> bytes:
    return b"".join(frame.encode(number) for number, frame in enumerate(frames))
