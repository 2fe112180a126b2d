# SPDX-License-Identifier: Apache-2.0
"""Usage, help, and send and recv as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PYMIGRATE, SMALL, TIMEOUT_S, run

from pymigrate import host
from pymigrate.cli import main
from pymigrate.cli.processes import Inbox, Process

# ---- usage ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["demo", "--memory", "63M"], "multiple of 2M"),
        (["demo", "--memory", "4M"], "from 8M"),
        (["demo", "--memory", "much"], "is not a size"),
        (["demo", "--memory", "32M", "--working-set", "64M"], "is more than --memory"),
        (["demo", "--link", "40gbit"], "32gbit"),
        (["send", "null:", "--guest", "partial", "--write-bytes", "63"], "multiple of 8"),
        (["send", "null:", "--tick-hz", "10001"], "above 10000"),
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


def test_two_guests_must_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "mem_available_bytes", lambda: 100 << 20)
    assert main(["demo", "--memory", "64M"]) == 2
    assert "two guests of 64.0 MiB do not fit into the 100.0 MiB" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "send", "recv", "recover", "inspect", "check"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"\n  pymigrate {command}" in text
    for hidden in ("--netns", "--events", "--hold"):
        assert hidden not in text


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    line = f"{sys.executable} -m pymigrate check | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "Traceback" not in done.stderr


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


@pytest.mark.uffd
def test_guest_runs_out_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "guest.pmig"
    assert run("send", f"file:{path}", *SMALL, "--content", "mixed").returncode == 0
    first = run("recv", f"file:{path}", "--lazy", "--run-for", "100ms")
    assert first.returncode == 0, first.stderr
    assert "Memory from the file" in first.stdout and "none was recorded" in first.stdout
    loaded = run("recv", f"file:{path}", "--lazy", "--run-for", "100ms", "--json", "-")
    report = json.loads(loaded.stdout)
    restore = report["restore"]
    assert report["oracle"]["ok"] and report["missing_pages"] == restore["missing_pages"] == 0
    assert restore["known_pages"] > 0 and restore["running_ms"] > 0
    assert run("recv", f"unix:{tmp_path}/guest.sock", "--lazy").returncode == 2


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


# ---- children of demo and of the benchmarks ---------------------------------


def test_a_held_source_waits_for_go() -> None:
    inbox = Inbox()
    with Process("source", ["send", "null:", *SMALL, "--hold"], inbox) as source:
        while (event := inbox.get()[1])["event"] != "held":
            assert event["event"] == "note"
        source.command("go")
        while (event := inbox.get()[1])["event"] != "report":
            pass
        assert event["report"]["outcome"] == "completed"


def test_a_held_source_goes_with_its_parent() -> None:
    inbox = Inbox()
    with Process("source", ["send", "null:", *SMALL, "--hold"], inbox) as source:
        while inbox.get()[1]["event"] != "held":
            pass
    assert source.wait() == 3
