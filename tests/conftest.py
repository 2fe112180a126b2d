# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the beds they need and the account of what was skipped.

A marker named after a bed (``kvm``, ``uffd``, ``hugepages``, ``thp``,
``netns``, ``lab``) skips its test where the bed is missing, naming what is.  A test may
also skip itself for lack of one feature.  All skips are listed at the end.
With ``CI`` in the environment the run fails when a skip blames a bed that
this machine has.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import beds  # noqa: E402  (it needs scripts/ on the path)

MARKERS = {
    **{bed.name: f"needs {bed.summary}" for bed in beds.BEDS.values()},
    "lab_subset": "also runs inside the lab VM: keep it small",
    "asan": "runs under AddressSanitizer and UBSan",
    "tsan": "runs under ThreadSanitizer",
}
skips: dict[str, list[str]] = {}

# Time limits belong to the suite; how long one example takes says nothing on
# a machine that others use too.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lab last: it takes longest and everything else fails faster."""
    items.sort(key=lambda item: item.get_closest_marker("lab") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for bed in beds.BEDS.values():
        if item.get_closest_marker(bed.name):
            reason = bed.missing()
            if reason:
                pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        skips.setdefault(reason, []).append(report.nodeid)


def contradictions() -> list[str]:
    """Skips that blame a bed which is here, as sentences."""
    found = ((reason, beds.contradiction(reason), tests) for reason, tests in skips.items())
    return [
        f"{bed} is here, but {len(tests)} skipped for: {reason} ({tests[0]} ...)"
        for reason, bed, tests in found
        if bed
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and contradictions():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write = terminalreporter.write_line
    terminalreporter.section("beds and skips")
    for bed in beds.BEDS.values():
        write(f"{bed.name:10} {bed.missing() or 'here'}")
    for reason, tests in sorted(skips.items()):
        write(f"skipped {len(tests)}: {reason}")
    for sentence in contradictions():
        write(f"SKIPPED WITH ITS BED PRESENT: {sentence}")


@pytest.fixture(scope="session")
def slowdown() -> float:
    """How much slower than usual this machine is: factor for time limits."""
    return float(os.environ.get("PYMIGRATE_TEST_SLOWDOWN", "1"))


@pytest.fixture(scope="session")
def hugepages() -> Iterator[int]:
    """Reserves huge pages of 2 MiB for the session; gives their number."""
    reason = beds.hugepages_missing()
    if reason:
        pytest.skip(reason)
    before = int(beds.HUGE_PAGES.read_text())
    wanted = max(before, beds.HUGE_PAGES_WANTED)
    if wanted != before:
        beds.HUGE_PAGES.write_text(str(wanted))
    reserved = int(beds.HUGE_PAGES.read_text())
    if reserved < wanted:
        beds.HUGE_PAGES.write_text(str(before))
        pytest.skip(f"only {reserved} of {wanted} pages of 2 MiB could be reserved")
    yield reserved
    if wanted != before:
        beds.HUGE_PAGES.write_text(str(before))


@pytest.fixture
def nothing_leaks() -> Iterator[None]:
    """The test leaves as many threads and open files as it found."""
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small KVM guest in a file."""
    from fault_pair import MIB, small
    from lazy_kit import record

    path = tmp_path_factory.mktemp("recorded") / "guest"
    record(path, small(memory_bytes=32 * MIB))
    return path


@pytest.fixture
def recorded(recorded_once: Path, tmp_path: Path) -> Path:
    """The same, with nothing beside it."""
    path = tmp_path / "recorded"
    os.link(recorded_once, path)
    return path


@pytest.fixture
def recorded_copy(recorded_once: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    path = tmp_path / "copy"
    path.write_bytes(recorded_once.read_bytes())
    return path
