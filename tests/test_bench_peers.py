# SPDX-License-Identifier: Apache-2.0
"""Every kind of contender does a small task, and leaves nothing behind. Nothing is timed."""

from __future__ import annotations

import mmap
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers.bare_mover import BareMover
from bench.peers.iperf import Iperf
from bench.peers.memory import Memcpy
from bench.peers.ours import Ours
from bench.peers.processes import ProcessMemory, cpu_s, find_mapping
from bench.peers.qemu import Qemu
from bench.peers.qmp import QmpError
from bench.runner import run_once
from bench.scenario import Contender
from bench.task import MIB, Dirtying, Run, Task

GBIT = 10**9
IDLE = Task(64 * MIB, (("random", 64 * MIB),), time_limit_s=30.0)
BUSY = Task(
    64 * MIB,
    (("random", 64 * MIB),),
    dirtying=Dirtying.WORD,
    working_set_bytes=8 * MIB,
    rate_pages_per_s=2000,
    time_limit_s=30.0,
)


def needs(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: install {package}")


def children() -> set[str]:
    """Processes that this one started and has not waited for."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def completed(contender: Contender, task: Task) -> Run:
    before = children()
    run = run_once(contender, task)
    assert run.error is None
    assert run.outcome == "completed"
    assert run.total_ms and run.total_ms > 0
    assert run.source_cpu_s is not None and run.destination_cpu_s is not None
    assert children() == before
    return run


@pytest.mark.kvm
@pytest.mark.parametrize("task", [IDLE, BUSY], ids=["idle", "busy"])
def test_ours(task: Task) -> None:
    run = completed(Ours("pymigrate"), task)
    assert run.downtime_ms and run.predicted_downtime_ms and run.rounds
    assert bool(run.dirty_pages_per_s) is (task is BUSY)


@pytest.mark.kvm
def test_ours_with_contents_from_outside() -> None:
    layout = (("random", 16 * MIB), ("text", 16 * MIB), ("untouched", 32 * MIB))
    run = completed(Ours("pymigrate", options=("--compress", "none")), Task(64 * MIB, layout))
    assert run.wire_bytes is not None
    assert 29 * MIB < run.wire_bytes < 33 * MIB


@pytest.mark.kvm
@pytest.mark.parametrize(
    "contender",
    [
        Qemu("plain"),
        Qemu("xbzrle", ("xbzrle",), {"xbzrle_cache_size": 64 * MIB}),
        Qemu(
            "multifd+zstd",
            ("multifd",),
            {"multifd_channels": 2, "multifd_compression": "zstd"},
        ),
        Qemu("auto-converge", ("auto-converge",)),
    ],
    ids=lambda contender: contender.name,
)
def test_qemu(contender: Qemu) -> None:
    needs("qemu-system-x86_64", "qemu-system-x86")
    run = completed(contender, BUSY)
    assert run.downtime_ms and run.own_downtime_ms is not None
    assert run.dirty_pages_per_s


@pytest.mark.kvm
def test_qemu_refuses_what_it_does_not_know() -> None:
    needs("qemu-system-x86_64", "qemu-system-x86")
    with pytest.raises(QmpError, match="warp"):
        Qemu("warp", ("warp",)).run(IDLE)
    assert run_once(Qemu("warp", ("warp",)), IDLE).outcome == "failed"


@pytest.mark.kvm
@pytest.mark.netns
def test_what_crosses_a_link_is_counted() -> None:
    task = Task(16 * MIB, (("random", 16 * MIB),), link_bits_per_s=GBIT)
    run = completed(Ours("pymigrate"), task)
    assert run.link_bytes is not None and run.wire_bytes is not None
    assert run.wire_bytes < run.link_bytes < 1.2 * run.wire_bytes


@pytest.mark.kvm
@pytest.mark.netns
@pytest.mark.parametrize("contender", [Qemu("plain"), Ours("ours")], ids=["qemu", "ours"])
def test_what_is_not_done_in_time_is_cancelled(contender: Contender) -> None:
    if isinstance(contender, Qemu):
        needs("qemu-system-x86_64", "qemu-system-x86")
    task = replace(IDLE, link_bits_per_s=GBIT // 100, time_limit_s=1.0)
    before = children()
    run = run_once(contender, task)
    assert (run.outcome, run.total_ms) == ("not-converged", None)
    assert run.wire_bytes is not None and run.wire_bytes < 16 * MIB
    assert children() == before


@pytest.mark.parametrize("fresh", [False, True])
def test_bare_mover(fresh: bool) -> None:
    assert completed(BareMover("bare", 2, fresh), IDLE).wire_bytes == 64 * MIB


def test_memcpy() -> None:
    completed(Memcpy("memcpy"), IDLE)


def test_iperf() -> None:
    needs("iperf3", "iperf3")
    completed(Iperf("iperf3", seconds_s=1), IDLE)


def test_memory_of_a_process() -> None:
    size = 6 * MIB + 4096
    fd = os.memfd_create("here")
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as here:
        memory = ProcessMemory(os.getpid(), find_mapping(os.getpid(), size))
        memory.write(5 * MIB, memoryview(b"there"))
        assert here[5 * MIB : 5 * MIB + 5] == b"there"
        assert memory.read(5 * MIB, 5) == b"there"
        memory.close()
    os.close(fd)
    with pytest.raises(RuntimeError, match="mappings"):
        find_mapping(os.getpid(), 1 << 40)
    assert cpu_s(os.getpid()) > 0
