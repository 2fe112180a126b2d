# SPDX-License-Identifier: Apache-2.0
"""What pages hold, for those that rest on it.

A page that travels as its changed lines, or as a copy, is made of what the
decoder has. Where that is kept depends on who decodes: in the files that are
extracted, in a temporary file, or nowhere where nothing rests on it.
"""

from __future__ import annotations

import contextlib
import tempfile
from array import array
from typing import BinaryIO, Protocol

from .wire import (
    BLOCK_BYTES,
    BLOCK_PAGES,
    HEADER,
    MAGIC,
    MAX_HEAD_BYTES,
    PAGE_BYTES,
    PAGE_ENTRY,
    PAGES_HEAD,
    RESTING,
    FrameType,
)

# Streams smaller than this leave no file.
_IN_MEMORY_BYTES = 4 << 20
_ZERO_PAGE = bytes(PAGE_BYTES)
# Where the encoding is in an entry of PAGES.
_ENCODING_AT = 12


class PageSink(Protocol):
    """Receives page contents, in stream order. Offsets are in bytes."""

    def page(self, region: int, offset: int, data: memoryview) -> None: ...

    def zero(self, region: int, offset: int) -> None: ...


class Contents(PageSink, Protocol):
    """A sink that can be asked for what it received; zeros before that."""

    def read(self, region: int, offset: int) -> bytes: ...


class Spool:
    """Keeps pages in a temporary file, as large as the pages that came.

    :raises OSError: there is no room for them.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        # For each block, the slots of its pages in the file, from 1 on.
        self._slots: dict[tuple[int, int], array[int]] = {}
        self._last = 0

    def page(self, region: int, offset: int, data: memoryview) -> None:
        slots, page = self._find(region, offset)
        if not slots[page]:
            self._last += 1
            slots[page] = self._last
        try:
            self._file.seek((slots[page] - 1) * PAGE_BYTES)
            self._file.write(data)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot keep the pages that others rest on: {error.strerror}; "
                "make room there, or set TMPDIR to another directory",
                tempfile.gettempdir(),
            ) from error

    def zero(self, region: int, offset: int) -> None:
        slots, page = self._find(region, offset)
        slots[page] = 0

    def read(self, region: int, offset: int) -> bytes:
        slots, page = self._find(region, offset)
        if not slots[page]:
            return _ZERO_PAGE
        self._file.seek((slots[page] - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def _find(self, region: int, offset: int) -> tuple[array[int], int]:
        start = offset - offset % BLOCK_BYTES
        slots = self._slots.get((region, start))
        if slots is None:
            slots = self._slots[region, start] = array("I", bytes(4 * BLOCK_PAGES))
        return slots, (offset - start) // PAGE_BYTES

    def close(self) -> None:
        """Give the file back; idempotent."""
        with contextlib.suppress(OSError):  # of what could not be written
            self._file.close()
        self._slots.clear()


class Nothing:
    """Keeps nothing, for streams in which nothing rests on earlier pages."""

    def page(self, region: int, offset: int, data: memoryview) -> None: ...

    def zero(self, region: int, offset: int) -> None: ...

    def read(self, region: int, offset: int) -> bytes:
        raise RuntimeError("the contents of earlier pages were not kept")

    def close(self) -> None: ...


def rests_on_contents(source: BinaryIO) -> bool:
    """Does a page need an earlier version, or another page?

    Looks at the heads only, and leaves the source where it was. What cannot
    be looked at twice, a pipe, has to be taken for one that does. Stops at
    the first frame that is none: no decoder gets further.
    """
    if not source.seekable():
        return True
    start = source.tell()
    try:
        while (found := _next_frame_rests(source)) is not None:
            if found:
                return True
        return False
    finally:
        source.seek(start)


def _next_frame_rests(source: BinaryIO) -> bool | None:
    """Of one frame; None when there is no further one."""
    raw = source.read(HEADER.size)
    if len(raw) < HEADER.size:
        return None
    magic, _, _, kind, _, _, head_bytes, body_bytes, _, _ = HEADER.unpack(raw)
    if magic != MAGIC or head_bytes > MAX_HEAD_BYTES:
        return None
    head = source.read(head_bytes)
    source.seek(body_bytes, 1)
    if kind != FrameType.PAGES:
        return False
    encodings = head[PAGES_HEAD.size + _ENCODING_AT :: PAGE_ENTRY.size]
    return any(encoding in RESTING for encoding in encodings)
