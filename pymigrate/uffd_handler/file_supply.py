# SPDX-License-Identifier: Apache-2.0
"""Pages from a memory file of this host."""

from __future__ import annotations

from collections.abc import Sequence

from pymigrate._engine import Faults, Memory, Push, Restore, RestoreFormat
from pymigrate._memory_file import MemoryFile
from pymigrate.errors import MigrateError
from pymigrate.uffd_handler.handshake import GuestRegion
from pymigrate.uffd_handler.supply import OnExpected, Plan, Supply

__all__ = ["FileSupply"]


class FileSupply(Supply):
    """Pages of a raw memory file.

    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file = MemoryFile(path)
        self.name, self.contents = path, self._file.contents
        self._restore: Restore | None = None

    def check(self, regions: Sequence[GuestRegion]) -> None:
        self._file.check([(region.offset_bytes, region.size_bytes) for region in regions])

    def begin(self, memory: Memory, faults: Faults, plan: Plan, on_expected: OnExpected) -> None:
        self._restore = Restore(
            memory,
            faults,
            self._file.fd,
            RestoreFormat.RAW,
            offsets=[region.gpa for region in memory.regions],
            first_pages=plan.first_pages,
            fill=plan.push is Push.ALL,
            fill_bytes_per_s=plan.bytes_per_s,
            fresh=True,
        )
        on_expected()
        faults.start()
        self._restore.start()

    @property
    def failure(self) -> MigrateError | None:
        # What cannot be read is told to the faults.
        return None

    def close(self) -> None:
        if self._restore is not None:
            self._restore.cancel()
            self._restore.close()
        self._restore = None
        self._file.close()
