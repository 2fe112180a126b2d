# SPDX-License-Identifier: Apache-2.0
"""The commands, run as a user runs them."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymigrate.cli import main
from pymigrate.cli.render import show_report
from pymigrate.cli.summary import summarize
from pymigrate.cli.units import (
    parse_duration_ms,
    parse_rate,
    parse_size,
    rate_words,
    size_words,
    time_words,
)

PYMIGRATE = [sys.executable, "-m", "pymigrate"]
SMALL = ["--memory", "32M", "--working-set", "4M", "--dirty-rate", "2000"]
QUICK = [*SMALL, "--run-for", "200ms"]
TIMEOUT_S = 90


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYMIGRATE, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def demo(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and stderr of a small demo."""
    done = run("demo", *QUICK, *arguments, "--json", "-")
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


# ---- sizes, rates and times -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512K", 512 << 10), ("64M", 64 << 20), ("1GiB", 1 << 30), ("2tb", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "64Q", "1 2", "0x10", "64MBit"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("1gbit", 10**9), ("100Mbit/s", 10**8), ("2.5gbit", 2_500_000_000)]
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "1g", "0gbit", "-1gbit", "1GB", "fast"])
def test_not_rates(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a link rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "ms"), [("30", 30_000), ("1.5s", 1500), ("500ms", 500), ("2m", 120_000)]
)
def test_durations(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "1h", "soon"])
def test_not_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a duration"):
        parse_duration_ms(text)


