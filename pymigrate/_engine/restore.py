# SPDX-License-Identifier: Apache-2.0
"""A guest that runs while its memory comes from a file."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pymigrate._engine.faults import Faults
from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["Restore", "RestoreFigures", "RestoreFormat"]


class RestoreFormat(IntEnum):
    """What a file holds.

    STREAM: one channel of a stream, with a sealed epoch at its end. RAW:
    memory as it is, each region in one piece; holes are zeros.
    """

    STREAM = 1
    RAW = 2


@dataclass(frozen=True)
class RestoreFigures:
    """As ``struct pmig_restore_report``.

    :ivar prefetch_ns: from the start until the first pages were here; 0:
        they are not.
    """

    has_index: int
    stored_pages: int
    frames: int
    index_ns: int
    answered_pages: int
    prefetched_pages: int
    filled_pages: int
    prefetch_ns: int
    read_bytes: int


class Restore(Handle):
    """Answers faults from a file; memory, faults and the file outlive it.

    All pages that the file holds are missing in faults once it is made.
    Then faults.start(), start(), and the guest may run.

    :param fd: readable, a regular file that nobody changes meanwhile.
    :param offsets: RAW: where each region begins in the file, in bytes.
    :param first_pages: to be read before any others, in this order.
    :param fill: also read what is not touched; False: not before fill().
    :param fill_bytes_per_s: at most so fast; 0: no limit.
    :param fresh: the memory is known to be untouched, do not discard it.
    :raises EngineError: the file is damaged, cut off, or of another machine.
    """

    def __init__(
        self,
        memory: Memory,
        faults: Faults,
        fd: int,
        format: RestoreFormat = RestoreFormat.STREAM,
        *,
        offsets: Sequence[int] = (),
        first_pages: Sequence[int] = (),
        fill: bool = True,
        fill_bytes_per_s: int = 0,
        fresh: bool = False,
    ) -> None:
        self._kept: Any = (memory, faults)
        starts = ffi.new("uint64_t[]", list(offsets))
        pages = ffi.from_buffer("uint64_t[]", array("Q", first_pages))
        config = ffi.new("struct pmig_restore_config *")
        config.struct_size = ffi.sizeof("struct pmig_restore_config")
        config.flags = (lib.PMIG_RESTORE_FRESH if fresh else 0) | (
            0 if fill else lib.PMIG_RESTORE_NO_FILL
        )
        config.fd = fd
        config.format = format
        config.offsets = starts if format is RestoreFormat.RAW else ffi.NULL
        config.first_pages = pages if first_pages else ffi.NULL
        config.n_first_pages = len(first_pages)
        config.fill_bytes_per_s = fill_bytes_per_s
        out, err = ffi.new("struct pmig_restore **"), new_error()
        if format is RestoreFormat.RAW and len(offsets) != len(memory.regions):
            raise ValueError(f"{len(offsets)} offsets for {len(memory.regions)} regions")
        check(lib.pmig_restore_new(memory.pointer, faults.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_restore_free)

    def state(self) -> bytes | None:
        """The state of the machine, where the file holds one."""
        data, size, err = ffi.new("const uint8_t **"), ffi.new("uint64_t *"), new_error()
        code = lib.pmig_restore_state(self.pointer, data, size, err)
        if code == -errno.ENOENT:
            return None
        check(code, err)
        return bytes(ffi.buffer(data[0], size[0])) if size[0] else b""

    def start(self) -> None:
        """Read pages from now on: memory may be touched.

        :raises EngineError: faults.start() did not come before.
        """
        err = new_error()
        check(lib.pmig_restore_start(self.pointer, err), err)

    def fill(self) -> None:
        """Also read what is not touched, from now on. Any thread."""
        self._if_open(lib.pmig_restore_fill)

    def wait(self, timeout_ms: int = -1) -> bool:
        """Until everything is there; False: the time is over. Any thread.

        :raises EngineError: it never will be, and why.
        """
        err = new_error()
        code = lib.pmig_restore_wait(self.pointer, timeout_ms, err)
        if code == -errno.ETIMEDOUT:
            return False
        check(code, err)
        return True

    def cancel(self) -> None:
        """Read nothing more; a wait() raises EngineCancelled. Any thread."""
        self._if_open(lib.pmig_restore_cancel)

    def figures(self) -> RestoreFigures:
        """What was read so far. Any thread."""
        out = ffi.new("struct pmig_restore_report *")
        lib.pmig_restore_report(self.pointer, out)
        return RestoreFigures(
            **{name: int(getattr(out, name)) for name in RestoreFigures.__dataclass_fields__}
        )
