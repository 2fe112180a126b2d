# SPDX-License-Identifier: Apache-2.0
"""Stream files that cannot be written, and files that are not whole."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_case import running_vm
from fault_pair import MIB, build, check_intact, migrate, migrate_well, options
from fault_tunings import AUTO, LZ4_DELTA, RAW, ZSTD_DELTA

from pymigrate import Destination, Report
from pymigrate.report import Guest as Owner
from pymigrate.report import Outcome
from pymigrate.vmm import Vm

pytestmark = pytest.mark.uffd

SEEDS = range(6)
TUNINGS = {"auto": AUTO, "raw": RAW, "lz4": LZ4_DELTA, "zstd": ZSTD_DELTA}
TMPFS_BYTES = 4 * MIB


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system that the guest does not fit into."""
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def check_stays(vm: Vm, report: Report, words: str) -> None:
    """The guest was not harmed, and can be sent elsewhere."""
    assert report.outcome is Outcome.FAILED
    assert report.guest is Owner.SOURCE
    assert words in (report.error or ""), report.error
    check_intact(vm)
    vm.resume()
    migrate_well(vm, "tcp:127.0.0.1:0", options())


def test_disk_runs_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, running_vm() as vm:
        report = migrate(vm, f"file:{disk}/guest", options())
        # Half a machine would only be in the way.
        assert not list(disk.iterdir())
        check_stays(vm, report, "no space left")


def test_directory_does_not_exist(tmp_path: Path) -> None:
    with running_vm() as vm:
        report = migrate(vm, f"file:{tmp_path}/nowhere/guest", options())
        check_stays(vm, report, os.strerror(2))


@pytest.fixture(scope="module", params=TUNINGS)
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole stream file of a machine."""
    path = tmp_path_factory.mktemp("stream") / "guest"
    with running_vm() as vm:
        report = migrate(vm, f"file:{path}", options(**TUNINGS[request.param]))
        assert report.outcome is Outcome.COMPLETED, report.error
        assert report.guest is Owner.FILE
        assert not vm.status().running
    return path.read_bytes()


def load(path: Path, data: bytes) -> tuple[Report, Vm | None]:
    path.write_bytes(data)
    with Destination(f"file:{path}", build, options()) as destination:
        report = destination.serve_one()
        machine = destination.take_machine() if destination.machine else None
    assert machine is None or isinstance(machine, Vm)
    return report, machine


def check_refused(path: Path, data: bytes) -> str:
    report, machine = load(path, data)
    assert machine is None
    assert report.outcome is Outcome.FAILED
    assert report.error and "Traceback" not in report.error
    return report.error


def test_whole_file_is_loaded(stream: bytes, tmp_path: Path) -> None:
    report, machine = load(tmp_path / "guest", stream)
    assert report.outcome is Outcome.COMPLETED, report.error
    assert machine is not None
    with machine:
        check_intact(machine)


@pytest.mark.parametrize("seed", SEEDS)
def test_truncated_file_is_refused(stream: bytes, tmp_path: Path, seed: int) -> None:
    # Also the very ends: nothing at all, and all but the last byte.
    sizes = {0: 0, 1: 1, 2: len(stream) - 1}
    size = sizes.get(seed, random.Random(seed).randrange(len(stream)))
    check_refused(tmp_path / "guest", stream[:size])


@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_bit_is_refused(stream: bytes, tmp_path: Path, seed: int) -> None:
    """Anywhere: in headers, in what they cover, and in the pages' bytes.

    A flipped bit of a page that a later round sends again does no harm.
    """
    chosen = random.Random(seed)
    # Half of them in the frames at the start, half among the pages.
    where = chosen.randrange(64 << 10 if seed % 2 else len(stream))
    data = bytearray(stream)
    data[where] ^= 1 << chosen.randrange(8)
    report, machine = load(tmp_path / "guest", bytes(data))
    if machine is None:
        assert report.outcome is Outcome.FAILED and report.error
        return
    with machine:
        check_intact(machine)


@pytest.mark.parametrize(
    "junk", [b"", b"PMIG", bytes(4096), random.Random(0).randbytes(4096)], ids=len
)
def test_no_stream_at_all(tmp_path: Path, junk: bytes) -> None:
    check_refused(tmp_path / "guest", junk)