def test_words() -> None:
    assert [size_words(n) for n in (0, 1023, 1024, 1 << 20, 1 << 30, 1 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 GiB", "1.0 TiB",
    ]  # fmt: skip
    assert [time_words(ms) for ms in (0.5, 42.0, 999, 1000, 150_000)] == [
        "0.50 ms", "42.0 ms", "999 ms", "1.00 s", "2 min 30 s",
    ]  # fmt: skip
    assert [rate_words(bits) for bits in (0, 958e6, 1e9, 12.34e9)] == [
        "0 bit/s", "958 Mbit/s", "1.00 Gbit/s", "12.3 Gbit/s",
    ]  # fmt: skip


# ---- usage ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["demo", "--memory", "63M"], "multiple of 2M"),
        (["demo", "--memory", "4M"], "from 8M"),
        (["demo", "--memory", "much"], "is not a size"),
        (["demo", "--memory", "32M", "--working-set", "64M"], "is more than --memory"),
        (["demo", "--memory", "62G"], "do not fit"),
        (["demo", "--link", "40gbit"], "32gbit"),
        (["demo", "--channels", "65"], "more than 64"),
        (["demo", "--runs", "0"], "from 1 on"),
        (["demo", "--tracker", "kvm-log", "--backend", "threads"], "needs --backend kvm"),
        (["demo", "--json", "/nonexistent/report"], "does not exist"),
        (["demo", "--downtime-limit-ms", "0"], "above 0"),
        (["send", "carrier-pigeon:coop"], "is not an address"),
        (["recv", "tcp:nowhere"], "tcp:HOST:PORT"),
        (["inspect", "--json", "--frames", "x"], "exclude each other"),
        ([], "COMMAND"),
    ],
)
def test_usage_errors(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert reason in captured.err
    assert "Traceback" not in captured.err and not captured.out


@pytest.mark.parametrize("command", ["demo", "send", "recv", "inspect", "check"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"\n  pymigrate {command}" in text
    assert "--netns" not in text and "--events" not in text


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    line = f"{sys.executable} -m pymigrate check | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "Traceback" not in done.stderr


# ---- demo -------------------------------------------------------------------


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
        assert done["sent_pages"] == done["zero_pages"] + done["raw_pages"]
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
    code, report, errors = demo(
        "--link", "200mbit", "--dirty-rate", "unlimited", "--downtime-limit-ms", "20"
    )
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
        line = [*PYMIGRATE, "demo", *QUICK, "--memory", "128M", "--link", "200mbit"]
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
def test_children_do_not_outlive_the_demo(running: Running) -> None:
    pids = [int(pid) for pid in re.findall(r"is process (\d+)", running.until("source is process"))]
    running.process.kill()
    running.process.wait()
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a child still runs"
        time.sleep(0.05)


# ---- send and recv ----------------------------------------------------------


def test_send_to_a_file_and_load_it(tmp_path: Path) -> None:
    path = tmp_path / "guest.pmig"
    sent = run("send", f"file:{path}", *SMALL, "--content", "mixed")
    assert sent.returncode == 0, sent.stderr
    assert "the guest is in the file" in sent.stdout
    assert run("inspect", str(path)).returncode == 0
    again = run("send", f"file:{path}", *SMALL)
    assert again.returncode == 2 and "--force" in again.stderr
    assert run("send", f"file:{path}", *SMALL, "--force").returncode == 0
    loaded = run("recv", f"file:{path}", "--run-for", "100ms", "--json", "-")
    assert loaded.returncode == 0, loaded.stderr
    report = json.loads(loaded.stdout)
    assert report["oracle"]["ok"] and report["proof"]["destination"]["ok"]


def test_send_to_recv_over_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/guest.sock"
    line = [*PYMIGRATE, "recv", address, "--run-for", "100ms", "--json", "-"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as there:
        assert there.stderr is not None
        assert "listening on" in there.stderr.readline()
        sent = run("send", address, *SMALL)
        out, errors = there.communicate(timeout=TIMEOUT_S)
    assert sent.returncode == 0, sent.stderr
    assert there.returncode == 0, errors
    report = json.loads(out)
    assert (report["role"], report["guest"]) == ("destination", "destination")
    assert report["oracle"]["ok"]


def test_recv_refuses_a_guest_that_is_too_large(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/guest.sock"
    line = [*PYMIGRATE, "recv", address, "--max-memory", "16M"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as there:
        assert there.stderr is not None
        there.stderr.readline()
        sent = run("send", address, *SMALL)
        there.communicate(timeout=TIMEOUT_S)
    assert sent.returncode == 1 and there.returncode == 1
    assert "at most 16.0 MiB are accepted here" in " ".join(sent.stdout.split())


def test_nobody_listens(tmp_path: Path) -> None:
    sent = run("send", f"unix:{tmp_path}/nobody", *SMALL)
    assert sent.returncode == 1
    assert "the guest runs at the source" in sent.stdout and "Traceback" not in sent.stderr


def test_nobody_sends(tmp_path: Path) -> None:
    there = run("recv", f"unix:{tmp_path}/guest.sock", "--timeout", "100ms")
    assert there.returncode == 1 and "no guest came" in there.stderr


def test_an_interrupted_recv_says_so(tmp_path: Path) -> None:
    line = [*PYMIGRATE, "recv", f"unix:{tmp_path}/guest.sock"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as there:
        assert there.stderr is not None
        there.stderr.readline()
        there.send_signal(signal.SIGINT)
        _, errors = there.communicate(timeout=TIMEOUT_S)
    assert there.returncode == 3 and "Traceback" not in errors


# ---- what is shown ----------------------------------------------------------


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
    line = [*PYMIGRATE, "demo", *QUICK, "--memory", "64M", "--link", "200mbit"]
    code, written = on_a_terminal(line)
    assert code == 0, written
    shown = [int(percent) for percent in re.findall(r"(\d+) %", written)]
    assert shown and max(shown) < 100
    assert "round 1" in written and "migrated" in written


def shown(report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    show_report(report)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return out


def report_of(**changes: Any) -> dict[str, Any]:
    """A report with everything in it."""
    done = {
        "epoch": 1, "kind": "fuzzy", "dirty_pages": 16777216, "sent_pages": 16777216,
        "zero_pages": 16777216, "raw_pages": 0, "hole_pages": 0, "wire_bytes": 1023 << 20,
        "duration_ms": 99_990.0, "harvest_ms": 1.0, "bandwidth_bytes_per_s": 124.9e6,
        "pending_pages": 16777216, "predicted_downtime_ms": 99_990.0, "decision": "continue",
        "reason": "",
    }  # fmt: skip
    return {
        "schema": "pymigrate.report/1", "outcome": "completed", "role": "source",
        "guest": "destination", "session": "00", "peer": "x", "host": {
            "kernel": "6.1.0", "cpu": "a processor with a name that is rather long", "cpus": 2,
            "kvm": "kvm_pvm", "arch": "x86_64", "memory_bytes": 1, "virtualized": True},
        "config": {"memory_bytes": 64 << 30, "vcpus": 64, "backend": "kvm", "guest": "partial",
                   "content": "untouched", "dirty_rate_pages_per_s": None,
                   "working_set_bytes": 1 << 30},
        "tracker": {"kind": "kvm-log", "variant": "manual-protect", "reason": "x"},
        "rounds": [done, {**done, "epoch": 2, "kind": "sealed"}],
        "rehearsal": {"pause_ms": 1.0, "quiesce_ms": 1.0, "capture_ms": 1.0, "resume_ms": 1.0,
                      "transfer_ms": 1.0, "load_ms": 1.0, "state_bytes": 20000},
        "downtime": {"total_ms": 100.0, "quiesce_ms": 0.0, "final_round_ms": 0.0, "state_ms": 0.0,
                     "commit_ms": 100.0, "resume_ms": 0.0},
        "predicted_downtime_ms": 1.0, "total_ms": 100_000.0, "wire_bytes": 1 << 40,
        "verify": {"pages": 16777216, "mismatches": 0, "duration_ms": 1.0}, "verify_ms": 1.0,
        "guest_gap_ms": 101.0, "error": None, "differences": [],
        "oracle": {"ok": True, "counters_checked": 262144, "content_checked": 16777216,
                   "steps": 1, "sweeps": 1, "device_reads": 1000000, "message": ""},
        "proof": {"ok": True, "source": {"beats_before": 5, "beats_after": 5, "stopped": True},
                  "destination": {"ran_for_ms": 1000.0, "beats_before": 5, "beats_after": 1005,
                                  "allocated_bytes": 4096, "guest_gap_ms": 101.0, "ok": True}},
        **changes,
    }  # fmt: skip


def test_the_widest_report_fits(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(report_of(), capsys)
    assert "migrated: the guest runs at the destination" in out
    assert "predicted 1.00 ms, +99.00 ms off" in out


@pytest.mark.parametrize(
    ("outcome", "guest", "words"),
    [
        ("failed", "source", "failed: the guest runs at the source"),
        ("not-converged", "source", "not converged: the guest runs at the source"),
        ("cancelled", "source", "cancelled: the guest runs at the source"),
        ("in-doubt", "unknown", "in doubt: find out which side runs the guest"),
    ],
)
def test_other_ends(
    outcome: str, guest: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(
        report_of(
            outcome=outcome,
            guest=guest,
            error="because [of] that",
            downtime=None,
            proof=None,
            oracle=None,
            rounds=[],
            rehearsal=None,
            verify=None,
            guest_gap_ms=None,
        ),
        capsys,
    )
    assert words in out
    assert ("because [of] that" in out) == (outcome != "cancelled")


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["oracle"].update(ok=False, message="page 7 is old"), "oracle page 7 is old"),
        (lambda r: r["verify"].update(mismatches=3), "verify 16,777,216 pages compared"),
        (lambda r: r["proof"]["source"].update(stopped=False), "one side"),
        (lambda r: r["proof"]["destination"].update(beats_after=5), "guest 0 heartbeats"),
    ],
)
def test_a_proof_that_fails_is_marked(
    change: Change, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of()
    change(report)
    marked = [row for row in shown(report, capsys).splitlines() if row.startswith("FAILED")]
    assert len(marked) == 1
    assert line in " ".join(marked[0].split())


def test_a_summary_survives_runs_without_downtime() -> None:
    failed = report_of(
        outcome="failed", downtime=None, predicted_downtime_ms=None, guest_gap_ms=None
    )
    document = summarize([failed])
    assert document["outcome"] == "failed"
    assert document["summary"]["downtime_ms"] is None
