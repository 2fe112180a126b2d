# SPDX-License-Identifier: Apache-2.0
"""The VMM's memory as the engine sees it: regions that are elsewhere."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

from pymigrate._engine import Memory, Region
from pymigrate.uffd_handler.handshake import GuestRegion

__all__ = ["ForeignMemory"]

MAP_NORESERVE = 0x4000
PROT_NONE = 0


class ForeignMemory:
    """Regions of another process, numbered as they lie in the memory file.

    The engine wants an address for every region. Theirs are reserved and
    inaccessible, so that whatever would look there fails at once.

    :ivar memory: guest physical addresses are offsets in the memory file.
    :ivar bases: of the regions in the other process.
    """

    def __init__(self, regions: Sequence[GuestRegion]) -> None:
        self._reserved = [_reserve(region) for region in regions]
        self.memory = Memory(
            [
                Region(
                    gpa=region.offset_bytes,
                    size_bytes=region.size_bytes,
                    hva=_aligned(reserved, region.page_size_bytes),
                    page_size_bytes=region.page_size_bytes,
                    name=f"ram{number}",
                )
                for number, (region, reserved) in enumerate(
                    zip(regions, self._reserved, strict=True)
                )
            ]
        )
        self.bases = tuple(region.base for region in regions)

    def close(self) -> None:
        """Idempotent; close the faults before."""
        self.memory.close()
        for reserved in self._reserved:
            reserved.close()
        self._reserved = []


class _Reserved:
    """Address space that nothing lies in."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self.address = 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        found = _libc().mmap(None, size_bytes, PROT_NONE, flags, -1, 0)
        if found == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"no address space for {size_bytes} bytes")
        self.address = int(found)

    def close(self) -> None:
        if self.address:
            _libc().munmap(self.address, self._size_bytes)
        self.address = 0


def _reserve(region: GuestRegion) -> _Reserved:
    return _Reserved(region.size_bytes + region.page_size_bytes)


def _aligned(reserved: _Reserved, page_size_bytes: int) -> int:
    return -(-reserved.address // page_size_bytes) * page_size_bytes


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
