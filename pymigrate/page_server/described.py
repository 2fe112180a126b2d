# SPDX-License-Identifier: Apache-2.0
"""The memory that a client describes, as parts of the served file."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymigrate._engine import PAGE_BYTES, Memory, Region, ffi, lib
from pymigrate._memory_file import Extent, MemoryFile
from pymigrate.errors import HandshakeError
from pymigrate.protocol import Describe

__all__ = ["FileMemory", "MemoryDescription"]

KIND = "memory-file"
MAX_CHANNELS = 64
MAX_REGIONS = 1024


@dataclass(frozen=True)
class MemoryDescription:
    """What DESCRIBE says.

    :ivar memory: the regions, as they were described.
    :ivar extents: of the file, one for each.
    :ivar channels: the last one is urgent.
    :ivar encodings: bit e: the client reads encoding e.
    """

    memory: tuple[dict[str, Any], ...]
    extents: tuple[Extent, ...]
    channels: int
    encodings: int

    @staticmethod
    def of(describe: Describe) -> MemoryDescription:
        """Read it.

        :raises HandshakeError: it is not what can be served.
        """
        found = describe.description
        if found.get("kind") != KIND or not describe.late:
            raise HandshakeError(f"this is a page server, and {found.get('kind')!r} is not pages")
        if describe.stream_major != lib.PMIG_STREAM_VERSION_MAJOR:
            raise HandshakeError(f"stream version {describe.stream_major} is not spoken here")
        if not 2 <= describe.channels <= MAX_CHANNELS:
            raise HandshakeError(f"{describe.channels} channels, 2 to {MAX_CHANNELS} are possible")
        memory = found.get("memory")
        if not isinstance(memory, list) or not 1 <= len(memory) <= MAX_REGIONS:
            raise HandshakeError("the description names no regions of memory")
        encodings = found.get("encodings")
        return MemoryDescription(
            tuple(memory),
            tuple(_extent(region) for region in memory),
            describe.channels,
            encodings if isinstance(encodings, int) else 1,
        )


def _extent(region: Any) -> Extent:
    found = region if isinstance(region, Mapping) else {}
    offset, size = found.get("gpa"), found.get("size_bytes")
    if not isinstance(offset, int) or not isinstance(size, int):
        raise HandshakeError("a region of memory has no place in the file")
    if offset < 0 or size <= 0 or offset % PAGE_BYTES or size % PAGE_BYTES:
        raise HandshakeError(f"a region of {size} bytes at {offset:#x} has no whole pages")
    return offset, size


class FileMemory:
    """Parts of a file, mapped to be read, as guest memory.

    :raises OSError: they cannot be mapped.
    :raises EngineError: they overlap.
    """

    def __init__(self, file: MemoryFile, extents: tuple[Extent, ...]) -> None:
        self._maps: list[mmap.mmap] = []
        self._views: list[Any] = []
        try:
            for offset, size in extents:
                self._maps.append(
                    mmap.mmap(file.fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
                )
            self._views = [ffi.from_buffer(mapped) for mapped in self._maps]
            self.memory = Memory(
                [
                    Region(
                        gpa=offset,
                        size_bytes=size,
                        hva=int(ffi.cast("uintptr_t", view)),
                        fd=file.fd,
                        fd_offset_bytes=offset,
                        shared=True,
                        name=f"ram{number}",
                    )
                    for number, ((offset, size), view) in enumerate(
                        zip(extents, self._views, strict=True)
                    )
                ]
            )
        except BaseException:
            self._unmap()
            raise

    def _unmap(self) -> None:
        for view in self._views:
            ffi.release(view)
        for mapped in self._maps:
            mapped.close()
        self._views, self._maps = [], []

    def close(self) -> None:
        """Idempotent."""
        if self._maps:
            self.memory.close()
        self._unmap()
