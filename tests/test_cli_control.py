# SPDX-License-Identifier: Apache-2.0
"""The control socket of ``send``, ``pymigrate recover``, and what send makes of both."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from late_reports import COMPLETED, INCOMPLETE

from pymigrate.addresses import parse_address
from pymigrate.cli import main, send_run
from pymigrate.cli.control import Control, Request, ask
from pymigrate.cli.exits import CommandError
from pymigrate.cli.send_run import SendRun
from pymigrate.cli.views import LateLive
from pymigrate.errors import TooLateError
from pymigrate.options import Options
from pymigrate.report import Guest, Outcome, Report
from pymigrate.source import SourceProgress
from pymigrate.states import SourceState
from pymigrate.tuning import Tuning

PATIENCE_S = 10.0


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with Control(str(tmp_path / "ctl")) as made:
        yield made


def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells of."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.01)


def next_request(control: Control) -> Request:
    """Polls, as its owner does."""
    found: list[Request] = []
    until(lambda: found.extend(control.taken()) or found)
    (request,) = found
    return request


def in_background(what: Callable[[], Any]) -> Callable[[], Any]:
    """Starts it; gives what waits for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(what()))
    thread.start()

    def result() -> Any:
        thread.join(PATIENCE_S)
        assert results, "it did not end"
        return results[0]

    return result


# ---- the socket -------------------------------------------------------------


