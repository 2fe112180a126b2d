# SPDX-License-Identifier: Apache-2.0
"""Cut an input into frames, checking every header and checksum.

Memory is bounded by the largest head (1 MiB) plus the largest body (64 MiB);
an unknown skippable body is dropped in pieces.
"""

from __future__ import annotations

from typing import BinaryIO, NoReturn

from .wire import (
    CHECKSUM_FROM,
    FLAG_SKIPPABLE,
    HEADER,
    MAGIC,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    FrameType,
    Header,
    StreamError,
    xxh3,
)

_DROP_BYTES = 1 << 20


class FrameReader:
    """Reads one channel, front to back, from anything with ``read(n)``."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.offset = 0
        self.sequence = 0
        self._frame_offset = 0

    def fail(self, reason: str) -> NoReturn:
        """Raise for the frame that is being read."""
        raise StreamError(self._frame_offset, self.sequence, reason)

    def next(self) -> tuple[Header, bytes]:
        """The next header and its head; the body is still to be read."""
        self._frame_offset = self.offset
        raw = self._read_header()
        magic, pad, checksum, kind, flags, pad2, head_bytes, body_bytes, pad3, sequence = (
            HEADER.unpack(raw)
        )
        if magic != MAGIC:
            self._fail_magic(magic)
        if head_bytes > MAX_HEAD_BYTES:
            self.fail(f"head of {head_bytes} bytes is over the limit of {MAX_HEAD_BYTES}")
        if body_bytes > MAX_BODY_BYTES:
            self.fail(f"body of {body_bytes} bytes is over the limit of {MAX_BODY_BYTES}")
        head = self._read(head_bytes, "head")
        found = xxh3(raw[CHECKSUM_FROM:] + head)
        if found != checksum:
            self.fail(f"checksum is {found:016x}, the header says {checksum:016x}")
        if sequence != self.sequence:
            self.fail(f"sequence number is {sequence}, expected {self.sequence}")
        if pad or pad2 or pad3 or flags & ~FLAG_SKIPPABLE:
            self.fail("reserved bits of the header are set")
        return (
            Header(self._frame_offset, kind, flags, head_bytes, body_bytes, sequence),
            head,
        )

    def body(self, header: Header) -> memoryview:
        """The body of the frame whose header was read last."""
        return memoryview(self._read(header.body_bytes, "body"))

    def drop_body(self, header: Header) -> None:
        """Read past the body without keeping it."""
        left = header.body_bytes
        while left:
            piece = min(left, _DROP_BYTES)
            self._read(piece, "body")
            left -= piece

    def finish_frame(self) -> None:
        """The frame is complete: count it."""
        self.sequence += 1

    def expect_end_of_input(self) -> None:
        """After END there must be nothing."""
        self._frame_offset = self.offset
        if self._source.read(1):
            self.fail("there are bytes after the END frame")

    def _read_header(self) -> bytes:
        raw = self._read_up_to(HEADER.size)
        if len(raw) == HEADER.size:
            return raw
        if not raw.startswith(MAGIC[: len(raw)]):
            self._fail_magic(raw[:4])
        if raw:
            self._fail_cut(len(raw), HEADER.size, "header")
        if self.sequence == 0:
            self.fail("the input is empty")
        self.fail("the stream was cut off: it stops without an END frame")

    def _read(self, n_bytes: int, part: str) -> bytes:
        data = self._read_up_to(n_bytes)
        if len(data) != n_bytes:
            self._fail_cut(len(data), n_bytes, part)
        return data

    def _read_up_to(self, n_bytes: int) -> bytes:
        """read() of a pipe may be short although more is to come."""
        data = self._source.read(n_bytes) or b""
        self.offset += len(data)
        if len(data) == n_bytes or not data:
            return data
        parts = [data]
        left = n_bytes - len(data)
        while left and (data := self._source.read(left) or b""):
            self.offset += len(data)
            left -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _fail_magic(self, found: bytes) -> NoReturn:
        if self.sequence == 0:
            self.fail("not a pymigrate stream: it does not begin with PMIG")
        self.fail(f"a frame must begin with PMIG, found {found.hex(' ')}")

    def _fail_cut(self, got: int, wanted: int, part: str) -> NoReturn:
        self.fail(f"the stream was cut off: {got} of {wanted} bytes of the {part} are there")


def known_type(header: Header) -> FrameType | None:
    """The type of a frame, None where this decoder does not know it."""
    try:
        return FrameType(header.type)
    except ValueError:
        return None
