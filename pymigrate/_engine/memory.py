# SPDX-License-Identifier: Apache-2.0
"""Guest memory: regions and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["BLOCK_BYTES", "BLOCK_PAGES", "PAGE_BYTES", "Memory", "Region"]

PAGE_BYTES: int = lib.PMIG_PAGE_BYTES
BLOCK_PAGES: int = lib.PMIG_BLOCK_PAGES
BLOCK_BYTES: int = lib.PMIG_BLOCK_BYTES


@dataclass(frozen=True)
class Region:
    """One piece of guest physical memory, mapped in this process.

    :ivar gpa: first guest physical address, a multiple of 4096.
    :ivar size_bytes: a multiple of 4096, not 0.
    :ivar hva: address of the mapping of the whole region.
    :ivar page_size_bytes: of the backing.
    :ivar fd: memfd or hugetlbfs file behind it, or -1; stays the caller's.
    :ivar fd_offset_bytes: of the region's first byte in fd.
    :ivar shared: mapped MAP_SHARED from fd.
    :ivar owner: kept referenced as long as the memory is open.
    """

    gpa: int
    size_bytes: int
    hva: int
    page_size_bytes: int = 4096
    fd: int = -1
    fd_offset_bytes: int = 0
    shared: bool = False
    name: str = "ram"
    owner: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of_buffer(
        cls, buffer: Any, gpa: int = 0, *, fd: int = -1, shared: bool = False, name: str = "ram"
    ) -> Region:
        """A region over a writable buffer (an mmap) of page-aligned address.

        The buffer cannot be closed before the :class:`Memory` made of it.
        """
        view = ffi.from_buffer(buffer, require_writable=True)
        return cls(
            gpa=gpa,
            size_bytes=len(view),
            hva=int(ffi.cast("uintptr_t", view)),
            fd=fd,
            shared=shared,
            name=name,
            owner=view,
        )

    def describe(self) -> dict[str, Any]:
        """The part of a region that a peer must match."""
        return {
            "gpa": self.gpa,
            "size_bytes": self.size_bytes,
            "page_size_bytes": self.page_size_bytes,
            "name": self.name,
        }


class Memory(Handle):
    """The memory of one machine; its mappings and fds must outlive it."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
        self._users: list[tuple[Callable[[], None], Callable[[], object]]] = []
        table = ffi.new("struct pmig_region[]", max(1, len(self.regions)))
        for entry, region in zip(table, self.regions, strict=False):
            _fill(entry, region)
        out, err = ffi.new("struct pmig_memory **"), new_error()
        check(lib.pmig_memory_new(table, len(self.regions), out, err), err)
        super().__init__(out[0], lib.pmig_memory_free)

    @property
    def size_bytes(self) -> int:
        return int(lib.pmig_memory_bytes(self.pointer))

    @property
    def blocks(self) -> int:
        return int(lib.pmig_memory_blocks(self.pointer))

    def describe(self) -> list[dict[str, Any]]:
        """The regions, JSON-able."""
        return [region.describe() for region in self.regions]

    def present(self, first_block: int = 0, n_blocks: int | None = None) -> list[int]:
        """One 64-bit word per block: bit p set where page p is allocated."""
        n = self.blocks - first_block if n_blocks is None else n_blocks
        bitmap, err = ffi.new("uint64_t[]", max(1, n)), new_error()
        check(lib.pmig_memory_present(self.pointer, first_block, n, bitmap, err), err)
        return list(ffi.unpack(bitmap, n)) if n else []

    def populate(self, first_block: int = 0, n_blocks: int | None = None) -> None:
        """Allocate backing pages ahead of writes; contents are kept."""
        n = self.blocks - first_block if n_blocks is None else n_blocks
        err = new_error()
        check(lib.pmig_memory_populate(self.pointer, first_block, n, err), err)

    def discard(self, first_block: int = 0, n_blocks: int | None = None) -> None:
        """Give backing pages back; they read as zero afterwards."""
        n = self.blocks - first_block if n_blocks is None else n_blocks
        err = new_error()
        check(lib.pmig_memory_discard(self.pointer, first_block, n, err), err)

    def hash(self, first_block: int, n_blocks: int) -> bytes:
        """XXH3-64 of every page, 8 little-endian bytes each; 0 for zero pages."""
        count = n_blocks * BLOCK_PAGES
        hashes, err = ffi.new("uint64_t[]", max(1, count)), new_error()
        check(lib.pmig_memory_hash(self.pointer, first_block, n_blocks, hashes, err), err)
        return bytes(ffi.buffer(hashes, 8 * count))

    def lend(self, close: Callable[[], None], settle: Callable[[], object]) -> None:
        """Its contents are brought, on threads that use it.

        :param close: ends that; close() here does it first.
        :param settle: waits until all of them are there.
        """
        self._users.append((close, settle))

    def settle(self) -> None:
        """Wait until its contents are there: until then what is missing looks
        like a hole, which is neither sent nor hashed.

        :raises EngineError: they never will be, and why.
        """
        for _, settle in self._users:
            settle()

    def close(self) -> None:
        """Forget the memory; the mappings stay the caller's."""
        while self._users:
            self._users.pop()[0]()
        super().close()
        self.regions = ()


def _fill(entry: Any, region: Region) -> None:
    name = region.name.encode()
    if len(name) >= lib.PMIG_NAME_BYTES:
        raise ValueError(f"region name {region.name!r} is longer than 31 bytes")
    entry.struct_size = ffi.sizeof("struct pmig_region")
    entry.kind = lib.PMIG_REGION_RAM
    entry.gpa = region.gpa
    entry.size_bytes = region.size_bytes
    entry.page_size_bytes = region.page_size_bytes
    entry.hva = ffi.cast("void *", region.hva)
    entry.fd = region.fd
    entry.flags = lib.PMIG_REGION_SHARED if region.shared else 0
    entry.fd_offset_bytes = region.fd_offset_bytes
    entry.name = name
