# SPDX-License-Identifier: Apache-2.0
"""What the engine writes, read by the pure-Python decoder."""

from __future__ import annotations

import io
import mmap
import random
from typing import Any

import pytest

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
    """The region as a sink."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE_BYTES)

    def stream(self, _info: Any) -> None: ...

    def config(self, _config: Any) -> None: ...

    def state(self, _items: Any) -> None: ...

    def page(self, _region: int, offset: int, data: memoryview) -> None:
        self.data[offset : offset + 4096] = data

    def zero(self, _region: int, offset: int) -> None:
        self.data[offset : offset + 4096] = bytes(4096)


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
