# SPDX-License-Identifier: Apache-2.0
"""Dirty tracking: the tracker and its views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Any

from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["DirtyFlags", "DirtyTracker", "KvmSlot", "TrackerKind", "View"]


class TrackerKind(str, Enum):
    """How writes are found; values are the names used on command lines."""

    AUTO = "auto"
    KVM_LOG = "kvm-log"
    KVM_RING = "kvm-ring"
    UFFD_WP = "uffd-wp"
    MARKED = "marked"

    @property
    def code(self) -> int:
        """The value of ``enum pmig_tracker``."""
        return _CODES[self]


_CODES: dict[TrackerKind, int] = {
    TrackerKind.AUTO: lib.PMIG_TRACKER_AUTO,
    TrackerKind.KVM_LOG: lib.PMIG_TRACKER_KVM_LOG,
    TrackerKind.KVM_RING: lib.PMIG_TRACKER_KVM_RING,
    TrackerKind.UFFD_WP: lib.PMIG_TRACKER_UFFD_WP,
    TrackerKind.MARKED: lib.PMIG_TRACKER_MARKED,
}
_KINDS = {code: kind for kind, code in _CODES.items()}


class DirtyFlags(IntFlag):
    """Do without a newer interface of the kernel, or without a thread."""

    NONE = 0
    NO_MANUAL_PROTECT = lib.PMIG_DIRTY_NO_MANUAL_PROTECT
    NO_ASYNC_WP = lib.PMIG_DIRTY_NO_ASYNC_WP
    NO_REAPER = lib.PMIG_DIRTY_NO_REAPER


@dataclass(frozen=True)
class KvmSlot:
    """One KVM memory slot, as ``struct kvm_userspace_memory_region``."""

    slot: int
    gpa: int
    size_bytes: int
    hva: int
    flags: int = 0


class DirtyTracker(Handle):
    """Finds the pages that were written; not started when made.

    :param collect: called with the tracker on the harvesting thread at the
        start of every harvest, to :meth:`mark` writes from logs the library
        does not know. What it raises is raised by the call that harvested.
    """

    def __init__(
        self,
        memory: Memory,
        kind: TrackerKind = TrackerKind.AUTO,
        *,
        vm_fd: int = -1,
        slots: Sequence[KvmSlot] = (),
        vcpu_fds: Sequence[int] = (),
        ring_bytes: int = 0,
        uffd: int = -1,
        flags: DirtyFlags = DirtyFlags.NONE,
        collect: Callable[[DirtyTracker], None] | None = None,
    ) -> None:
        self._collect = collect
        self._collect_error: BaseException | None = None
        config = ffi.new("struct pmig_dirty_config *")
        config.struct_size = ffi.sizeof("struct pmig_dirty_config")
        config.tracker = kind.code
        config.vm_fd = vm_fd
        table = _slots(slots)
        vcpus = ffi.new("int32_t[]", list(vcpu_fds))
        config.slots, config.n_slots = table, len(slots)
        config.vcpu_fds, config.n_vcpus = vcpus, len(vcpu_fds)
        config.ring_bytes = ring_bytes
        config.uffd = uffd
        config.flags = int(flags)
        # C keeps the function pointer: it lives as long as the tracker.
        self._callback = None
        if collect is not None:
            self._callback = ffi.callback("void(void *, struct pmig_dirty *)", self._on_collect)
            config.collect = self._callback
        out, err = ffi.new("struct pmig_dirty **"), new_error()
        check(lib.pmig_dirty_new(memory.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_dirty_free)
        self.memory = memory

    def _on_collect(self, _opaque: Any, _dirty: Any) -> None:
        # An exception cannot cross C: keep it for raise_collected().
        try:
            assert self._collect is not None
            self._collect(self)
        except BaseException as error:
            self._collect_error = error

    def raise_collected(self) -> None:
        """Raise what collect raised during the last harvest, if anything."""
        error, self._collect_error = self._collect_error, None
        if error is not None:
            raise error

    @property
    def kind(self) -> TrackerKind:
        """What was chosen; never AUTO."""
        return _KINDS[int(lib.pmig_dirty_tracker(self.pointer))]

    @property
    def variant(self) -> str:
        return str(ffi.string(lib.pmig_dirty_variant(self.pointer)).decode())

    @property
    def reason(self) -> str:
        """Why this kind and variant."""
        return str(ffi.string(lib.pmig_dirty_reason(self.pointer)).decode())

    def start(self) -> None:
        err = new_error()
        check(lib.pmig_dirty_start(self.pointer, err), err)

    def stop(self) -> None:
        err = new_error()
        check(lib.pmig_dirty_stop(self.pointer, err), err)

    def mark(self, gpa: int, size_bytes: int) -> None:
        """Say that [gpa, gpa + size_bytes) was written; any thread.

        After close() it does nothing: who writes need not know whether a
        migration is under way.
        """
        codes: list[int] = []
        self._if_open(lambda dirty: codes.append(lib.pmig_dirty_mark(dirty, gpa, size_bytes)))
        for code in codes:
            check(code)

    def ring_full(self) -> None:
        """Serve KVM_EXIT_DIRTY_RING_FULL on the thread of that vCPU."""
        err = new_error()
        check(lib.pmig_dirty_ring_full(self.pointer, err), err)


class View(Handle):
    """One consumer of a started tracker; all pages dirty to begin with."""

    def __init__(self, tracker: DirtyTracker) -> None:
        out, err = ffi.new("struct pmig_view **"), new_error()
        check(lib.pmig_view_new(tracker.pointer, out, err), err)
        super().__init__(out[0], lib.pmig_view_free)
        self.tracker = tracker

    def harvest(self) -> None:
        """Gather writes from the kernel into all views of the tracker."""
        err = new_error()
        code = lib.pmig_view_harvest(self.pointer, err)
        self.tracker.raise_collected()
        check(code, err)

    def pending_pages(self) -> int:
        """Pages that the next round would look at."""
        return int(lib.pmig_view_pending_pages(self.pointer))

    def rearm(self, first_block: int, n_blocks: int) -> None:
        err = new_error()
        check(lib.pmig_view_rearm(self.pointer, first_block, n_blocks, err), err)

    def take(self, block: int) -> int:
        """The dirty bits of one block; kept until commit or rollback."""
        return int(lib.pmig_view_take(self.pointer, block))

    def peek(self, first_block: int, n_blocks: int) -> list[int]:
        """Pending bits, one word per block, without taking them."""
        bitmap = ffi.new("uint64_t[]", max(1, n_blocks))
        lib.pmig_view_peek(self.pointer, first_block, n_blocks, bitmap)
        return list(ffi.unpack(bitmap, n_blocks)) if n_blocks else []

    def commit(self) -> None:
        """The taken pages have arrived."""
        lib.pmig_view_commit(self.pointer)

    def rollback(self) -> None:
        """The taken pages may not have arrived: they are pending again."""
        lib.pmig_view_rollback(self.pointer)


def _slots(slots: Sequence[KvmSlot]) -> Any:
    table = ffi.new("struct pmig_kvm_slot[]", max(1, len(slots)))
    for entry, slot in zip(table, slots, strict=False):
        entry.slot, entry.flags = slot.slot, slot.flags
        entry.gpa, entry.size_bytes, entry.hva = slot.gpa, slot.size_bytes, slot.hva
    return table
