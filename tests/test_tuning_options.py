# SPDX-License-Identifier: Apache-2.0
"""The tuning options of the command line, and tuning while it runs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PYMIGRATE, QUICK, SMALL, TIMEOUT_S, run

from pymigrate import Choice, Compression, Tuning
from pymigrate.cli.main import build_parser
from pymigrate.cli.migration_options import migration_options
from pymigrate.cli.tuning_options import tuning_words
from pymigrate.cli.tuning_values import TuneAfter, parse_tune_after, parse_tuning

CPU = str(min(os.sched_getaffinity(0)))
ALL = [
    *("--compress", "zstd:-5", "--delta", "on", "--delta-memory", "16M", "--zero-copy", "off"),
    *("--bandwidth-limit", "100", "--channels", "3", "--cpus", CPU),
    *("--tune-after", "2:compress=lz4:8,channels=auto", "--tune-after", "1:delta=off"),
]


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["send", "null:", *arguments])


def test_nothing_given_is_all_automatic() -> None:
    args = parsed()
    options = migration_options(args)
    assert options.channels is None and options.delta_memory_bytes is None
    assert options.tuning == Tuning() and options.cpus == () and args.tune_after == []


def test_all_options() -> None:
    options = migration_options(parsed(*ALL))
    assert options.tuning == Tuning(
        compression=Compression.ZSTD,
        compression_level=-5,
        delta=Choice.ON,
        zero_copy=Choice.OFF,
        active_channels=3,
        bandwidth_limit_bytes_per_s=100 << 20,
    )
    assert options.delta_memory_bytes == 16 << 20
    assert options.cpus == (int(CPU),)


@pytest.mark.parametrize("arguments", [[], ALL, ["--delta-memory", "off"]])
def test_options_survive_the_way_to_another_process(arguments: list[str]) -> None:
    args = parsed(*arguments)
    again = parsed(*tuning_words(args))
    assert migration_options(again) == migration_options(args)
    assert again.tune_after == args.tune_after


@pytest.mark.parametrize(
    ("text", "limit"), [("1", 1 << 20), ("512K", 512 << 10), ("3b", 3), ("off", None)]
)
def test_limit_is_in_mib_unless_it_says_otherwise(text: str, limit: int | None) -> None:
    assert parsed("--bandwidth-limit", text).bandwidth_limit == limit


def test_list_of_processors() -> None:
    assert parsed("--cpus", "7,0-2,1").cpus == (0, 1, 2, 7)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    from pymigrate.cli import main

    try:
        code = main(["send", "null:", *arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--compress", "zip", "write auto, none, lz4[:1 to 64] or zstd[:-50 to 19]"),
        ("--compress", "zstd:20", "zstd[:-50 to 19]"),
        ("--compress", "zstd:", "zstd[:-50 to 19]"),
        ("--compress", "auto:3", "write auto"),
        ("--delta", "maybe", "neither auto, on nor off"),
        ("--zero-copy", "yes", "neither auto, on nor off"),
        ("--delta-memory", "0", "write a size, or off"),
        ("--bandwidth-limit", "0", "write MiB per second, or off"),
        ("--bandwidth-limit", "fast", "is not a size"),
        ("--channels", "0", "from 1 on"),
        ("--cpus", "1-", "like 0,2-3"),
        ("--cpus", "3-2", "like 0,2-3"),
        ("--cpus", "0-99999999999", "like 0,2-3"),
        ("--cpus", "65000", "not among those of this process"),
        ("--tune-after", "x:delta=on", "from 1 on"),
        ("--tune-after", "1", "is not ROUND:KEY=VALUE"),
        ("--tune-after", "1:speed=high", "KEY of: compress, delta, zero-copy"),
        ("--tune-after", "1:delta=perhaps", "neither auto, on nor off"),
    ],
)
def test_usage_errors(
    option: str, value: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refusal(capsys, option, value)


def test_delta_needs_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert "delta is on and has no memory" in refusal(
        capsys, "--delta", "on", "--delta-memory", "off"
    )


def test_changes_leave_the_rest_alone() -> None:
    before = Tuning(delta=Choice.OFF, active_channels=2)
    after = parse_tuning(before, ["compress=zstd:3", "bandwidth-limit=512K", "channels=auto"])
    assert after == Tuning(
        compression=Compression.ZSTD,
        compression_level=3,
        delta=Choice.OFF,
        bandwidth_limit_bytes_per_s=512 << 10,
    )
    assert parse_tuning(after, ["compress=auto"]).compression_level == 0
    assert parse_tune_after("3:delta=on,zero-copy=on") == TuneAfter(3, ("delta=on", "zero-copy=on"))


# ---- while it runs -----------------------------------------------------------


def test_demo_is_tuned_after_a_round() -> None:
    changes = "compress=zstd:3,delta=off,bandwidth-limit=900"
    done = run("demo", *QUICK, "--verbose", "--tune-after", f"1:{changes}", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["oracle"]["ok"]
    first, *rest = report["rounds"]
    assert "by the cost model" in first["choices"]["compression"]
    assert "bandwidth limit" not in first["choices"]
    for later in rest:
        assert later["choices"]["compression"].endswith("as asked for")
        assert later["choices"]["bandwidth limit"] == "900.0 MiB/s, as asked for"
    assert report["config"]["tuning"] == {
        "compression": "zstd",
        "compression_level": 3,
        "delta": "off",
        "zero_copy": "auto",
        "active_channels": None,
        "bandwidth_limit_bytes_per_s": 900 << 20,
    }
    assert "tuned: compress=zstd:3 delta=off" in done.stderr
    assert "delta: off, as asked for" in done.stderr and "encoding" in done.stderr


class Sending:
    """``send`` as demo runs it: events on a descriptor, commands on stdin."""

    def __init__(self, target: str, *arguments: str) -> None:
        read_fd, write_fd = os.pipe()
        line = [*PYMIGRATE, "send", target, *SMALL, *arguments, "--events", str(write_fd)]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, pass_fds=[write_fd], text=True)
        os.close(write_fd)
        self.events = open(read_fd, encoding="utf-8")  # noqa: SIM115

    def command(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def until(self, event: str, words: str = "") -> dict[str, Any]:
        for line in self.events:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event and words in found.get("text", ""):
                return found
        raise AssertionError(f"it ended without {event} {words!r}")

    def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(TIMEOUT_S)
        self.events.close()
        return code


@pytest.fixture
def started() -> Iterator[Callable[[Sending], Sending]]:
    """Whatever happens, it does not outlive the test."""
    found: list[Sending] = []

    def keep(sending: Sending) -> Sending:
        found.append(sending)
        return sending

    yield keep
    for sending in found:
        sending.close()


def test_commands_tune_a_running_migration(
    tmp_path: Path, started: Callable[[Sending], Sending]
) -> None:
    address = f"unix:{tmp_path}/guest.sock"
    line = [*PYMIGRATE, "recv", address, "--run-for", "100ms", "--cpus", CPU]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as there:
        assert there.stderr is not None
        there.stderr.readline()
        # Until it is tuned it sends 32 MiB at 4 MiB/s, and so waits for us.
        sending = started(Sending(address, "--content", "random", "--bandwidth-limit", "4"))
        sending.until("state")
        sending.command("tune compress=brotli")
        assert "not tuned" in sending.until("note", "tuned")["text"]
        sending.command("tune bandwidth-limit=off compress=none channels=1")
        assert sending.until("note", "tuned: bandwidth-limit=off")
        report = sending.until("report")["report"]
        there.communicate(timeout=TIMEOUT_S)
    sending.command("tune delta=off")
    assert "not tuned: nothing is being sent" in sending.until("note")["text"]
    assert sending.close() == 0
    assert report["outcome"] == "completed"
    tuning = report["config"]["tuning"]
    assert (tuning["compression"], tuning["active_channels"]) == ("none", 1)
    assert tuning["bandwidth_limit_bytes_per_s"] is None
