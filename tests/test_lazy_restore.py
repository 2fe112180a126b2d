# SPDX-License-Identifier: Apache-2.0
"""A guest that runs out of a file before its memory is here."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from fault_pair import LIMIT_S, MIB, check_intact, migrate, options, run_on, small
from fault_tunings import LZ4, RAW, ZSTD
from stream_builder import PAGES, STATE

from pymigrate import Destination, Report
from pymigrate.errors import EngineCancelled, StreamError
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.restoring import Restoring
from pymigrate.vmm import Backend, Backing, Guest, Vm, VmConfig
from pymigrate.working_set import load_working_set, save_working_set, working_set_path

pytestmark = [pytest.mark.uffd, pytest.mark.usefixtures("nothing_leaks")]

LIMIT_MS = int(LIMIT_S * 1000)
TUNINGS = {"raw": RAW, "lz4": LZ4, "zstd": ZSTD}
BACKINGS = [
    pytest.param(backing, marks=[pytest.mark.thp] if backing is Backing.THP else [])
    for backing in Backing
]


def record(path: Path, config: VmConfig, tuning: dict[str, Any] = RAW, warm: bool = True) -> None:
    """A guest that ran for a while, in a file."""
    with Vm(config, populate=True) as vm:
        if warm:
            vm.resume()
            run_on(vm, 1)
        report = migrate(vm, f"file:{path}", options(**tuning))
        assert report.outcome is Outcome.COMPLETED, report.error
        assert report.guest is Owner.FILE


def lazily(path: Path, backing: Backing | None = None, **more: Any) -> Destination:
    """A destination for the file; the backing may be another one there."""

    def build(description: dict[str, Any]) -> Vm:
        config = VmConfig.from_json(description["machine"])
        return Vm(replace(config, backing=backing or config.backing))

    return Destination(f"file:{path}", build, options(lazy=True, **more))


# Far from complete when something else happens.
SLOWLY = {"fill_limit_bytes_per_s": 4 * MIB}


def bounded(call: Callable[[], Report]) -> Report:
    """What hangs fails."""
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(call()), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "the destination hangs"
    return reports[0]


def start(destination: Destination) -> tuple[Report, Restoring, Vm]:
    report = bounded(destination.serve_one)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert report.restore is not None and report.restore.running_ms > 0
    machine, restoring = destination.machine, destination.restoring
    assert isinstance(machine, Vm) and restoring is not None
    return report, restoring, machine


def refused(destination: Destination) -> str:
    with destination:
        report = bounded(destination.serve_one)
        assert destination.machine is None
    assert report.outcome is Outcome.FAILED and report.guest is Owner.FILE
    assert report.error and "Traceback" not in report.error
    return report.error


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A KVM guest in a file."""
    path = tmp_path_factory.mktemp("recorded") / "guest"
    record(path, small(memory_bytes=32 * MIB))
    return path


@pytest.fixture
def recorded(original: Path, tmp_path: Path) -> Path:
    """The same, with nothing beside it."""
    path = tmp_path / "recorded"
    os.link(original, path)
    return path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    path = tmp_path / "copy"
    path.write_bytes(original.read_bytes())
    return path


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


# ---- files that are not whole -----------------------------------------------


@pytest.mark.kvm
@pytest.mark.parametrize("keep", [0, 39, 200, 5000, 0.3, 0.9, -1])
def test_cut_file_is_refused(copy: Path, keep: float) -> None:
    size = copy.stat().st_size
    os.truncate(copy, int(keep * size) if 0 < keep < 1 else int(keep) % size)
    refused(lazily(copy))


@pytest.mark.kvm
def test_damaged_state_is_refused(copy: Path) -> None:
    with copy.open("r+b") as stream:
        flip(stream, next(at for kind, at, _ in frames_in(stream) if kind == STATE) + 100)
    assert f"file:{copy}: " in refused(lazily(copy))


@pytest.mark.kvm
def test_damaged_index_is_not_needed(copy: Path) -> None:
    with copy.open("r+b") as stream:
        flip(stream, copy.stat().st_size - 60)
    with lazily(copy) as destination:
        _, restoring, machine = start(destination)
        assert restoring.wait(LIMIT_MS)
        check_intact(machine)


def test_no_file(tmp_path: Path) -> None:
    assert os.strerror(2) in refused(lazily(tmp_path / "nothing"))


