# SPDX-License-Identifier: Apache-2.0
"""The demo: its report, its proof, and what it does when disturbed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PYMIGRATE, QUICK, TIMEOUT_S, run


def demo(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and stderr of a small demo."""
    done = run("demo", *QUICK, *arguments, "--json", "-")
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.kvm
def test_demo_of_a_kvm_guest(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = run(
        "demo", *QUICK, "--vcpus", "2", "--verify", "--content", "mixed", "--json", str(path)
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    check_report(report, backend="kvm")
    assert report["tracker"]["kind"].startswith("kvm-")
    assert report["verify"]["pages"] == 8192 and report["verify"]["mismatches"] == 0
    assert "the guest runs at the destination" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def check_report(report: dict[str, Any], backend: str) -> None:
    """Everything that a report of a completed demo holds."""
    assert report["schema"] == "pymigrate.report/1"
    assert (report["outcome"], report["guest"]) == ("completed", "destination")
    assert report["host"]["kernel"] == os.uname().release
    assert report["config"]["backend"] == backend
    for number, done in enumerate(report["rounds"], start=1):
        assert done["epoch"] == number
        pages = done["pages_by_encoding"]
        assert done["sent_pages"] == sum(pages.values()) - pages["hole"]
        assert (pages["zero"], pages["raw"]) == (done["zero_pages"], done["raw_pages"])
        assert done["wire_bytes"] >= 4096 * done["raw_pages"]
        assert done["duration_ms"] > 0 and done["bandwidth_bytes_per_s"] >= 0
    assert report["rounds"][-1]["kind"] == "sealed"
    parts = ("quiesce_ms", "final_round_ms", "state_ms", "commit_ms", "resume_ms")
    total = report["downtime"]["total_ms"]
    assert total == pytest.approx(sum(report["downtime"][part] for part in parts))
    assert report["predicted_downtime_ms"] > 0 and report["total_ms"] > total
    assert report["wire_bytes"] > 0 and report["guest_gap_ms"] > 0
    assert report["oracle"]["ok"] and report["oracle"]["counters_checked"] == 1024
    assert report["proof"]["ok"] and report["proof"]["source"]["stopped"]
    there = report["proof"]["destination"]
    assert there["beats_after"] > there["beats_before"] >= report["proof"]["source"]["beats_after"]


@pytest.mark.uffd
def test_demo_without_kvm() -> None:
    code, report, _ = demo("--backend", "threads", "--guest", "partial")
    assert code == 0, report.get("error")
    check_report(report, backend="threads")
    assert report["tracker"]["kind"] == "uffd-wp"


@pytest.mark.parametrize("guest", ["random", "read", "idle"])
def test_demo_of_other_programs(guest: str) -> None:
    code, report, errors = demo("--guest", guest, "--tracker", "marked")
    assert code == 0, errors
    assert report["oracle"]["ok"] and report["tracker"]["kind"] == "marked"


def test_demo_of_a_guest_that_writes_whole_pages() -> None:
    code, report, errors = demo("--guest", "partial", "--write-bytes", "4032")
    assert code == 0, errors
    assert report["oracle"]["ok"] and report["config"]["write_bytes"] == 4032


def test_demo_of_a_guest_that_seldom_beats() -> None:
    code, report, errors = demo("--guest", "idle", "--tick-hz", "250")
    assert code == 0, errors
    assert report["oracle"]["ok"] and report["config"]["tick_hz"] == 250
    assert report["guest_gap_ms"] >= 4


@pytest.mark.netns
def test_demo_over_a_link() -> None:
    code, report, errors = demo("--link", "500mbit")
    assert code == 0, errors
    assert report["config"]["link_bits_per_s"] == 500_000_000
    first = report["rounds"][0]
    assert 0.5 * 500e6 < first["bandwidth_bytes_per_s"] * 8 < 1.1 * 500e6


@pytest.mark.netns
def test_a_guest_that_dirties_too_fast_stays() -> None:
    """Exit code 3, the reason, and a guest that lost nothing."""
    # As lines that changed, its pages would fit through the link.
    slow = ("--link", "200mbit", "--compress", "none", "--delta", "off")
    code, report, errors = demo(*slow, "--dirty-rate", "unlimited", "--downtime-limit-ms", "20")
    assert code == 3, errors
    assert (report["outcome"], report["guest"]) == ("not-converged", "source")
    assert "dirties" in report["error"]
    assert report["proof"]["ok"] and report["oracle"]["ok"]


def test_runs_are_summarized() -> None:
    code, report, errors = demo("--runs", "2")
    assert code == 0, errors
    assert len(report["runs"]) == 2 and report["outcome"] == "completed"
    for name in ("downtime_ms", "total_ms", "prediction_error_ms"):
        spread = report["summary"][name]
        assert 0 <= spread["min"] <= spread["median"] <= spread["max"]


def test_the_time_limit_cancels() -> None:
    code, report, errors = demo("--dirty-rate", "unlimited", "--timeout", "1ms", "--channels", "1")
    assert code == 3, errors
    assert report["outcome"] == "cancelled" and report["proof"]["ok"]
    assert "time limit" in errors


# ---- interruption and loss --------------------------------------------------


class Running:
    """A demo under way, slow enough to be disturbed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        line = [*PYMIGRATE, "demo", *QUICK, "--memory", "64M", "--link", "200mbit"]
        self.process = subprocess.Popen(
            [*line, "--json", str(path)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.errors = ""

    def until(self, words: str) -> str:
        """The line of progress that holds these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line
            if words in line:
                return line
        pytest.fail(f"the demo ended before it said {words!r}: {self.errors}")

    def end(self) -> tuple[int, dict[str, Any]]:
        _, rest = self.process.communicate(timeout=TIMEOUT_S)
        self.errors += rest
        report = json.loads(self._path.read_text()) if self._path.exists() else {}
        return self.process.returncode, report


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    demo = Running(tmp_path / "report.json")
    yield demo
    if demo.process.poll() is None:
        demo.process.kill()
        demo.process.wait()


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels(running: Running, number: signal.Signals) -> None:
    running.until("asking the destination")
    running.process.send_signal(number)
    code, report = running.end()
    assert code == 3, (running.errors, report.get("error"))
    assert (report["outcome"], report["guest"]) == ("cancelled", "source")
    assert report["proof"]["ok"] and report["oracle"]["ok"]


@pytest.mark.netns
@pytest.mark.parametrize("victim", ["destination", "source"])
def test_a_process_that_dies(running: Running, victim: str) -> None:
    pids = re.findall(r"is process (\d+)", running.until("source is process"))
    running.until("asking the destination")
    os.kill(int(pids[victim == "destination"]), signal.SIGKILL)
    code, report = running.end()
    assert code == 1, running.errors
    if victim == "destination":
        assert (report["outcome"], report["guest"]) == ("failed", "source")
        assert report["proof"]["ok"]
    else:
        assert "the source ended" in running.errors
    assert not any(is_alive(int(pid)) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.netns
def test_a_guest_that_is_lost_after_the_handover_is_an_operators_case(running: Running) -> None:
    pids = re.findall(r"is process (\d+)", running.until("source is process"))
    running.until("the guest runs at the destination")
    os.kill(int(pids[1]), signal.SIGKILL)
    code, _ = running.end()
    assert code == 4, running.errors
    assert "the destination ended" in running.errors


@pytest.mark.netns
def test_children_do_not_outlive_the_demo(running: Running) -> None:
    pids = [int(pid) for pid in re.findall(r"is process (\d+)", running.until("source is process"))]
    running.process.kill()
    running.process.wait()
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a child still runs"
        time.sleep(0.05)


# ---- on a terminal ----------------------------------------------------------


def on_a_terminal(line: list[str]) -> tuple[int, str]:
    """Run below a pseudo-terminal; exit code and everything written."""
    child, fd = pty.fork()
    if child == 0:
        os.environ["COLUMNS"] = "80"
        os.execv(line[0], line)
    written = b""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(fd)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), written.decode()


@pytest.mark.netns
def test_a_terminal_never_sees_100_percent() -> None:
    line = [*PYMIGRATE, "demo", *QUICK, "--memory", "64M", "--link", "200mbit", "--verbose"]
    code, written = on_a_terminal(line)
    assert code == 0, written
    shown = [int(percent) for percent in re.findall(r"(\d+) %", written)]
    assert shown and max(shown) < 100
    assert "round 1" in written and "migrated" in written
    assert "in use, by measurement" in written
