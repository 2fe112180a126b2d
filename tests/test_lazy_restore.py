# SPDX-License-Identifier: Apache-2.0
"""A guest that runs out of a file before its memory is here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_pair import MIB, check_intact, migrate, options, run_on, small
from fault_tunings import LZ4, RAW, ZSTD
from lazy_kit import LIMIT_MS, bounded, lazily, record, start

from pymigrate import Destination
from pymigrate.report import Outcome
from pymigrate.restoring import Restoring
from pymigrate.vmm import Backend, Backing, Guest, Vm, VmConfig
from pymigrate.working_set import load_working_set, save_working_set, working_set_path

pytestmark = [pytest.mark.uffd, pytest.mark.usefixtures("nothing_leaks")]

TUNINGS = {"raw": RAW, "lz4": LZ4, "zstd": ZSTD}
BACKINGS = [
    pytest.param(backing, marks=[pytest.mark.thp] if backing is Backing.THP else [])
    for backing in Backing
]


# ---- the guest goes on ------------------------------------------------------


@pytest.mark.kvm
@pytest.mark.parametrize("backing", BACKINGS)
def test_guest_runs_and_is_whole(
    recorded: Path, backing: Backing, request: pytest.FixtureRequest
) -> None:
    if backing is Backing.HUGETLBFS:
        request.getfixturevalue("hugepages")
    # Slowly enough for something to be missing when the guest runs.
    with lazily(recorded, backing, fill_limit_bytes_per_s=32 * MIB) as destination:
        report, restoring, machine = start(destination)
        assert report.missing_pages > 0
        run_on(machine)
        assert restoring.wait(LIMIT_MS)
        assert restoring.complete and restoring.missing_pages == 0
        check_intact(machine)
        done = restoring.report()
    assert done.answered_pages + done.prefetched_pages + done.filled_pages == done.stored_pages
    assert restoring.faults().count > 0
    assert restoring.faults().last_page_ms == done.complete_ms > 0


@pytest.mark.kvm
@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("backing", [Backing.ANONYMOUS, Backing.MEMFD])
def test_pages_are_right_before_all_are_here(tmp_path: Path, tuning: str, backing: Backing) -> None:
    """All that nobody writes is compared while it is still being read."""
    path, first = tmp_path / "guest", 4 * MIB
    record(path, small(memory_bytes=48 * MIB), TUNINGS[tuning])
    eager = Destination(f"file:{path}", lambda d: Vm(VmConfig.from_json(d["machine"])), options())
    with eager, lazily(path, backing, fill_limit_bytes_per_s=64 * MIB) as destination:
        assert bounded(eager.serve_one).outcome is Outcome.COMPLETED
        assert isinstance(eager.machine, Vm)
        _, restoring, machine = start(destination)
        run_on(machine)
        assert restoring.missing_pages > 0
        with machine.ram() as here, eager.machine.ram() as there:
            # Backwards, where the fill comes last.
            for at in range(48 * MIB - 4096, first - 4096, -4096):
                assert here[at : at + 4096] == there[at : at + 4096], f"page {at // 4096}"
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


@pytest.mark.kvm
@pytest.mark.parametrize("guest", Guest)
def test_every_program(tmp_path: Path, guest: Guest) -> None:
    path = tmp_path / "guest"
    record(path, small(guest=guest, dirty_rate_pages_per_s=None))
    with lazily(path) as destination:
        _, restoring, machine = start(destination)
        run_on(machine)
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


def test_threads_without_kvm(tmp_path: Path) -> None:
    path = tmp_path / "guest"
    record(path, small(backend=Backend.THREADS))
    with lazily(path) as destination:
        _, restoring, machine = start(destination)
        run_on(machine)
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


@pytest.mark.kvm
def test_machine_that_was_taken_goes_on_being_filled(recorded: Path) -> None:
    with lazily(recorded) as destination:
        _, restoring, _ = start(destination)
        machine = destination.take_machine()
    assert isinstance(machine, Vm)
    with machine:
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


@pytest.mark.kvm
def test_guest_moves_on_with_all_of_its_memory(recorded: Path, tmp_path: Path) -> None:
    """What is missing looks like holes: it is waited for before anything is sent."""
    again = tmp_path / "again"
    with lazily(recorded, fill_limit_bytes_per_s=32 * MIB) as destination:
        _, restoring, machine = start(destination)
        assert restoring.missing_pages > 0
        assert migrate(machine, f"file:{again}", options()).outcome is Outcome.COMPLETED
        assert restoring.complete
    with lazily(again) as destination:
        _, restoring, machine = start(destination)
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


# ---- working sets -----------------------------------------------------------


@contextmanager
def run_for_steps(path: Path, beats: int) -> Iterator[tuple[Restoring, Vm]]:
    """A guest that does the same in every run, as far as it goes."""
    with lazily(path) as destination:
        _, restoring, machine = start(destination)
        run_on(machine, beats)
        yield restoring, machine


@pytest.mark.kvm
@pytest.mark.parametrize("guest", [Guest.SWEEP, Guest.RANDOM])
def test_recorded_working_set_saves_faults(tmp_path: Path, guest: Guest) -> None:
    path = tmp_path / "guest"
    config = small(
        memory_bytes=256 * MIB,
        working_set_bytes=32 * MIB,
        guest=guest,
        dirty_rate_pages_per_s=8000,
        vcpus=1,
    )
    record(path, config)
    counts = []
    for _ in range(2):
        with run_for_steps(path, 20) as (restoring, machine):
            assert restoring.wait(LIMIT_MS)
            check_intact(machine)
        counts.append(restoring.faults().count)
    report = restoring.report()
    assert report.known_pages > 0 and report.prefetched_pages >= report.known_pages
    assert counts[0] > 50
    assert 3 * counts[1] < counts[0], counts


@pytest.mark.kvm
def test_working_set_lies_beside_the_file(recorded: Path) -> None:
    beside = Path(working_set_path(str(recorded)))
    with lazily(recorded) as destination:
        report, restoring, machine = start(destination)
        assert report.restore is not None and report.restore.working_set == "none was recorded"
        assert restoring.wait(LIMIT_MS)
        memory = machine.memory().describe()
        first = load_working_set(str(beside), memory)
        assert restoring.report().recorded.startswith(f"{len(first)} pages")
    with lazily(recorded) as destination:
        report, restoring, _ = start(destination)
        assert report.restore is not None and report.restore.known_pages == len(first)
        assert restoring.wait(LIMIT_MS)
    # What was known comes first, and is not lost.
    assert load_working_set(str(beside), memory)[: len(first)] == first


@pytest.mark.kvm
@pytest.mark.parametrize("damage", ["cut", "bit", "other", "empty", "directory"])
def test_working_set_that_cannot_be_used_is_ignored(recorded: Path, damage: str) -> None:
    beside = Path(working_set_path(str(recorded)))
    with Vm(small(memory_bytes=32 * MIB)) as vm:
        memory = vm.memory().describe()
    if damage == "other":
        memory[0]["size_bytes"] //= 2
    if damage == "directory":
        beside.mkdir()
    else:
        save_working_set(str(beside), memory, [1, 2, 3])
    data = b"" if damage == "directory" else beside.read_bytes()
    if damage in ("cut", "empty"):
        beside.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    if damage == "bit":
        beside.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with lazily(recorded) as destination:
        report, restoring, machine = start(destination)
        assert report.restore is not None
        assert report.restore.working_set.startswith("ignored: ")
        assert report.restore.known_pages == 0
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)
        words = restoring.report().recorded
    assert words.startswith("not saved") if damage == "directory" else "pages" in words
