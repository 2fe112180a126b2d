# SPDX-License-Identifier: Apache-2.0
"""The receiver: channels into memory, told as events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymigrate._engine.channel import Channel, channel_array
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
    """An epoch is complete on every channel."""

    epoch: int
    kind: EpochKind
    pages: int
    zero_pages: int
    suspect_pages: int
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
    """

    def __init__(
        self,
        memory: Memory,
        channels: Sequence[Channel],
        session_id: bytes = bytes(16),
        stall_timeout_ms: int = 0,
        fresh: bool = False,
    ) -> None:
        self._kept = (memory, tuple(channels))
        array = channel_array(list(channels))
        config = ffi.new("struct pmig_receiver_config *")
        config.struct_size = ffi.sizeof("struct pmig_receiver_config")
        config.n_channels = len(channels)
        config.channels = array
        config.session_id = list(session_id)
        config.stall_timeout_ms = stall_timeout_ms
        config.flags = lib.PMIG_RECEIVER_FRESH if fresh else 0
        out, err = ffi.new("struct pmig_receiver **"), new_error()
        check(lib.pmig_receiver_new(memory.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_receiver_free)

    def wait(self, timeout_ms: int = -1) -> Event | None:
        """The next event, or None when timeout_ms passed without one."""
        event, err = ffi.new("struct pmig_event *"), new_error()
        event.struct_size = ffi.sizeof("struct pmig_event")
        check(lib.pmig_receiver_wait(self.pointer, timeout_ms, event, err), err)
        return _event(event)

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
        wire_bytes=event.wire_bytes,
        digest=event.digest,
    )
