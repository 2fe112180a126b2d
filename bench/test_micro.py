# SPDX-License-Identifier: Apache-2.0
"""Micro-benchmarks of the engine: pytest bench/test_micro.py

Bytes per second follow from the sizes in the test names and the times that
pytest-benchmark prints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pymigrate._engine import Memory, Region

MIB = 1 << 20


class Buffer:
    """Shared memory of some MiB and the library's view of it."""

    def __init__(self, mib: int) -> None:
        import mmap

        self.fd = os.memfd_create("bench")
        os.ftruncate(self.fd, mib * MIB)
        self.map = mmap.mmap(self.fd, mib * MIB)
        self.memory = Memory([Region.of_buffer(self.map, fd=self.fd, shared=True)])

    def close(self) -> None:
        self.memory.close()
        self.map.close()
        os.close(self.fd)


@pytest.fixture
def buffer(request: pytest.FixtureRequest) -> Iterator[Buffer]:
    made = Buffer(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("buffer", [64], indirect=True, ids=["64MiB"])
@pytest.mark.parametrize("content", ["zero", "random"])
def test_hash_pages(benchmark, buffer: Buffer, content: str) -> None:
    """Zero test and hash of every page: the one read of the page pipeline."""
    seed = bytes(MIB) if content == "zero" else os.urandom(MIB)
    for at in range(0, len(buffer.map), MIB):
        buffer.map[at : at + MIB] = seed
    benchmark(buffer.memory.hash, 0, buffer.memory.blocks)


@pytest.mark.parametrize("buffer", [1024, 16384, 65536], indirect=True, ids="{}MiB".format)
def test_find_holes(benchmark, buffer: Buffer) -> None:
    """Which pages of untouched memory are allocated?"""
    benchmark(buffer.memory.present, 0, buffer.memory.blocks)
