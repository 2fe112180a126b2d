# SPDX-License-Identifier: Apache-2.0
"""Dirty tracking of a machine, with its log read in C."""

from __future__ import annotations

from typing import Any

from pymigrate._engine import (
    DirtyFlags,
    DirtyTracker,
    Handle,
    Memory,
    TrackerKind,
    check,
    ffi,
    lib,
    new_error,
)

__all__ = ["VmTracker"]


class VmTracker(DirtyTracker):
    """A tracker that the machine's vCPUs know of as long as it is open.

    :param vm: ``struct pvmm *``; must outlive the tracker.
    """

    def __init__(self, vm: Any, memory: Memory, kind: TrackerKind, flags: DirtyFlags) -> None:
        config = ffi.new("struct pmig_dirty_config *")
        out, err = ffi.new("struct pmig_dirty **"), new_error()
        check(lib.pvmm_dirty_config(vm, kind.code, config, err), err)
        config.flags = int(flags)
        check(lib.pmig_dirty_new(memory.pointer, config, out, err), err)
        Handle.__init__(self, out[0], lib.pmig_dirty_free)
        self.memory = memory
        self._vm = vm
        self._collect = None
        self._collect_error = None
        self._callback = None
        lib.pvmm_attach(vm, out[0])

    def close(self) -> None:
        """Take it from the vCPUs, then free it; idempotent."""
        if not self.closed:
            lib.pvmm_attach(self._vm, ffi.NULL)
        super().close()
