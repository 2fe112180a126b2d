# SPDX-License-Identifier: Apache-2.0
"""The layout of a stream, transcribed from docs/stream-format.md.

Nothing here comes from the C code: the inspector is an oracle for it, so the
two may share the specification and nothing else.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import NamedTuple

import xxhash

MAGIC = b"PMIG"
PAGE_BYTES = 4096
BLOCK_PAGES = 64
BLOCK_BYTES = PAGE_BYTES * BLOCK_PAGES
LINE_BYTES = 64
PAGE_LINES = PAGE_BYTES // LINE_BYTES
MAX_WINDOW_BYTES = 262144
MAX_HEAD_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20
MAX_CHANNELS = 64
MAX_REGIONS = 1024
MASK64 = (1 << 64) - 1

FLAG_SKIPPABLE = 1
REGION_RAM = 1

HEADER = struct.Struct("<4sIQBBHIIIQ")
CHECKSUM_FROM = 16
STREAM_HEAD = struct.Struct("<HHHH16sIII12s")
REGION = struct.Struct("<QQQII32s")
BLOB_HEAD = struct.Struct("<Q")
EPOCH_HEAD = struct.Struct("<QII")
PAGES_HEAD = struct.Struct("<QQIIQQ")
PAGE_ENTRY = struct.Struct("<QIBBH")
DELTA_MASK = struct.Struct("<Q")
COPY = struct.Struct("<IIQ")
EPOCH_END_HEAD = struct.Struct("<QIIQQQ")
END_HEAD = struct.Struct("<Q")
RANGES_HEAD = struct.Struct("<II")
RANGE = struct.Struct("<IIQQ")
OUTSTANDING_HEAD = struct.Struct("<QQIIQQ")
SERVED_HEAD = struct.Struct("<Q")
MAX_OUTSTANDING_BLOCKS = 1 << 15
DIGEST_INPUT = struct.Struct("<QQQ")

STATE_MAGIC = b"PMST"
STATE_VERSION = 1
MAX_STATE_ITEMS = 65536
STATE_HEAD = struct.Struct("<4sIII")
STATE_ITEM = struct.Struct("<48sIIQ")

# XXH3-64, seed 0, default secret.
xxh3: Callable[[bytes | memoryview], int] = xxhash.xxh3_64_intdigest


class FrameType(enum.IntEnum):
    """Known frame types."""

    STREAM = 1
    CONFIG = 2
    EPOCH = 3
    PAGES = 4
    STATE = 5
    EPOCH_END = 6
    END = 7
    RANGES = 8
    OUTSTANDING = 9
    REQUEST = 10
    SERVED = 11
    ARRIVED = 12
    PLACED = 14


class EpochKind(enum.IntEnum):
    """What an epoch means on its own."""

    FUZZY = 1
    SEALED = 2
    LATE = 3


class Encoding(enum.IntEnum):
    """How a page is stored in the body of a PAGES frame."""

    RAW = 0
    UNCHANGED = 1
    DELTA = 2
    COPY = 3
    LZ4 = 4
    ZSTD = 5


# The page that these give depends on what the decoder has.
RESTING = frozenset({Encoding.UNCHANGED, Encoding.DELTA, Encoding.COPY})
# Pages may be compressed together.
GROUPED = frozenset({Encoding.LZ4, Encoding.ZSTD})


class Header(NamedTuple):
    """One frame header, after its checks."""

    offset: int
    type: int
    flags: int
    head_bytes: int
    body_bytes: int
    sequence: int

    @property
    def skippable(self) -> bool:
        return bool(self.flags & FLAG_SKIPPABLE)

    @property
    def type_name(self) -> str:
        try:
            return FrameType(self.type).name
        except ValueError:
            return f"type {self.type}"


class StreamError(Exception):
    """What was read is not a valid stream.

    ``offset`` is the byte offset of the frame (or of the end of the input)
    and ``sequence`` the number of that frame on the channel.
    """

    def __init__(self, offset: int, sequence: int, reason: str) -> None:
        super().__init__(f"at byte {offset}, frame {sequence}: {reason}")
        self.offset = offset
        self.sequence = sequence
        self.reason = reason
