# SPDX-License-Identifier: Apache-2.0
"""What an idle guest costs by its size alone: pytest bench/test_micro_harvest.py

A sparse guest that writes next to nothing is taken through its first round
into a sink; then harvests, and whole rounds, are measured. What they take
beyond the smallest size is what is O(RAM).

``extra_info`` has the first round and, in MiB, what tracking added to page
tables and to memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pymigrate import TrackerKind
from pymigrate._engine import Channel, DirtyFlags, EpochKind, Sender, View
from pymigrate.errors import EngineError
from pymigrate.vmm import Vm, VmConfig

GIB = 1 << 30
SIZES_GIB = (1, 4, 16, 64)
SESSION = bytes(16)
TRACKERS = {
    "kvm-log": (TrackerKind.KVM_LOG, DirtyFlags.NONE),
    "kvm-log-get": (TrackerKind.KVM_LOG, DirtyFlags.NO_MANUAL_PROTECT),
    "kvm-ring": (TrackerKind.KVM_RING, DirtyFlags.NONE),
    "uffd-wp-async": (TrackerKind.UFFD_WP, DirtyFlags.NONE),
    "uffd-wp-sync": (TrackerKind.UFFD_WP, DirtyFlags.NO_ASYNC_WP),
    "marked": (TrackerKind.MARKED, DirtyFlags.NONE),
}


def proc_mib(name: str) -> float:
    """A line of /proc/self/status that is in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


class Idle:
    """A running guest of which the first round has been sent."""

    def __init__(self, gib: int, tracker: str, backing: str) -> None:
        kind, flags = TRACKERS[tracker]
        self.vm = Vm(
            VmConfig(
                memory_bytes=gib * GIB,
                working_set_bytes=0,
                guest="idle",
                content="untouched",
                backing=backing,
                tracker=kind,
            ),
            populate=True,
        )
        self.vm.resume()
        self.vm.wait_device_reads(1)
        self.before = proc_mib("VmPTE"), proc_mib("VmRSS")
        self.tracker = self.vm.tracker(kind, flags)
        self.tracker.start()
        self.view = View(self.tracker)
        self.sink = Channel.null()
        self.sender = Sender(self.vm.memory(), self.view, [self.sink], SESSION)
        self.first = self.sender.round(EpochKind.FUZZY)

    def round(self) -> None:
        self.sender.round(EpochKind.FUZZY)
        self.view.commit()

    def facts(self) -> dict[str, float]:
        return {
            "first_round_ms": self.first.duration_ns / 1e6,
            "first_harvest_ms": self.first.harvest_ns / 1e6,
            "page_tables_mib": proc_mib("VmPTE") - self.before[0],
            "memory_mib": proc_mib("VmRSS") - self.before[1],
        }

    def close(self) -> None:
        for made in (self.sender, self.view, self.tracker, self.sink):
            made.close()
        self.vm.close()


@pytest.fixture(params=SIZES_GIB, ids="{}GiB".format)
def gib(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["memfd", "anonymous"])
def backing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(TRACKERS))
def idle(request: pytest.FixtureRequest, gib: int, backing: str) -> Iterator[Idle]:
    try:
        made = Idle(gib, request.param, backing)
    except EngineError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_harvest_idle(benchmark, idle: Idle) -> None:
    """Finding out that nothing was written."""
    benchmark.extra_info.update(idle.facts())
    benchmark(idle.view.harvest)


def test_round_idle(benchmark, idle: Idle) -> None:
    """A whole round over the few pages that an idle guest writes."""
    benchmark.extra_info.update(idle.facts())
    benchmark(idle.round)
