# SPDX-License-Identifier: Apache-2.0
"""What somebody sees of a migration while it goes on.

A view is told of states, rounds and live figures. One writes plain lines,
one draws (:mod:`pymigrate.cli.live`), and one passes everything on as JSON
lines to the process that started this one.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from pymigrate.cli.units import count_words, size_words, time_words
from pymigrate.page.rounds import names_pages

__all__ = [
    "ENDS",
    "STATE_WORDS",
    "EventView",
    "LateLive",
    "Live",
    "PlainView",
    "View",
    "make_view",
    "round_words",
]

# States worth a line of their own, and how they are called there.
STATE_WORDS = {
    "handshake": "asking the destination",
    "rehearsing": "rehearsing the switchover",
    "quiescing": "switching over: the guest is paused",
    "verifying": "verifying every page",
    "committing": "handing the guest over",
    "resolving": "asking the destination what became of the guest",
    "rolling-back": "rolling back: the guest goes on at the source",
    # Of either side.
    "post-copy": "the guest has moved, and runs: pages follow it",
    "recovering": "recovering: pages are missing, and the other side is out of reach",
    "incomplete": "pages are missing at the destination, which is out of reach",
    "lost": "pages are missing, and the source stays out of reach",
}

# States after which nothing more is sent, unless it is recovered.
ENDS = (
    "running",
    "completed",
    "failed",
    "cancelled",
    "not-converged",
    "in-doubt",
    "incomplete",
    "lost",
)


@dataclass(frozen=True)
class Live:
    """Figures of the round under way; sent_pages and wire_bytes are totals."""

    round: int
    blocks_done: int
    blocks_total: int
    sent_pages: int
    wire_bytes: int


@dataclass(frozen=True)
class LateLive:
    """Pages that follow the guest: how many are left, of how many at the most."""

    left_pages: int
    of_pages: int


class View(Protocol):
    """All methods are called on the main thread."""

    def note(self, text: str) -> None: ...

    def state(self, state: str) -> None: ...

    def round(self, round: Mapping[str, Any]) -> None: ...

    def live(self, live: Live) -> None: ...

    def late(self, late: LateLive) -> None: ...

    def close(self) -> None: ...


class PlainView:
    """Lines for a log: no live figures, no control characters.

    Any thread may note something: a page server's sessions end side by side.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        # print() writes the end of the line by itself, after other threads' words.
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def state(self, state: str) -> None:
        if words := STATE_WORDS.get(state):
            self.note(words)

    def round(self, round: Mapping[str, Any]) -> None:
        self.note(round_words(round))

    def live(self, live: Live) -> None: ...

    def late(self, late: LateLive) -> None: ...

    def close(self) -> None: ...


class EventView:
    """JSON lines on a file descriptor; any thread may write events to it."""

    def __init__(self, fd: int) -> None:
        self._file = open(fd, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
        self._lock = threading.Lock()

    def emit(self, event: str, **fields: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"event": event, **fields}) + "\n")

    def note(self, text: str) -> None:
        self.emit("note", text=text)

    def state(self, state: str) -> None:
        self.emit("state", state=state)

    def round(self, round: Mapping[str, Any]) -> None:
        self.emit("round", round=dict(round))

    def live(self, live: Live) -> None:
        self.emit("live", live=asdict(live))

    def late(self, late: LateLive) -> None:
        self.emit("late", late=asdict(late))

    def close(self) -> None:
        self._file.close()


_NAMES = {"sealed": "final round", "late": "late pages"}


def round_words(round: Mapping[str, Any]) -> str:
    """One round as a line of 80 columns."""
    name = _NAMES.get(round["kind"], f"round {round['epoch']}")
    words = f"{name}: {size_words(round['wire_bytes'])} in {time_words(round['duration_ms'])}"
    if names_pages(round):
        return f"{words}, names {count_words(round['outstanding_pages'])} pages that follow"
    if round["kind"] in _NAMES:
        return words
    return (
        f"{words}, {count_words(round['pending_pages'])} pages dirtied, "
        f"predicted downtime {time_words(round['predicted_downtime_ms'])}"
    )


def make_view(quiet: bool = False, verbose: bool = False) -> View:
    """Drawn on a terminal, plain lines elsewhere, nothing when quiet.

    :param verbose: explain every round.
    """
    from pymigrate.cli.console import stderr

    if quiet:
        return NoView()
    console = stderr()
    view: View = PlainView()
    if sys.stderr.isatty():
        from pymigrate.cli.live import LiveView

        view = LiveView(console)
    if not verbose:
        return view
    from pymigrate.cli.verbose import VerboseView

    return VerboseView(view, console)


class NoView:
    """Shows nothing."""

    def note(self, text: str) -> None: ...

    def state(self, state: str) -> None: ...

    def round(self, round: Mapping[str, Any]) -> None: ...

    def live(self, live: Live) -> None: ...

    def late(self, late: LateLive) -> None: ...

    def close(self) -> None: ...
