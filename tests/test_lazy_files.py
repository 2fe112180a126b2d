# SPDX-License-Identifier: Apache-2.0
"""Lazy restore where the file, the machine, or the patience of its owner fails."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from fault_pair import LIMIT_S, MIB, check_intact, options, run_on
from lazy_kit import LIMIT_MS, SLOWLY, lazily, refused, start
from stream_builder import PAGES, STATE

from pymigrate import Destination, Memory, Region
from pymigrate._engine import Faults, Restore, RestoreFormat
from pymigrate.errors import EngineCancelled, StreamError
from pymigrate.vmm import Vm, VmConfig
from pymigrate.working_set import load_working_set, working_set_path

pytestmark = [pytest.mark.uffd, pytest.mark.usefixtures("nothing_leaks")]


# ---- files that are not whole -----------------------------------------------


@pytest.mark.kvm
@pytest.mark.parametrize("keep", [0, 39, 200, 5000, 0.3, 0.9, -1])
def test_cut_file_is_refused(recorded_copy: Path, keep: float) -> None:
    size = recorded_copy.stat().st_size
    os.truncate(recorded_copy, int(keep * size) if 0 < keep < 1 else int(keep) % size)
    refused(lazily(recorded_copy))


@pytest.mark.kvm
def test_damaged_state_is_refused(recorded_copy: Path) -> None:
    with recorded_copy.open("r+b") as stream:
        flip(stream, next(at for kind, at, _ in frames_in(stream) if kind == STATE) + 100)
    assert f"file:{recorded_copy}: " in refused(lazily(recorded_copy))


@pytest.mark.kvm
def test_damaged_index_is_not_needed(recorded_copy: Path) -> None:
    with recorded_copy.open("r+b") as stream:
        flip(stream, recorded_copy.stat().st_size - 60)
    with lazily(recorded_copy) as destination:
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
def test_damaged_pages_are_never_given_to_the_guest(recorded_copy: Path) -> None:
    damage_pages(recorded_copy, 20 * MIB)
    with lazily(recorded_copy) as destination:
        _, restoring, machine = start(destination)
        with pytest.raises(StreamError, match="does not match its hash"):
            restoring.wait(LIMIT_MS)
        assert isinstance(restoring.error, StreamError)
        assert not restoring.complete and restoring.missing_pages > 0
        # It goes on, as long as it does not need them.
        run_on(machine)
    assert restoring.missing_pages > 0


@pytest.mark.kvm
def test_guest_that_waits_for_a_damaged_page_can_be_closed(recorded_copy: Path) -> None:
    # Its counters, which it writes again and again, but for its first pages.
    damage_pages(recorded_copy, 2 * MIB, 4 * MIB)
    with lazily(recorded_copy) as destination:
        _, restoring, _ = start(destination)
        with pytest.raises(StreamError, match="does not match its hash"):
            restoring.wait(LIMIT_MS)
        begin = time.monotonic()
    assert time.monotonic() - begin < LIMIT_S / 2


@pytest.mark.kvm
def test_damage_where_the_machine_is_loaded(recorded_copy: Path) -> None:
    """The heartbeats, which are touched before it runs: it never does."""
    damage_pages(recorded_copy, MIB, MIB + (256 << 10))
    assert "does not match its hash" in refused(lazily(recorded_copy))


@pytest.mark.kvm
@pytest.mark.parametrize("keep", [0.3, 0.05])
def test_file_is_cut_while_the_guest_runs(recorded_copy: Path, keep: float) -> None:
    """Where it does not look at once, and where it does."""
    with lazily(recorded_copy, **SLOWLY) as destination:
        _, restoring, _ = start(destination)
        os.truncate(recorded_copy, int(recorded_copy.stat().st_size * keep))
        with pytest.raises(StreamError, match=r"cut off after it was opened|changed"):
            restoring.wait(LIMIT_MS)


# ---- the end before the end -------------------------------------------------


@pytest.mark.kvm
def test_closing_midway_keeps_what_was_touched(recorded_copy: Path) -> None:
    with lazily(recorded_copy, **SLOWLY) as destination:
        _, restoring, machine = start(destination)
        run_on(machine)
        memory = machine.memory().describe()
    assert not restoring.complete
    assert restoring.missing_pages > 0
    with pytest.raises(EngineCancelled):
        restoring.wait(0)
    pages = load_working_set(working_set_path(str(recorded_copy)), memory)
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


# ---- what is said wrongly ---------------------------------------------------


def test_fill_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="fill_limit_bytes_per_s is 0"):
        options(fill_limit_bytes_per_s=0)


def test_raw_memory_needs_an_offset_for_each_region(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(MIB))
    area = mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with (
        path.open("rb") as stream,
        Memory([Region.of_buffer(area)]) as memory,
        Faults(memory) as faults,
        pytest.raises(ValueError, match="0 offsets for 1 regions"),
    ):
        Restore(memory, faults, stream.fileno(), RestoreFormat.RAW)


def test_raw_memory(tmp_path: Path) -> None:
    """As it is in the file, each region in one piece; a hole is zeros."""
    path, size = tmp_path / "memory", 2 * MIB
    content = os.urandom(MIB // 2)
    with path.open("wb") as stream:
        stream.truncate(4096 + size)
        stream.seek(4096 + MIB)
        stream.write(content)
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with (
        path.open("rb") as stream,
        Memory([Region.of_buffer(area)]) as memory,
        Faults(memory) as faults,
        Restore(memory, faults, stream.fileno(), RestoreFormat.RAW, offsets=[4096]) as restore,
    ):
        assert restore.state() is None
        assert restore.figures().stored_pages == len(content) // 4096
        faults.start()
        restore.start()
        assert restore.wait(LIMIT_MS)
        assert bytes(area) == bytes(MIB) + content + bytes(size - MIB - len(content))