def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    path = tmp_path / "ctl"
    before = os.umask(0)
    try:
        control = Control(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    control.close()
    control.close()
    assert not path.exists()


def test_a_request_and_its_answer(control: Control) -> None:
    target = parse_address("tcp:192.0.2.7:4444")
    events = in_background(lambda: list(ask(control.path, target)))
    request = next_request(control)
    assert request.target == target
    request.tell("state", state="recovering")
    request.answer({"outcome": "completed"}, 0)
    assert events() == [
        {"event": "state", "state": "recovering"},
        {"event": "report", "report": {"outcome": "completed"}, "exit_code": 0},
    ]


def test_a_refusal(control: Control) -> None:
    events = in_background(lambda: list(ask(control.path, None)))
    request = next_request(control)
    assert request.target is None
    request.refuse("not now")
    assert events() == [{"event": "refused", "message": "not now"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"recover\n", "Expecting value"),
        (b"[]\n", 'expected {"request": "recover"'),
        (b'{"request": "cancel"}\n', 'expected {"request": "recover"'),
        (b'{"request": "recover", "target": "coop"}\n', "is not an address"),
        (b'{"request": "recover", "target": "null:"}\n', "expected tcp:HOST:PORT"),
        (b"[" * 4000 + b"\n", "not a request"),
        (b"x" * 5000, "one line of at most 4096 bytes"),
        (b"\xff\xfe\n", "Expecting value"),
        (b"", "one line"),
    ],
)
def test_what_is_no_request_is_refused(control: Control, line: bytes, reason: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(control.path)
        sock.sendall(line)
        sock.shutdown(socket.SHUT_WR)
        answer = json.loads(sock.makefile().readline())
    assert answer["event"] == "refused" and reason in answer["message"]
    assert control.taken() == []
    # And it goes on taking requests.
    events = in_background(lambda: list(ask(control.path, None)))
    next_request(control).refuse("still here")
    assert events()[0]["message"] == "still here"


def test_who_is_gone_is_told_nothing_more(control: Control) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(control.path)
        sock.sendall(b'{"request": "recover", "target": null}\n')
        request = next_request(control)
    request.tell("state", state="recovering")
    request.answer({}, 4)


def test_what_nobody_took_is_refused_at_the_end(tmp_path: Path) -> None:
    control = Control(str(tmp_path / "ctl"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(control.path)
        sock.sendall(b'{"request": "recover", "target": null}\n')
        until(lambda: control._requests.qsize() > 0)
        control.close()
        answer = json.loads(sock.makefile().readline())
    assert answer["event"] == "refused"


def test_a_socket_in_use_is_left_alone(control: Control) -> None:
    with pytest.raises(CommandError, match="Name another path"):
        Control(control.path)
    assert Path(control.path).exists()


def test_a_socket_of_the_dead_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "ctl"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(CommandError, match="has ended"):
        next(ask(str(path), None))
    with Control(str(path)) as control:
        events = in_background(lambda: list(ask(control.path, None)))
        next_request(control).refuse("here")
        assert events()


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ctl"
    path.write_text("mine")
    with pytest.raises(CommandError, match="it exists"):
        Control(str(path))
    assert path.read_text() == "mine"


# ---- pymigrate recover ------------------------------------------------------


def recover(control: Control, *arguments: str) -> Callable[[], int]:
    return in_background(lambda: main(["recover", control.path, *arguments]))


def test_recover_shows_the_report(
    control: Control, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_path, html_path = tmp_path / "report.json", tmp_path / "report.html"
    code = recover(control, "--json", str(json_path), "--html", str(html_path))
    request = next_request(control)
    request.tell("state", state="post-copy")
    request.tell("late", late={"left_pages": 1, "of_pages": 2})
    request.tell("of a later version", something=1)
    request.answer(COMPLETED.to_dict(), 0)
    assert code() == 0
    captured = capsys.readouterr()
    assert "migrated: the guest runs at the destination" in captured.out
    assert "pages follow it" in captured.err
    assert json.loads(json_path.read_text())["late"]["outstanding_pages"] == 65_000
    assert "<svg" in html_path.read_text()


def test_recover_says_what_to_do_next(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    code = recover(control)
    next_request(control).answer(INCOMPLETE.to_dict(), 4)
    assert code() == 4
    words = " ".join(capsys.readouterr().out.split())
    assert "bring the destination within its reach and try again" in words


def test_recover_passes_refusals_on(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    code = recover(control)
    next_request(control).refuse("there is nothing to recover: the source is pre-copy")
    assert code() == 2
    assert "the source is pre-copy" in capsys.readouterr().err


def test_recover_names_an_address(control: Control) -> None:
    code = recover(control, "--to", "unix:somewhere.sock")
    request = next_request(control)
    # Ours may be another directory than theirs.
    assert str(request.target) == f"unix:{os.getcwd()}/somewhere.sock"
    request.answer(COMPLETED.to_dict(), 0)
    assert code() == 0


def test_recover_notices_that_send_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "ctl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        code = in_background(lambda: main(["recover", path]))
        sock, _ = listening.accept()
        sock.sendall(b'{"event": "state", "state": "recovering"}\n{"event": "rep')
        sock.recv(4096)
        sock.close()
    assert code() == 4
    assert "ended before it answered" in capsys.readouterr().err


# ---- send -------------------------------------------------------------------

S = SourceState


class ScriptedSource:
    """A source whose attempts end as they are told to.

    :ivar entered: an attempt has begun.
    """

    def __init__(self, on_state: Callable[[SourceState], None]) -> None:
        self.state = S.NEW
        self.tuning = Tuning()
        self.ends: list[tuple[SourceState, Report]] = []
        self.targets: list[Any] = []
        self.resolved = 0
        self.closed = threading.Event()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.during = S.PRECOPY
        self.owed_pages: int | None = None
        self._on_state = on_state

    def migrate(self) -> Report:
        return self._attempt(self.during)

    def recover(self, target: Any) -> Report:
        self.targets.append(target)
        return self._attempt(S.RECOVERING)

    def resolve(self) -> Report:
        self.resolved += 1
        return self._attempt(S.RESOLVING)

    def _attempt(self, state: SourceState) -> Report:
        self.state = state
        self._on_state(state)
        self.entered.set()
        while not self.go_on.wait(0.01) and not self.closed.is_set():
            pass
        self.state, report = self.ends.pop(0)
        self._on_state(self.state)
        return report

    def progress(self) -> SourceProgress:
        return SourceProgress(self.state, (), None, None, self.owed_pages)

    def cancel(self) -> None:
        raise TooLateError("too late")

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> ScriptedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Heard:
    """A view that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.states: list[str] = []
        self.figures: list[LateLive] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def state(self, state: str) -> None:
        self.states.append(state)

    def round(self, round: Any) -> None: ...

    def live(self, live: Any) -> None: ...

    def late(self, late: LateLive) -> None:
        self.figures.append(late)

    def close(self) -> None: ...


class Stage:
    """A SendRun with a scripted source, on a thread of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, control: Control | None) -> None:
        self.view = Heard()
        made: list[ScriptedSource] = []

        def make(machine: Any, target: str, options: Options) -> ScriptedSource:
            assert options.on_state is not None
            made.append(ScriptedSource(options.on_state))
            return made[-1]

        monkeypatch.setattr(send_run, "Source", make)
        self.run = SendRun(None, "unix:x", Options(), self.view, None, (), control)  # type: ignore[arg-type]
        (self.source,) = made
        self.source.ends = [(S.INCOMPLETE, INCOMPLETE), (S.COMPLETED, COMPLETED)]

    def begin(self) -> Callable[[], Report]:
        return in_background(self.run.run)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, control: Control) -> Stage:
    return Stage(monkeypatch, control)


def test_send_ends_where_nobody_can_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, None)
    stage.source.go_on.set()
    assert stage.begin()() is INCOMPLETE
    assert stage.source.closed.is_set() and stage.source.targets == []


def test_send_keeps_pages_and_tries_again(stage: Stage, control: Control) -> None:
    stage.source.go_on.set()
    report = stage.begin()
    target = parse_address("tcp:192.0.2.7:1")
    events = in_background(lambda: list(ask(control.path, target)))
    assert events()[-1]["exit_code"] == 0
    assert {"event": "state", "state": "recovering"} in events()
    assert report() is COMPLETED
    assert stage.source.targets == [target]
    assert any(f"`pymigrate recover {control.path}`" in note for note in stage.view.notes)
    assert INCOMPLETE.error in stage.view.notes


def test_an_attempt_that_fails_leaves_another(stage: Stage, control: Control) -> None:
    stage.source.ends.insert(0, (S.INCOMPLETE, INCOMPLETE))
    stage.source.go_on.set()
    report = stage.begin()
    assert list(ask(control.path, None))[-1]["exit_code"] == 4
    assert list(ask(control.path, None))[-1]["exit_code"] == 0
    assert report() is COMPLETED
    assert stage.source.targets == [None, None]


def test_what_is_asked_during_an_attempt_follows_it(stage: Stage, control: Control) -> None:
    stage.source.during = S.RECOVERING
    report = stage.begin()
    assert stage.source.entered.wait(PATIENCE_S)
    events = in_background(lambda: list(ask(control.path, None)))
    until(lambda: stage.run._requests)
    stage.source.go_on.set()
    assert events()[-1]["exit_code"] == 0
    assert "the source is recovering already" in events()[0]["text"]
    assert report() is COMPLETED and stage.source.targets == [None]


def test_what_an_attempt_brings_answers_who_waits(stage: Stage, control: Control) -> None:
    stage.source.during = S.RECOVERING
    stage.source.ends = [(S.COMPLETED, COMPLETED)]
    report = stage.begin()
    assert stage.source.entered.wait(PATIENCE_S)
    events = in_background(lambda: list(ask(control.path, None)))
    until(lambda: stage.run._requests)
    stage.source.go_on.set()
    assert events()[-1]["report"]["outcome"] == "completed"
    assert report() is COMPLETED and stage.source.targets == []


@pytest.mark.parametrize("state", [S.PRECOPY, S.POSTCOPY])
def test_nothing_to_recover(stage: Stage, control: Control, state: SourceState) -> None:
    stage.source.during = state
    stage.source.ends = [(S.COMPLETED, COMPLETED)]
    report = stage.begin()
    assert stage.source.entered.wait(PATIENCE_S)
    (refused,) = ask(control.path, None)
    assert f"the source is {state.value}" in refused["message"]
    stage.source.go_on.set()
    assert report() is COMPLETED


def test_a_doubt_is_resolved(stage: Stage, control: Control) -> None:
    doubt = replace(INCOMPLETE, outcome=Outcome.IN_DOUBT, guest=Guest.UNKNOWN)
    stage.source.ends[0] = (S.IN_DOUBT, doubt)
    stage.source.go_on.set()
    report = stage.begin()
    until(lambda: stage.source.state is S.IN_DOUBT)
    (refused,) = ask(control.path, parse_address("tcp:192.0.2.7:1"))
    assert "leave the address out" in refused["message"]
    assert list(ask(control.path, None))[-1]["exit_code"] == 0
    assert report() is COMPLETED and stage.source.resolved == 1


@pytest.mark.parametrize("kept", [True, False])
def test_giving_up(stage: Stage, control: Control, kept: bool) -> None:
    """Whether pages are kept, or the destination is still looked for."""
    stage.source.during = S.RECOVERING
    report = stage.begin()
    assert stage.source.entered.wait(PATIENCE_S)
    if kept:
        stage.source.go_on.set()
        until(lambda: stage.source.state is S.INCOMPLETE)
    stage.run.cancel("interrupted")
    assert report() is INCOMPLETE
    assert stage.source.closed.is_set() and stage.source.targets == []
    assert "giving up: interrupted" in stage.view.notes


def test_pages_on_their_way_are_not_cancelled(stage: Stage) -> None:
    stage.source.during = S.POSTCOPY
    stage.source.owed_pages = 77
    stage.source.ends = [(S.COMPLETED, COMPLETED)]
    report = stage.begin()
    assert stage.source.entered.wait(PATIENCE_S)
    stage.run.cancel("interrupted")
    until(lambda: stage.view.figures)
    assert not stage.source.closed.is_set()
    stage.source.go_on.set()
    assert report() is COMPLETED
    assert stage.view.figures[0] == LateLive(77, 77)
    assert any("too late to cancel" in note for note in stage.view.notes)


def test_an_interrupt_gives_up_what_is_kept(stage: Stage) -> None:
    """A real signal, on the main thread."""
    stage.source.go_on.set()

    def interrupt() -> None:
        until(lambda: stage.source.state is S.INCOMPLETE and stage.view.notes)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert stage.run.run() is INCOMPLETE
    thread.join()
    assert "giving up: interrupted" in stage.view.notes
