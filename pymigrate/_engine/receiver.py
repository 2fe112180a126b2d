# SPDX-License-Identifier: Apache-2.0
"""The receiver: channels into memory, told as events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymigrate._engine.channel import Channel, channel_array
from pymigrate._engine.faults import Faults
from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error
from pymigrate._engine.sender import EpochKind, FrameType

__all__ = ["BlobEvent", "EndEvent", "EpochEvent", "Event", "PopulatedEvent", "Receiver"]


@dataclass(frozen=True)
class BlobEvent:
    """A CONFIG or STATE frame arrived."""

    frame: FrameType
    data: bytes


@dataclass(frozen=True)
class EpochEvent:
    """An epoch is complete on every channel.

    :ivar suspect_pages: changed while they were sent; newer ones follow.
    :ivar stale_pages: could not be built here and have to be asked for.
    """

    epoch: int
    kind: EpochKind
    pages: int
    zero_pages: int
    suspect_pages: int
    stale_pages: int
    wire_bytes: int
    digest: int


@dataclass(frozen=True)
class EndEvent:
    """Orderly end on every channel."""


@dataclass(frozen=True)
class PopulatedEvent:
    """The memory that the sender announced is allocated."""


Event = BlobEvent | EpochEvent | EndEvent | PopulatedEvent


class Receiver(Handle):
    """One worker thread for each channel; memory and channels outlive it.

    :param fresh: the memory is known to be untouched, do not discard it.
    :param cpus: processors for the readers; empty: wherever they may run.
    :param faults: for pages that come late; it outlives the receiver, and
        the last channel is then the urgent one.
    """

    def __init__(
        self,
        memory: Memory,
        channels: Sequence[Channel],
        session_id: bytes = bytes(16),
        stall_timeout_ms: int = 0,
        fresh: bool = False,
        cpus: tuple[int, ...] = (),
        faults: Faults | None = None,
    ) -> None:
        self._kept = (memory, tuple(channels), faults)
        array, numbers = channel_array(list(channels)), ffi.new("uint32_t[]", cpus)
        config = ffi.new("struct pmig_receiver_config *")
        config.struct_size = ffi.sizeof("struct pmig_receiver_config")
        config.n_channels = len(channels)
        config.channels = array
        config.session_id = list(session_id)
        config.stall_timeout_ms = stall_timeout_ms
        config.flags = lib.PMIG_RECEIVER_FRESH if fresh else 0
        config.n_cpus = len(cpus)
        config.cpus = numbers if cpus else ffi.NULL
        config.faults = faults.pointer if faults is not None else ffi.NULL
        out, err = ffi.new("struct pmig_receiver **"), new_error()
        check(lib.pmig_receiver_new(memory.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_receiver_free)

    def wait(self, timeout_ms: int = -1) -> Event | None:
        """The next event, or None when timeout_ms passed without one."""
        event, err = ffi.new("struct pmig_event *"), new_error()
        event.struct_size = ffi.sizeof("struct pmig_event")
        check(lib.pmig_receiver_wait(self.pointer, timeout_ms, event, err), err)
        return _event(event)

    def stale(self, event: EpochEvent) -> list[tuple[int, int]]:
        """What to ask the sender for, before the next wait().

        :returns: blocks, ascending, and the masks of their stale pages.
        """
        capacity = min(event.stale_pages, self._kept[0].blocks)
        out = ffi.new("struct pmig_block_pages[]", max(1, capacity))
        count = lib.pmig_receiver_stale(self.pointer, out, capacity)
        return [(out[index].block, out[index].pages) for index in range(count)]

    def cancel(self) -> None:
        """Make a running or later wait raise EngineCancelled; any thread."""
        self._if_open(lib.pmig_receiver_cancel)


def _event(event: Any) -> Event | None:
    if event.kind == lib.PMIG_EVENT_NONE:
        return None
    if event.kind == lib.PMIG_EVENT_END:
        return EndEvent()
    if event.kind == lib.PMIG_EVENT_POPULATED:
        return PopulatedEvent()
    if event.kind == lib.PMIG_EVENT_BLOB:
        data = bytes(ffi.buffer(event.data, event.size_bytes)) if event.size_bytes else b""
        return BlobEvent(FrameType(event.frame), data)
    return EpochEvent(
        epoch=event.epoch,
        kind=EpochKind(event.epoch_kind),
        pages=event.pages,
        zero_pages=event.zero_pages,
        suspect_pages=event.suspect_pages,
        stale_pages=event.stale_pages,
        wire_bytes=event.wire_bytes,
        digest=event.digest,
    )
