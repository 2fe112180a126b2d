# SPDX-License-Identifier: Apache-2.0
"""Micro-benchmarks of the page pipeline: pytest bench/test_micro.py

``extra_info["bytes"]`` is how much memory one step handles; the page of
results makes a throughput of it. Codecs and harvests have files of their own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

from pymigrate import TrackerKind
from pymigrate._engine import (
    Channel,
    DirtyTracker,
    EpochKind,
    Memory,
    Receiver,
    Region,
    Sender,
    SenderOptions,
    View,
)
from pymigrate._engine.receiver import EndEvent
from pymigrate.tuning import Choice, Compression, Tuning

MIB = 1 << 20
# Far more than any cache holds: what is measured is memory.
SIZE_MIB = 256
SESSION = bytes(16)
RAW = Tuning(compression=Compression.NONE, delta=Choice.OFF)

libc = ctypes.CDLL(None)
libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.memchr.restype = ctypes.c_void_p


class Buffer:
    """Shared memory of some MiB and the library's view of it."""

    def __init__(self, mib: int, content: str = "untouched") -> None:
        self.fd = os.memfd_create("bench")
        os.ftruncate(self.fd, mib * MIB)
        self.map = mmap.mmap(self.fd, mib * MIB)
        self.memory = Memory([Region.of_buffer(self.map, fd=self.fd, shared=True)])
        if content != "untouched":
            seed = bytes(MIB) if content == "zero" else os.urandom(MIB)
            for at in range(0, mib * MIB, MIB):
                self.map[at : at + MIB] = seed

    def address(self) -> int:
        byte = ctypes.c_char.from_buffer(self.map)
        address = ctypes.addressof(byte)
        del byte
        return address

    def close(self) -> None:
        self.memory.close()
        self.map.close()
        os.close(self.fd)


@pytest.fixture
def buffer(request: pytest.FixtureRequest) -> Iterator[Buffer]:
    """Of (MiB, content)."""
    made = Buffer(*request.param)
    yield made
    made.close()


def of(content: str) -> Any:
    ids = [f"{SIZE_MIB}MiB-{content}"]
    return pytest.mark.parametrize("buffer", [(SIZE_MIB, content)], indirect=True, ids=ids)


@of("zero")
def test_plain_read(benchmark, buffer: Buffer) -> None:
    """The C library looking for a byte that is not there: what a read costs."""
    benchmark.extra_info["bytes"] = len(buffer.map)
    benchmark(libc.memchr, buffer.address(), 1, len(buffer.map))


@of("zero")
def test_zero_scan(benchmark, buffer: Buffer) -> None:
    """Finding that every page is zero, to be compared with the plain read."""
    benchmark.extra_info["bytes"] = len(buffer.map)
    benchmark(buffer.memory.hash, 0, buffer.memory.blocks)


@of("random")
def test_hash_pages(benchmark, buffer: Buffer) -> None:
    """Zero test and hash of every page: the one read of the page pipeline."""
    benchmark.extra_info["bytes"] = len(buffer.map)
    benchmark(buffer.memory.hash, 0, buffer.memory.blocks)


@pytest.mark.parametrize(
    "buffer",
    [(mib, "untouched") for mib in (1024, 16384, 65536)],
    indirect=True,
    ids=lambda param: f"{param[0]}MiB",
)
def test_find_holes(benchmark, buffer: Buffer) -> None:
    """Which pages of untouched memory are allocated?"""
    benchmark(buffer.memory.present, 0, buffer.memory.blocks)


def send_all(buffer: Buffer, channel: Channel) -> None:
    """One round over all of the memory, raw, and the end."""
    with DirtyTracker(buffer.memory, TrackerKind.MARKED) as tracker:
        tracker.start()
        with View(tracker) as view:
            options = SenderOptions(tuning=RAW)
            with Sender(buffer.memory, view, [channel], SESSION, options) as sender:
                sender.round(EpochKind.SEALED)
                sender.end()


@of("random")
def test_encode_frames(benchmark, buffer: Buffer) -> None:
    """Raw pages into frames and away, by one worker: scan, hash, frame heads."""
    benchmark.extra_info["bytes"] = len(buffer.map)

    def send() -> None:
        with Channel.null() as sink:
            send_all(buffer, sink)

    benchmark(send)


@of("random")
def test_decode_frames(benchmark, buffer: Buffer) -> None:
    """Frames from memory into populated memory, by one reader: checks and hashes."""
    benchmark.extra_info["bytes"] = len(buffer.map)
    with Channel.memory() as recorded:
        send_all(buffer, recorded)
        stream = recorded.memory_data()

    def prepare() -> tuple[tuple[Channel], dict[str, Any]]:
        return (Channel.memory(stream),), {}

    def receive(channel: Channel) -> None:
        with channel, Receiver(buffer.memory, [channel], SESSION, fresh=True) as receiver:
            while not isinstance(receiver.wait(), EndEvent):
                pass

    benchmark.pedantic(receive, setup=prepare, rounds=8, warmup_rounds=1)
