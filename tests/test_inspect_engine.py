# SPDX-License-Identifier: Apache-2.0
"""What the engine writes, read by the pure-Python decoder."""

from __future__ import annotations

import io
import mmap
import random
from typing import Any

import pytest
import stream_builder as sb

from pymigrate import Choice, Compression, Tuning
from pymigrate._engine import (
    BLOCK_BYTES,
    Channel,
    DirtyTracker,
    EpochKind,
    FrameType,
    Memory,
    Region,
    RoundStats,
    Sender,
    SenderOptions,
    StateList,
    TrackerKind,
    View,
)
from pymigrate.inspector import Decoder, Summary

SIZE_BYTES = 8 * BLOCK_BYTES
PAGES = SIZE_BYTES // 4096
TEXT = b"the quick brown fox jumps over the lazy dog; "


class Copy:
    """The region as a sink, and what pages rest on."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE_BYTES)

    def stream(self, _info: Any) -> None: ...

    def config(self, _config: Any) -> None: ...

    def state(self, _items: Any) -> None: ...

    def page(self, _region: int, offset: int, data: memoryview) -> None:
        self.data[offset : offset + 4096] = data

    def zero(self, _region: int, offset: int) -> None:
        self.data[offset : offset + 4096] = bytes(4096)

    def read(self, _region: int, offset: int) -> bytes:
        return bytes(self.data[offset : offset + 4096])


def write(buffer: mmap.mmap, tracker: DirtyTracker, dice: random.Random) -> None:
    """What a guest does between rounds: whole pages, lines, zeros, nothing."""
    for _ in range(200):
        at = 4096 * dice.randrange(PAGES)
        kind = dice.randrange(5)
        if kind == 0:
            buffer[at : at + 4096] = dice.randbytes(4096)
        elif kind == 1:
            buffer[at : at + 4096] = bytes(4096)
        elif kind == 2:
            other = 4096 * dice.randrange(PAGES)
            buffer[at : at + 4096] = buffer[other : other + 4096]
        elif kind == 3:
            line = at + 64 * dice.randrange(64)
            buffer[line : line + 8] = dice.randbytes(8)
        tracker.mark(at, 4096)


def rounds(buffer: mmap.mmap, tuning: Tuning) -> tuple[list[RoundStats], bytes]:
    """Three rounds and a sealed one, and what went over the channel."""
    dice = random.Random(7)
    buffer[: SIZE_BYTES // 2] = (TEXT * (SIZE_BYTES // len(TEXT)))[: SIZE_BYTES // 2]
    with (
        Memory([Region.of_buffer(buffer)]) as memory,
        DirtyTracker(memory, TrackerKind.MARKED) as tracker,
        Channel.memory() as channel,
        StateList() as state,
    ):
        tracker.start()
        options = SenderOptions(tuning=tuning)
        with View(tracker) as view, Sender(memory, view, [channel], bytes(16), options) as sender:
            found = []
            for _ in range(3):
                found.append(sender.round(EpochKind.FUZZY))
                view.commit()
                write(buffer, tracker, dice)
            sender.put(FrameType.STATE, state.encode())
            found.append(sender.round(EpochKind.SEALED))
            sender.end()
        return found, channel.memory_data()


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(),
        Tuning(compression=Compression.NONE, delta=Choice.ON),
        Tuning(compression=Compression.LZ4, delta=Choice.OFF),
        Tuning(compression=Compression.ZSTD, compression_level=3, delta=Choice.ON),
    ],
    ids=["auto", "delta", "lz4", "zstd"],
)
def test_inspector_builds_what_was_sent(tuning: Tuning) -> None:
    with mmap.mmap(-1, SIZE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as buffer:
        stats, data = rounds(buffer, tuning)
        copy = Copy()
        summary: Summary = Decoder(io.BytesIO(data), copy).run()
        assert summary.loadable
        assert copy.data == buffer[:]
    names = ("raw", "unchanged", "delta", "copy", "lz4", "zstd")
    for epoch, sent in zip(summary.epochs, stats, strict=True):
        assert epoch.digest == sent.digest
        assert epoch.zero_pages == sent.zero_pages
        for number, name in enumerate(names):
            assert epoch.pages_by_encoding[name] == sent.pages_by_encoding[number], name
            assert epoch.bytes_by_encoding[name] == sent.bytes_by_encoding[number], name


# ---- pages that come late --------------------------------------------------


def all_requests() -> bytes:
    """Every page is asked for, one block after the other; then all have come."""
    frames = [sb.request(2**64 - 1, offset) for offset in range(0, SIZE_BYTES, BLOCK_BYTES)]
    return sb.encode([*frames, sb.Frame(sb.ARRIVED)])


def late_rounds(
    buffer: mmap.mmap, tuning: Tuning
) -> tuple[list[RoundStats], RoundStats, list[bytes]]:
    """A round, two that name pages, and the late epoch; what each channel had."""
    dice, asked = random.Random(7), all_requests()
    buffer[: SIZE_BYTES // 2] = (TEXT * (SIZE_BYTES // len(TEXT)))[: SIZE_BYTES // 2]
    with (
        Memory([Region.of_buffer(buffer)]) as memory,
        DirtyTracker(memory, TrackerKind.MARKED) as tracker,
        Channel.memory() as pushed,
        Channel.memory(asked) as urgent,
    ):
        tracker.start()
        options, ends = SenderOptions(tuning=tuning, late=True), [pushed, urgent]
        with View(tracker) as view, Sender(memory, view, ends, bytes(16), options) as sender:
            found = [sender.round(EpochKind.FUZZY)]
            view.commit()
            write(buffer, tracker, dice)
            found.append(sender.defer(EpochKind.FUZZY))
            write(buffer, tracker, dice)
            found.append(sender.defer(EpochKind.SEALED))
            last, late = sender.late()
            assert late.requests == SIZE_BYTES // BLOCK_BYTES
            sender.end()
        return found, last, [pushed.memory_data(), urgent.memory_data()[len(asked) :]]


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(),
        Tuning(compression=Compression.NONE, delta=Choice.ON),
        Tuning(compression=Compression.LZ4, delta=Choice.OFF),
        Tuning(compression=Compression.ZSTD, compression_level=3, delta=Choice.ON),
    ],
    ids=["auto", "delta", "lz4", "zstd"],
)
def test_inspector_builds_late_pages(tuning: Tuning) -> None:
    with mmap.mmap(-1, SIZE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as buffer:
        stats, last, channels = late_rounds(buffer, tuning)
        copy = Copy()
        # The second channel has only late pages, which rest on the first's.
        both = [Decoder(io.BytesIO(data), copy, contents=copy).run() for data in channels]
        assert copy.data == buffer[:]
    assert all(summary.complete and summary.rests_on_others for summary in both)
    named = [epoch.outstanding_pages for epoch in both[0].epochs]
    assert named[1:3] == [stats[1].outstanding_pages, sum(s.outstanding_pages for s in stats)]
    late = [summary.epochs[-1] for summary in both]
    assert sum(epoch.pages for epoch in late) == named[2]
    assert not any(epoch.stale_pages for epoch in late)
    assert sum(epoch.digest for epoch in late) % (1 << 64) == last.digest
    assert sum(epoch.zero_pages for epoch in late) == last.zero_pages
    for number, name in enumerate(("raw", "unchanged", "delta", "copy", "lz4", "zstd")):
        sent = last.pages_by_encoding[number]
        assert sum(epoch.pages_by_encoding[name] for epoch in late) == sent, name
