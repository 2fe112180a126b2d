# SPDX-License-Identifier: Apache-2.0
"""The sender: rounds of dirty pages onto channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from pymigrate._engine.channel import Channel, channel_array
from pymigrate._engine.dirty import View
from pymigrate._engine.memory import Memory
from pymigrate._engine.native import Handle, check, ffi, lib, new_error
from pymigrate._engine.tuning import COMPRESSIONS, ENCODINGS_ALL, new_tuning
from pymigrate.tuning import Compression, Tuning

__all__ = [
    "EpochKind",
    "FrameType",
    "LateStats",
    "Progress",
    "Push",
    "RoundStats",
    "Sender",
    "SenderOptions",
]


class EpochKind(IntEnum):
    FUZZY = lib.PMIG_EPOCH_FUZZY
    SEALED = lib.PMIG_EPOCH_SEALED
    LATE = lib.PMIG_EPOCH_LATE


class FrameType(IntEnum):
    """Frames that carry a blob."""

    CONFIG = lib.PMIG_FRAME_CONFIG
    STATE = lib.PMIG_FRAME_STATE


class Push(IntEnum):
    """What of the outstanding pages is sent without being asked for."""

    ALL = lib.PMIG_PUSH_ALL
    FIRST = lib.PMIG_PUSH_FIRST
    NONE = lib.PMIG_PUSH_NONE


@dataclass(frozen=True)
class RoundStats:
    """What one round did; as ``struct pmig_round``.

    :ivar pages_by_encoding: by number of the encoding, and likewise bytes.
    :ivar link_bytes_per_s: as measured; 0: it was never the limit.
    :ivar encode_ns: CPU time of all workers.
    :ivar blocked_ns: of all workers, waiting for channels.
    :ivar held_pages: hot, and left pending.
    :ivar outstanding_pages: named instead of being sent.
    """

    epoch: int
    kind: EpochKind
    dirty_pages: int
    sent_pages: int
    zero_pages: int
    hole_pages: int
    wire_bytes: int
    duration_ns: int
    harvest_ns: int
    digest: int
    pages_by_encoding: tuple[int, ...]
    bytes_by_encoding: tuple[int, ...]
    active_channels: int
    compression: Compression
    level: int
    zero_copy: bool
    link_bytes_per_s: int
    encode_ns: int
    blocked_ns: int
    delta_memory_bytes: int
    held_pages: int
    outstanding_pages: int

    @property
    def raw_pages(self) -> int:
        return self.pages_by_encoding[int(lib.PMIG_ENCODING_RAW)]


@dataclass(frozen=True)
class LateStats:
    """What a late epoch did besides; as ``struct pmig_late``."""

    requests: int
    answered_pages: int
    neighbour_pages: int
    refused_pages: int


@dataclass(frozen=True)
class Progress:
    """Live figures of a running round."""

    epoch: int
    sent_pages: int
    wire_bytes: int
    blocks_done: int
    blocks_total: int


@dataclass(frozen=True)
class SenderOptions:
    """What a sender is made with.

    :ivar stall_timeout_ms: no byte moved on a channel; 0: 30 s.
    :ivar encodings: bit e: the receiver reads encoding e.
    :ivar one_way: nobody answers, so nothing can be asked for again.
    :ivar late: pages may be sent late; the last channel is the urgent one.
    :ivar cpus: processors for the workers; empty: wherever they may run.
    :ivar delta_memory_bytes: for fingerprints; 0: a 16th of guest memory.
    """

    stall_timeout_ms: int = 0
    encodings: int = ENCODINGS_ALL
    one_way: bool = False
    late: bool = False
    cpus: tuple[int, ...] = ()
    delta_memory_bytes: int = 0
    tuning: Tuning = field(default_factory=Tuning)


class Sender(Handle):
    """One worker thread for each channel; memory, view, channels outlive it."""

    def __init__(
        self,
        memory: Memory,
        view: View,
        channels: Sequence[Channel],
        session_id: bytes,
        options: SenderOptions | None = None,
    ) -> None:
        self._kept = (memory, view, tuple(channels))
        self._view = view
        options = options or SenderOptions()
        array, cpus = channel_array(list(channels)), ffi.new("uint32_t[]", options.cpus)
        tuning = new_tuning(options.tuning)
        config = ffi.new("struct pmig_sender_config *")
        config.struct_size = ffi.sizeof("struct pmig_sender_config")
        config.n_channels = len(channels)
        config.channels = array
        config.session_id = list(session_id)
        config.stall_timeout_ms = options.stall_timeout_ms
        config.flags = lib.PMIG_SENDER_ONE_WAY if options.one_way else 0
        config.flags |= lib.PMIG_SENDER_LATE if options.late else 0
        config.encodings = options.encodings & ENCODINGS_ALL
        config.n_cpus = len(options.cpus)
        config.cpus = cpus if options.cpus else ffi.NULL
        config.tuning = tuning
        config.delta_memory_bytes = options.delta_memory_bytes
        self._tuning = options.tuning
        out, err = ffi.new("struct pmig_sender **"), new_error()
        check(lib.pmig_sender_new(memory.pointer, view.pointer, config, out, err), err)
        super().__init__(out[0], lib.pmig_sender_free)
        self.late_figures: tuple[RoundStats, LateStats] | None = None

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

    def defer(self, kind: EpochKind) -> RoundStats:
        """Harvest, then name every pending page as outstanding; blocks."""
        out, err = ffi.new("struct pmig_round *"), new_error()
        out.struct_size = ffi.sizeof("struct pmig_round")
        code = lib.pmig_sender_defer(self.pointer, int(kind), out, err)
        self._view.tracker.raise_collected()
        check(code, err)
        return _stats(out)

    def owe(self, bitmap: bytes) -> None:
        """Pages that the destination misses: eight bytes for each block.

        :raises EngineError: one lies outside memory.
        """
        words, err = ffi.from_buffer("uint64_t[]", bitmap), new_error()
        check(lib.pmig_sender_owe(self.pointer, 0, len(words), words, err), err)

    def first(self, pages: Sequence[int], push: Push = Push.ALL) -> None:
        """Pages to be sent before others, in this order; before late().

        :param pages: by number, as :meth:`Faults.touched` gives them.
        :param push: what is sent after them without being asked for.
        :raises EngineError: one lies outside memory.
        """
        array, err = ffi.new("uint64_t[]", list(pages)), new_error()
        check(lib.pmig_sender_first(self.pointer, array, len(pages), int(push), err), err)

    def push(self, push: Push) -> None:
        """What is sent from now on without being asked for; any thread."""
        err = new_error()
        codes: list[int] = []
        self._if_open(lambda p: codes.append(lib.pmig_sender_push(p, int(push), err)))
        for code in codes:
            check(code, err)

    def late(self) -> tuple[RoundStats, LateStats]:
        """Send outstanding pages until none is missing; blocks.

        :raises EngineError: a channel broke; late_figures has them all the same.
        """
        out, late, err = ffi.new("struct pmig_round *"), ffi.new("struct pmig_late *"), new_error()
        out.struct_size = ffi.sizeof("struct pmig_round")
        late.struct_size = ffi.sizeof("struct pmig_late")
        code = lib.pmig_sender_late(self.pointer, out, late, err)
        # Nothing is filled in where it did not begin.
        figures = (_stats(out), _late_stats(late)) if out.kind else None
        self.late_figures = figures
        check(code, err)
        assert figures is not None
        return figures

    def owed_pages(self) -> int:
        """Outstanding pages that were not sent yet. Any thread."""
        found: list[int] = []
        self._if_open(lambda sender: found.append(lib.pmig_sender_owed_pages(sender)))
        return found[0] if found else 0

    def resend(self, stale: Sequence[tuple[int, int]]) -> None:
        """Send these pages again, by an encoding that rests on nothing.

        :param stale: blocks and the masks of their pages, from the receiver.
        :raises EngineError: a page lies outside memory.
        """
        array, err = ffi.new("struct pmig_block_pages[]", list(stale)), new_error()
        check(lib.pmig_sender_resend(self.pointer, array, len(stale), err), err)

    def hot_pages(self) -> int:
        """Pending pages that the last two rounds sent; after a harvest.

        The first round does not count.
        """
        return int(lib.pmig_sender_hot_pages(self.pointer))

    def hold(self, hold: bool) -> None:
        """Leave hot pages to the sealed round, from the next round on, or not."""
        lib.pmig_sender_hold(self.pointer, hold)

    def tune(self, tuning: Tuning) -> bool:
        """Change the tuning, from the next block on; any thread.

        :returns: False once closed.
        :raises EngineError: a value does not fit this sender.
        """
        value, err = new_tuning(tuning), new_error()
        codes: list[int] = []
        self._if_open(lambda p: codes.append(lib.pmig_sender_tune(p, value, err)))
        for code in codes:
            check(code, err)
            self._tuning = tuning
        return bool(codes)

    @property
    def tuning(self) -> Tuning:
        """What is in effect, or was last; any thread."""
        return self._tuning

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


def _late_stats(out: Any) -> LateStats:
    return LateStats(out.requests, out.answered_pages, out.neighbour_pages, out.refused_pages)


def _stats(out: Any) -> RoundStats:
    return RoundStats(
        epoch=out.epoch,
        kind=EpochKind(out.kind),
        dirty_pages=out.dirty_pages,
        sent_pages=out.sent_pages,
        zero_pages=out.zero_pages,
        hole_pages=out.hole_pages,
        wire_bytes=out.wire_bytes,
        duration_ns=out.duration_ns,
        harvest_ns=out.harvest_ns,
        digest=out.digest,
        pages_by_encoding=tuple(int(n) for n in out.pages_by_encoding),
        bytes_by_encoding=tuple(int(n) for n in out.bytes_by_encoding),
        active_channels=out.active_channels,
        compression=COMPRESSIONS.get(out.compression, Compression.AUTO),
        level=out.level,
        zero_copy=bool(out.zero_copy),
        link_bytes_per_s=out.link_bytes_per_s,
        encode_ns=out.encode_ns,
        blocked_ns=out.blocked_ns,
        delta_memory_bytes=out.delta_memory_bytes,
        held_pages=out.held_pages,
        outstanding_pages=out.outstanding_pages,
    )
