# SPDX-License-Identifier: Apache-2.0
"""The sender: rounds of dirty pages onto channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pymigrate._engine.channel import Channel, channel_array
from pymigrate._engine.dirty import View
from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error

__all__ = ["EpochKind", "FrameType", "Progress", "RoundStats", "Sender"]


class EpochKind(IntEnum):
    FUZZY = lib.PMIG_EPOCH_FUZZY
    SEALED = lib.PMIG_EPOCH_SEALED


class FrameType(IntEnum):
    """Frames that carry a blob."""

    CONFIG = lib.PMIG_FRAME_CONFIG
    STATE = lib.PMIG_FRAME_STATE


@dataclass(frozen=True)
class RoundStats:
    """What one round did; as ``struct pmig_round``."""

    epoch: int
    kind: EpochKind
    dirty_pages: int
    sent_pages: int
    zero_pages: int
    hole_pages: int
    raw_pages: int
    wire_bytes: int
    duration_ns: int
    harvest_ns: int
    digest: int
    pages_by_encoding: tuple[int, ...]
    bytes_by_encoding: tuple[int, ...]


@dataclass(frozen=True)
class Progress:
    """Live figures of a running round."""

    epoch: int
    sent_pages: int
    wire_bytes: int
    blocks_done: int
    blocks_total: int


class Sender(Handle):
    """One worker thread for each channel; memory, view, channels outlive it."""

    def __init__(
        self,
        memory: Memory,
        view: View,
        channels: Sequence[Channel],
        session_id: bytes,
        stall_timeout_ms: int = 0,
    ) -> None:
        self._kept = (memory, view, tuple(channels))
        self._view = view
        array = channel_array(list(channels))
        config = ffi.new("struct pmig_sender_config *")
        config.struct_size = ffi.sizeof("struct pmig_sender_config")
        config.n_channels = len(channels)
        config.channels = array
        config.session_id = list(session_id)
        config.stall_timeout_ms = stall_timeout_ms
        out, err = ffi.new("struct pmig_sender **"), new_error()
        check(lib.pmig_sender_new(memory.pointer, view.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_sender_free)

    def hint(self) -> None:
        """Tell the receiver which memory is populated; before round 1."""
        err = new_error()
        check(lib.pmig_sender_hint(self.pointer, err), err)

    def put(self, frame: FrameType, data: bytes) -> None:
        """Write a blob frame on the first channel."""
        err = new_error()
        check(lib.pmig_sender_put(self.pointer, int(frame), data, len(data), err), err)

    def round(self, kind: EpochKind) -> RoundStats:
        """Harvest, then send every pending page as one epoch; blocks."""
        out, err = ffi.new("struct pmig_round *"), new_error()
        out.struct_size = ffi.sizeof("struct pmig_round")
        code = lib.pmig_sender_round(self.pointer, int(kind), out, err)
        self._view.tracker.raise_collected()
        check(code, err)
        return _stats(out)

    def end(self) -> None:
        """Write the end frame on every channel."""
        err = new_error()
        check(lib.pmig_sender_end(self.pointer, err), err)

    def cancel(self) -> None:
        """Make a running or later call raise EngineCancelled; any thread."""
        self._if_open(lib.pmig_sender_cancel)

    def progress(self) -> Progress | None:
        """Live figures, or None once closed; any thread."""
        out = ffi.new("struct pmig_progress *")
        out.struct_size = ffi.sizeof("struct pmig_progress")
        filled: list[bool] = []

        def read(pointer: Any) -> None:
            lib.pmig_sender_progress(pointer, out)
            filled.append(True)

        self._if_open(read)
        if not filled:
            return None
        return Progress(
            out.epoch, out.sent_pages, out.wire_bytes, out.blocks_done, out.blocks_total
        )


def _stats(out: Any) -> RoundStats:
    pages = tuple(int(n) for n in out.pages_by_encoding)
    return RoundStats(
        epoch=out.epoch,
        kind=EpochKind(out.kind),
        dirty_pages=out.dirty_pages,
        sent_pages=out.sent_pages,
        zero_pages=out.zero_pages,
        hole_pages=out.hole_pages,
        raw_pages=pages[lib.PMIG_ENCODING_RAW],
        wire_bytes=out.wire_bytes,
        duration_ns=out.duration_ns,
        harvest_ns=out.harvest_ns,
        digest=out.digest,
        pages_by_encoding=pages,
        bytes_by_encoding=tuple(int(n) for n in out.bytes_by_encoding),
    )
