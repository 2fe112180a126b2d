# SPDX-License-Identifier: Apache-2.0
"""Guests that move before their pages, as a user has it: demo, send, recv, recover."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PYMIGRATE, QUICK, SMALL, TIMEOUT_S, run
from test_demo import on_a_terminal

pytestmark = pytest.mark.uffd

# 24 MiB take 5 s, within which a test disturbs them.
SLOW = [
    "--memory",
    "24M",
    "--bandwidth-limit",
    "5",
    "--content",
    "random",
    "--compress",
    "none",
    "--delta",
    "off",
]
BOTH = ["kvm", "threads"]
BACKENDS = [pytest.param(name, marks=pytest.mark.kvm if name == "kvm" else ()) for name in BOTH]


def demo(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and stderr of a small demo."""
    done = run("demo", *QUICK, *arguments, "--json", "-")
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def check_late(report: dict[str, Any]) -> None:
    """Everything arrived late, and nothing was lost."""
    assert (report["outcome"], report["guest"]) == ("completed", "destination")
    assert report["oracle"]["ok"] and report["proof"]["ok"]
    late, faults = report["late"], report["faults"]
    assert report["missing_pages"] == 0 and late["missing_pages"] == 0
    assert 0 < late["outstanding_pages"] <= late["sent_pages"]
    assert late["answered_pages"] <= late["sent_pages"] and late["duration_ms"] > 0
    assert report["rounds"][-1]["kind"] == "late"
    assert faults["last_page_ms"] > 0
    if faults["count"]:
        assert 0 < faults["p50_us"] <= faults["p90_us"] <= faults["p99_us"] <= faults["max_us"]
        assert len(faults["samples"]) <= faults["count"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_demo_without_any_round(backend: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, report, errors = demo("--backend", backend, "--post-copy", "now", "--html", str(page))
    assert code == 0, errors
    check_late(report)
    assert report["late"]["reason"] == "as asked for, before any round"
    assert [done["kind"] for done in report["rounds"]][:2] == ["fuzzy", "fuzzy"]
    assert report["rounds"][0]["outstanding_pages"] > 0
    assert "pages follow it" in errors and "pages that follow" in errors
    assert 'aria-label="Rounds over time"' in page.read_text()


def test_demo_after_the_first_round() -> None:
    code, report, errors = demo("--post-copy", "after-first-round")
    assert code == 0, errors
    check_late(report)
    assert report["rounds"][0]["sent_pages"] > report["late"]["sent_pages"]


def test_demo_that_needs_no_post_copy() -> None:
    code, report, errors = demo("--post-copy", "auto")
    assert code == 0, errors
    assert report["late"] is None and report["rounds"][-1]["kind"] == "sealed"


@pytest.mark.netns
def test_a_guest_that_dirties_too_fast_goes_ahead() -> None:
    slow = ("--link", "200mbit", "--compress", "none", "--delta", "off", "--post-copy", "auto")
    code, report, errors = demo(*slow, "--dirty-rate", "unlimited", "--downtime-limit-ms", "20")
    assert code == 0, errors
    check_late(report)
    assert "dirties" in report["late"]["reason"]


def test_the_report_of_a_demo_fits() -> None:
    done = run("demo", *QUICK, "--post-copy", "now", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "Pages that followed the guest" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "pages are to follow the guest" in done.stderr


def test_a_destination_that_dies_is_not_waited_for(tmp_path: Path) -> None:
    line = [*PYMIGRATE, "demo", *QUICK, *SLOW, "--post-copy", "now"]
    json_path = tmp_path / "report.json"
    with subprocess.Popen(
        [*line, "--json", str(json_path)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        errors = Reader(process)
        pids = re.findall(r"is process (\d+)", errors.until("source is process"))
        errors.until("pages follow it")
        os.kill(int(pids[1]), signal.SIGKILL)
        rest = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 4, rest
    report = json.loads(json_path.read_text())
    assert report["outcome"] == "incomplete" and report["missing_pages"] > 0


# ---- send, recv and recover -------------------------------------------------


class Reader:
    """What a process says on stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.text = process, ""

    def until(self, words: str) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.text += line
            if words in line:
                return line
        pytest.fail(f"it ended before it said {words!r}: {self.text}")


class Relay:
    """Passes connections on to another port until it is cut."""

    def __init__(self, port: int) -> None:
        self._port, self._cut = port, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._socks: list[socket.socket] = [self._listening]
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def address(self) -> str:
        return f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"

    def _start(self, what: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=what, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._socks += [here, there]
                    if self._cut:
                        _close([here, there])
                        return
                self._start(self._pump, here, there)
                self._start(self._pump, there, here)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Nothing comes through any more, and nobody can connect; idempotent."""
        with self._lock:
            self._cut = True
            _close(self._socks)
        for thread in self._threads:
            thread.join()
        for sock in self._socks:
            sock.close()


def _close(socks: list[socket.socket]) -> None:
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Scene:
    """A ``recv``, a relay before it, and a ``send`` through that, in post-copy."""

    def __init__(self, tmp_path: Path, recv: list[str], send: list[str]) -> None:
        self._stack = contextlib.ExitStack()
        self.control = str(tmp_path / "ctl")
        self.reports = {name: tmp_path / f"{name}.json" for name in ("send", "recv", "recover")}
        self.there = self._popen("recv", "tcp:127.0.0.1:0", "--run-for", "100ms", *recv)
        self.recv = Reader(self.there)
        self.port = int(self.recv.until("listening on").rsplit(":", 1)[1])
        self.relay = self.new_relay()
        words = [*SMALL, *SLOW, "--post-copy", "now", *send]
        self.here = self._popen("send", self.relay.address, *words)
        self.send = Reader(self.here)

    def new_relay(self) -> Relay:
        relay = Relay(self.port)
        self._stack.callback(relay.cut)
        return relay

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        line = [*PYMIGRATE, name, *arguments, "--json", str(self.reports[name])]
        process = self._stack.enter_context(
            subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        )
        self._stack.callback(process.kill)
        return process

    def recover(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("recover", self.control, *arguments, "--json", str(self.reports["recover"]))

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code, and what it said at last."""
        rest = process.communicate(timeout=TIMEOUT_S)[1]
        return process.returncode, rest

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.reports[name].read_text())
        return found

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Any]:
    """Makes a scene; none of its processes outlives the test."""
    with contextlib.ExitStack() as stack:

        def make(recv: list[str], send: list[str]) -> Scene:
            scene = Scene(tmp_path, recv, send)
            stack.callback(scene.close)
            return scene

        yield make


def test_a_guest_arrives_whole_without_its_pages(scenes: Any) -> None:
    scene = scenes([], ["--bandwidth-limit", "off"])
    assert scene.end(scene.here)[0] == 0
    code, errors = scene.end(scene.there)
    assert code == 0, errors
    assert "pages follow it" in scene.send.text + errors
    report = scene.report("recv")
    assert report["oracle"]["ok"] and report["faults"]["last_page_ms"] > 0
    assert report["missing_pages"] == 0


def test_a_connection_that_breaks_is_made_again(scenes: Any) -> None:
    """By itself: the destination can still be reached where it was."""
    scene = scenes([], [])
    scene.send.until("pages follow it")
    with scene.relay._lock:
        _close(scene.relay._socks[1:])
    scene.send.until("recovering")
    code, errors = scene.end(scene.here)
    assert code == 0, errors
    assert scene.end(scene.there)[0] == 0
    assert scene.report("send")["late"]["recoveries"] >= 1
    assert scene.report("recv")["oracle"]["ok"]


def test_recover_brings_the_pages_another_way(scenes: Any, tmp_path: Path) -> None:
    scene = scenes([], ["--control", str(tmp_path / "ctl"), "--recover-timeout", "1s"])
    scene.send.until("pages follow it")
    refused = scene.recover()
    assert refused.returncode == 2 and "the source is post-copy" in refused.stderr
    scene.relay.cut()
    scene.send.until("everything is kept here")
    in_vain = scene.recover()
    assert in_vain.returncode == 4, in_vain.stderr
    assert "try again" in in_vain.stdout
    assert scene.report("recover")["missing_pages"] > 0
    done = scene.recover("--to", scene.new_relay().address)
    assert done.returncode == 0, done.stderr
    assert "pages follow it" in done.stderr and "migrated" in done.stdout
    code, errors = scene.end(scene.here)
    assert code == 0, errors
    code, errors = scene.end(scene.there)
    assert code == 0, errors
    report = scene.report("recv")
    assert report["oracle"]["ok"] and report["missing_pages"] == 0
    assert scene.report("recover")["late"]["recoveries"] >= 1
    assert not (tmp_path / "ctl").exists()


def test_both_sides_give_up(scenes: Any) -> None:
    limit = ["--recover-timeout", "1s"]
    scene = scenes(limit, limit)
    scene.send.until("pages follow it")
    scene.relay.cut()
    code, errors = scene.end(scene.here)
    assert code == 4, errors
    code, errors = scene.end(scene.there)
    assert code == 4 and "out of reach" in errors
    for name in ("send", "recv"):
        report = scene.report(name)
        assert (report["outcome"], report["guest"]) == ("incomplete", "destination")
        assert report["missing_pages"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_gives_up_what_is_kept(
    scenes: Any, tmp_path: Path, number: signal.Signals
) -> None:
    scene = scenes(
        ["--recover-timeout", "1s", "--pause-when-lost"],
        ["--recover-timeout", "1s", "--control", str(tmp_path / "ctl")],
    )
    scene.send.until("pages follow it")
    scene.relay.cut()
    scene.send.until("everything is kept here")
    scene.recv.until("waits for the source")
    for process in (scene.here, scene.there):
        process.send_signal(number)
        code, errors = scene.end(process)
        assert code == 4 and "Traceback" not in errors
    assert scene.report("send")["outcome"] == scene.report("recv")["outcome"] == "incomplete"


def test_a_guest_that_was_paused_goes_on(scenes: Any, tmp_path: Path) -> None:
    limit = ["--recover-timeout", "1s"]
    scene = scenes([*limit, "--pause-when-lost"], [*limit, "--control", str(tmp_path / "ctl")])
    scene.send.until("pages follow it")
    scene.relay.cut()
    scene.send.until("everything is kept here")
    scene.recv.until("waits for the source")
    assert scene.recover("--to", scene.new_relay().address).returncode == 0
    code, errors = scene.end(scene.there)
    assert code == 0, errors
    assert scene.report("recv")["oracle"]["ok"]


# ---- on a terminal ----------------------------------------------------------


def test_a_terminal_sees_pages_become_fewer() -> None:
    slow = [*SLOW, "--bandwidth-limit", "20"]
    code, written = on_a_terminal([*PYMIGRATE, "demo", *QUICK, *slow, "--post-copy", "now"])
    assert code == 0, written
    left = [int(pages.replace(",", "")) for pages in re.findall(r"([\d,]+) pages left", written)]
    assert len(left) > 2 and left == sorted(left, reverse=True)
    assert max(int(percent) for percent in re.findall(r"(\d+) %", written)) < 100
    assert "Pages that followed the guest" in written
