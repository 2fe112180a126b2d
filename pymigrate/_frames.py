# SPDX-License-Identifier: Apache-2.0
"""The frame header that the stream and the control protocol share.

docs/stream-format.md, "Frame", is the specification. Pure Python.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from pymigrate.errors import ProtocolError

__all__ = [
    "HEADER_BYTES",
    "MAX_BODY_BYTES",
    "MAX_HEAD_BYTES",
    "SKIPPABLE",
    "Header",
    "check_head",
    "pack",
    "parse",
]

MAGIC = b"PMIG"
_PREFIX = struct.Struct("<4sIQ")
# type, flags, reserved, head_bytes, body_bytes, reserved, sequence
_COVERED = struct.Struct("<BBHIIIQ")
HEADER_BYTES = _PREFIX.size + _COVERED.size
assert HEADER_BYTES == 40
MAX_HEAD_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20
SKIPPABLE = 1


@dataclass(frozen=True)
class Header:
    """A parsed header whose head has not been checked yet."""

    type: int
    flags: int
    head_bytes: int
    body_bytes: int
    sequence: int
    checksum: int
    covered: bytes


def pack(frame_type: int, head: bytes, body_bytes: int, sequence: int, flags: int = 0) -> bytes:
    """Header and head of a frame, ready to be followed by its body."""
    if len(head) > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ProtocolError(
            f"a frame of {len(head)} + {body_bytes} bytes is larger than the format allows"
        )
    covered = _COVERED.pack(frame_type, flags, 0, len(head), body_bytes, 0, sequence)
    checksum = xxhash.xxh3_64_intdigest(covered + head)
    return _PREFIX.pack(MAGIC, 0, checksum) + covered + head


def parse(data: bytes) -> Header:
    """Read the HEADER_BYTES of a header; checks magic, reserved, sizes.

    :raises ProtocolError: with what is wrong.
    """
    magic, reserved_a, checksum = _PREFIX.unpack_from(data)
    covered = data[_PREFIX.size : HEADER_BYTES]
    kind, flags, reserved_b, head, body, reserved_c, sequence = _COVERED.unpack(covered)
    if magic != MAGIC:
        raise ProtocolError(f"no frame begins here: {magic!r} instead of {MAGIC!r}")
    if head > MAX_HEAD_BYTES or body > MAX_BODY_BYTES:
        raise ProtocolError(f"frame of type {kind} claims {head} + {body} bytes: too large")
    if reserved_a or reserved_b or reserved_c or flags & ~SKIPPABLE:
        raise ProtocolError(f"frame of type {kind} has reserved bits set")
    return Header(kind, flags, head, body, sequence, checksum, covered)


def check_head(header: Header, head: bytes, sequence: int) -> None:
    """Compare checksum and sequence once the head was read."""
    if xxhash.xxh3_64_intdigest(header.covered + head) != header.checksum:
        raise ProtocolError(f"frame of type {header.type} fails its checksum")
    if header.sequence != sequence:
        raise ProtocolError(
            f"frame of type {header.type} has sequence {header.sequence}, expected {sequence}"
        )