def frames_in(stream: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Type, place of the body, and head of every frame."""
    stream.seek(0)
    while header := stream.read(40):
        head_bytes, body_bytes = struct.unpack_from("<II", header, 20)
        head, at = stream.read(head_bytes), stream.tell()
        yield header[16], at, head
        stream.seek(at + body_bytes)


def flip(stream: IO[bytes], at: int) -> None:
    stream.seek(at)
    byte = stream.read(1)
    stream.seek(at)
    stream.write(bytes([byte[0] ^ 1]))


def damage_pages(path: Path, first: int, end: int = 1 << 62) -> None:
    """A bit in every raw page of the blocks that begin there in guest memory."""
    with path.open("r+b") as stream:
        for kind, at, head in frames_in(stream):
            if kind != PAGES:
                continue
            _, offset, _, count = struct.unpack_from("<QQII", head)
            for page in range(count if first <= offset < end else 0):
                flip(stream, at + 4096 * page)


@pytest.mark.kvm
def test_damaged_pages_are_never_given_to_the_guest(copy: Path) -> None:
    damage_pages(copy, 20 * MIB)
    with lazily(copy) as destination:
        _, restoring, machine = start(destination)
        with pytest.raises(StreamError, match="does not match its hash"):
            restoring.wait(LIMIT_MS)
        assert isinstance(restoring.error, StreamError)
        assert not restoring.complete and restoring.missing_pages > 0
        # It goes on, as long as it does not need them.
        run_on(machine)
    assert restoring.missing_pages > 0


@pytest.mark.kvm
def test_guest_that_waits_for_a_damaged_page_can_be_closed(copy: Path) -> None:
    # Its counters, which it writes again and again, but for its first pages.
    damage_pages(copy, 2 * MIB, 4 * MIB)
    with lazily(copy) as destination:
        _, restoring, _ = start(destination)
        with pytest.raises(StreamError, match="does not match its hash"):
            restoring.wait(LIMIT_MS)
        begin = time.monotonic()
    assert time.monotonic() - begin < LIMIT_S / 2


@pytest.mark.kvm
def test_damage_where_the_machine_is_loaded(copy: Path) -> None:
    """The heartbeats, which are touched before it runs: it never does."""
    damage_pages(copy, MIB, MIB + (256 << 10))
    assert "does not match its hash" in refused(lazily(copy))


@pytest.mark.kvm
@pytest.mark.parametrize("keep", [0.3, 0.05])
def test_file_is_cut_while_the_guest_runs(copy: Path, keep: float) -> None:
    """Where it does not look at once, and where it does."""
    with lazily(copy, **SLOWLY) as destination:
        _, restoring, _ = start(destination)
        os.truncate(copy, int(copy.stat().st_size * keep))
        with pytest.raises(StreamError, match=r"cut off after it was opened|changed"):
            restoring.wait(LIMIT_MS)


# ---- the end before the end -------------------------------------------------


@pytest.mark.kvm
def test_closing_midway_keeps_what_was_touched(copy: Path) -> None:
    with lazily(copy, **SLOWLY) as destination:
        _, restoring, machine = start(destination)
        run_on(machine)
        memory = machine.memory().describe()
    assert not restoring.complete
    assert restoring.missing_pages > 0
    with pytest.raises(EngineCancelled):
        restoring.wait(0)
    pages = load_working_set(working_set_path(str(copy)), memory)
    assert len(pages) > 4
    restoring.close()


@pytest.mark.kvm
def test_owner_closes_the_machine_midway(recorded: Path) -> None:
    """Not the destination: memory is released in the right order all the same."""
    with lazily(recorded, **SLOWLY) as destination:
        _, restoring, _ = start(destination)
        machine = destination.take_machine()
        machine.close()
    assert restoring.missing_pages > 0
    with pytest.raises(EngineCancelled):
        restoring.wait(0)


class Broken(Vm):
    """A machine one of whose hooks fails."""

    name = ""

    def load_state(self, data: bytes) -> None:
        if self.name == "load_state":
            raise RuntimeError("broken")
        super().load_state(data)

    def before_run(self) -> None:
        if self.name == "before_run":
            raise RuntimeError("broken")
        super().before_run()

    def resume(self) -> None:
        if self.name == "resume":
            raise RuntimeError("broken")
        super().resume()


@pytest.mark.kvm
@pytest.mark.parametrize("name", ["load_state", "before_run", "resume"])
def test_machine_that_cannot_be_loaded(recorded: Path, name: str) -> None:
    def build(description: dict[str, Any]) -> Vm:
        machine = Broken(VmConfig.from_json(description["machine"]))
        machine.name = name
        return machine

    assert "broken" in refused(Destination(f"file:{recorded}", build, options(lazy=True)))


@pytest.mark.kvm
def test_machine_that_differs(recorded: Path) -> None:
    def build(description: dict[str, Any]) -> Vm:
        config = VmConfig.from_json(description["machine"])
        return Vm(replace(config, vcpus=1))

    assert "vcpus" in refused(Destination(f"file:{recorded}", build, options(lazy=True)))
