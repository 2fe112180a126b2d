# SPDX-License-Identifier: Apache-2.0
"""One run of the demo: two processes, one migration, and the proof.

The source's report says how it ended. Then whoever owns the guest lets it go
on for a while and asks the oracle, and the other side shows that its copy
stands still.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from pymigrate.cli.exits import CommandError, Exit
from pymigrate.cli.processes import Event, Inbox, Process
from pymigrate.cli.views import LateLive, Live, View

__all__ = ["run_pair"]

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 120.0


def run_pair(
    guest: Sequence[str],
    view: View,
    run_for_ms: int,
    ends: Sequence[Any] = (),
    receive: Sequence[str] = (),
) -> dict[str, Any]:
    """Migrate once; returns the report with its proof.

    :param guest: the options of ``send``.
    :param ends: the two ends of a shaped link, source first, or nothing.
    :param receive: the options of ``recv``.
    """
    inbox = Inbox()
    with contextlib.ExitStack() as stack:
        listen = ends[1].address if ends else _LOOPBACK
        fds = [end.namespace.fd for end in ends] or [-1, -1]
        destination = stack.enter_context(
            Process("the destination", ["recv", f"tcp:{listen}:0", *receive], inbox, fds[1])
        )
        run = _Run(inbox, view, destination)
        address = run.expect(destination, "listening", _START_TIMEOUT_S)["address"]
        source = stack.enter_context(
            Process("the source", ["send", address, *guest], inbox, fds[0])
        )
        view.note(f"source is process {source.pid}, destination is process {destination.pid}")
        return run.to_the_end(source, run_for_ms)


class _Run:
    """Follows both processes by their events."""

    def __init__(self, inbox: Inbox, view: View, destination: Process) -> None:
        self._inbox, self._view, self._destination = inbox, view, destination
        self._kept: dict[tuple[Process, str], Event] = {}
        self._gone: set[Process] = set()
        self._recovering: Process | None = None
        self._shown: dict[str, Callable[[Event], None]] = {
            "note": lambda event: view.note(event["text"]),
            "state": lambda event: view.state(event["state"]),
            "round": lambda event: view.round(event["round"]),
            "live": lambda event: view.live(Live(**event["live"])),
            "late": lambda event: view.late(LateLive(**event["late"])),
        }

    def to_the_end(self, source: Process, run_for_ms: int) -> dict[str, Any]:
        """Wait for the report, then for the proof."""
        report: dict[str, Any] = self._report(source)
        if report["outcome"] == "incomplete":
            # To read one of them would be to wait for it.
            return report
        if report["guest"] == "destination":
            self._view.note("the guest runs at the destination: letting it go on")
            return self._moved(source, report, run_for_ms)
        if report["guest"] == "source":
            self._view.note("the guest runs at the source: letting it go on")
            proof = self._prove(source, run_for_ms)
            return _with_proof(report, {"source": proof}, proof)
        return report

    def expect(self, process: Process, kind: str, timeout_s: float | None) -> Event:
        """Wait for an event of a process, showing what else comes.

        :raises CommandError: the process ended instead.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (process, kind) not in self._kept:
            if process in self._gone:
                code = _exit_of(process)
                raise CommandError(f"{process.name} ended: {process.last_words()}", code)
            self._take(*self._inbox.get(deadline))
        return self._kept.pop((process, kind))

    def _take(self, sender: Process, event: Event) -> None:
        kind = event["event"]
        if kind == "state":
            self._recovering = sender if event["state"] == "recovering" else None
        if kind == "gone":
            self._gone.add(sender)
        elif kind in self._shown:
            self._shown[kind](event)
        else:
            self._kept[sender, kind] = event
        if self._recovering is not None and self._destination in self._gone:
            # Nobody will ever answer there again.
            self._recovering.command("cancel")
            self._recovering = None

    def _report(self, source: Process) -> dict[str, Any]:
        """An interrupt cancels, and is seen in the report."""
        while True:
            try:
                found: dict[str, Any] = self.expect(source, "report", None)["report"]
                return found
            except KeyboardInterrupt:
                source.command("cancel")

    def _moved(self, source: Process, report: dict[str, Any], run_for_ms: int) -> dict[str, Any]:
        try:
            arrived = self.expect(self._destination, "report", _ANSWER_TIMEOUT_S)["report"]
            # Its last word may have been lost on the way to the source.
            report = {**report, "faults": report["faults"] or arrived["faults"]}
            before = self._heartbeats(source)
            there = self._prove(self._destination, run_for_ms)
            after = self._heartbeats(source)
        except CommandError as error:
            # The guest was handed over: whatever is lost now is lost for good.
            raise CommandError(str(error), Exit.OPERATOR) from error
        here = {"beats_before": before, "beats_after": after, "stopped": before == after}
        return _with_proof(report, {"source": here, "destination": there}, there)

    def _heartbeats(self, process: Process) -> int:
        process.command("heartbeats")
        return int(self.expect(process, "heartbeats", _ANSWER_TIMEOUT_S)["count"])

    def _prove(self, process: Process, run_for_ms: int) -> dict[str, Any]:
        process.command(f"prove {run_for_ms}")
        proof: dict[str, Any] = self.expect(process, "proof", _ANSWER_TIMEOUT_S)["proof"]
        return proof


def _exit_of(process: Process) -> Exit:
    """The child's own exit code, where it means that something went wrong."""
    code = process.wait()
    return Exit(code) if code in (Exit.USAGE, Exit.NOT_CONVERGED, Exit.OPERATOR) else Exit.FAILED


def _with_proof(
    report: dict[str, Any], sides: dict[str, Any], owner: dict[str, Any]
) -> dict[str, Any]:
    stopped = sides["source"].get("stopped", True)
    return {
        **report,
        "guest_gap_ms": owner["guest_gap_ms"],
        "oracle": owner["oracle"],
        "proof": {"ok": bool(owner["ok"] and stopped), **sides},
    }
