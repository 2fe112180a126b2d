# SPDX-License-Identifier: Apache-2.0
"""A raw memory file: which bytes of it hold something, and what tells it apart."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from pymigrate._engine import BLOCK_BYTES, PAGE_BYTES
from pymigrate.errors import HandshakeError

__all__ = ["Extent", "MemoryFile", "count_pages"]

# First byte and size of a part of the file.
Extent = tuple[int, int]


class MemoryFile:
    """An open file, read only. It must not change while it is served.

    :raises OSError: it cannot be opened, or is no regular file.
    :ivar contents: its size and when it was last written: a copy that keeps
        the time has the same.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "not a regular file", path)
        self.size_bytes = status.st_size
        self.contents = f"{status.st_size}:{status.st_mtime_ns}"

    def check(self, extents: Sequence[Extent]) -> None:
        """Regions of memory lie at these places.

        :raises HandshakeError: one of them does not.
        """
        for number, (offset, size) in enumerate(extents):
            if offset + size > self.size_bytes:
                raise HandshakeError(
                    f"{self.path} has {self.size_bytes} bytes, and region {number} of the "
                    f"memory, at {offset:#x}, ends at {offset + size}: it belongs to another VM"
                )

    def held(self, extents: Sequence[Extent]) -> bytes:
        """A bit for each page that is no hole of the file.

        Eight bytes for each block of a region, regions in their order.
        """
        return b"".join(self._held(extent) for extent in extents)

    def _held(self, extent: Extent) -> bytes:
        offset, size = extent
        bits = bytearray(8 * -(-size // BLOCK_BYTES))
        for begin, end in self._data(offset, offset + size):
            first = (begin - offset) // PAGE_BYTES
            behind = -(-(end - offset) // PAGE_BYTES)
            _set_bits(bits, first, behind)
        return bytes(bits)

    def _data(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where there is data between two offsets."""
        at = begin
        while at < end:
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            if data >= end:
                return
            at = os.lseek(self.fd, data, os.SEEK_HOLE)
            yield data, min(at, end)

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _set_bits(bits: bytearray, first: int, behind: int) -> None:
    """Bit n is bit n % 8 of byte n // 8: little-endian words of 64 bits."""
    while first < behind and first % 8:
        bits[first // 8] |= 1 << first % 8
        first += 1
    whole = (behind - first) // 8
    if whole > 0:
        bits[first // 8 : first // 8 + whole] = b"\xff" * whole
        first += 8 * whole
    while first < behind:
        bits[first // 8] |= 1 << first % 8
        first += 1


def count_pages(words: bytes) -> int:
    """Bits that are set."""
    return int.from_bytes(words, "little").bit_count()
