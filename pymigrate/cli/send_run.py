# SPDX-License-Identifier: Apache-2.0
"""One migration, watched from the main thread, which turns an interrupt into a
cancellation.

Where the guest has moved and pages of it have not, they are kept for as long
as somebody may ask for another attempt through the control socket.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from enum import Enum
from functools import partial
from typing import Any

from pymigrate.cli.control import Control, Request
from pymigrate.cli.tuning_values import TuneAfter, parse_tuning
from pymigrate.cli.views import LateLive, Live, View
from pymigrate.cli.watch import Watch
from pymigrate.errors import MigrateError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.report import Outcome, Report, RoundReport
from pymigrate.source import Source, SourceProgress
from pymigrate.states import SourceState, State

__all__ = ["SendRun", "plain_round"]

# Both sides keep what they have, and may try again.
_OPEN_ENDS = (Outcome.INCOMPLETE, Outcome.IN_DOUBT)
# Something is left to be recovered, or may soon be.
_RECOVERABLE = (
    SourceState.RESOLVING,
    SourceState.IN_DOUBT,
    SourceState.RECOVERING,
    SourceState.INCOMPLETE,
)


class SendRun:
    """One attempt to send a machine, with its audience.

    :param timeout_ms: cancel after this; None: never.
    :param tunings: changes of the tuning that follow a round.
    :param control: where further attempts are asked for; None: nowhere.
    :param finish: what is made of each report before anybody sees it.
    """

    def __init__(
        self,
        machine: Machine,
        target: str,
        options: Options,
        view: View,
        timeout_ms: int | None,
        tunings: Sequence[TuneAfter] = (),
        control: Control | None = None,
        finish: Callable[[Report], Report] = lambda report: report,
    ) -> None:
        self._watch, self._view = Watch(), view
        self._timeout_ms = timeout_ms
        self._deadline: float | None = None
        self._cancelled = False
        self._given_up = False
        self._tunings = tunings
        self._control, self._finish = control, finish
        self._requests: list[Request] = []
        self._most_pages = 0
        options = replace(options, on_state=self._on_state, on_round=self._on_round)
        self._source = Source(machine, target, options)

    def run(self) -> Report:
        """Migrate. An interrupt cancels, and is then seen in the report."""
        if self._timeout_ms is not None:
            self._deadline = time.monotonic() + self._timeout_ms / 1e3
        with self._source:
            report = self._attempt(self._source.migrate)
            while report.outcome in _OPEN_ENDS and self._await_request(report):
                request = self._requests[0]
                report = self._attempt(partial(self._again, request))
                self._requests.remove(request)
                self._answer(request, report)
        for request in self._requests:
            self._answer(request, report)
        return report

    def cancel(self, reason: str) -> None:
        """Ask it to end; it may be too late. Any thread.

        A destination that runs the guest, and is out of reach, is not looked
        for any longer.
        """
        if self._source.state in (SourceState.RECOVERING, SourceState.INCOMPLETE):
            self._give_up(reason)
        elif self._source.state is SourceState.POSTCOPY:
            self._say("too late to cancel: the guest has moved, and its pages follow")
        elif not self._cancelled:
            self._cancelled = True
            self._say(f"cancelling: {reason}")
            try:
                self._source.cancel()
            except MigrateError as error:
                self._say(str(error))

    def tune(self, changes: Sequence[str]) -> None:
        """Change the tuning, and say what came of it. Any thread.

        :param changes: like ``compress=zstd:3``.
        """
        try:
            tuning = parse_tuning(self._source.tuning, changes)
            self._source.tune(tuning)
        except (argparse.ArgumentTypeError, ValueError, MigrateError) as error:
            self._say(f"not tuned: {error}")
        else:
            self._say(f"tuned: {' '.join(changes)}")

    # ---- attempts ------------------------------------------------------

    def _attempt(self, what: Callable[[], Report]) -> Report:
        """Do it on a thread, and watch it to its end."""
        interrupt = partial(self.cancel, "interrupted")
        return self._finish(self._watch.run(what, "pmig-send", self._look, interrupt))

    def _again(self, request: Request) -> Report:
        if self._source.state is SourceState.IN_DOUBT:
            return self._source.resolve()
        return self._source.recover(request.target)

    def _await_request(self, report: Report) -> bool:
        """Wait until another attempt is asked for; False: nothing is kept."""
        if self._control is None or self._given_up:
            return False
        try:
            if not self._requests:
                self._view.note(report.error or "")
                how = f"`pymigrate recover {self._control.path}` tries again"
                self._view.note(f"everything is kept here: {how}, an interrupt gives up")
            while not self._requests and not self._given_up:
                self._watch.step()
                self._take_requests()
        except KeyboardInterrupt:
            self._give_up("interrupted")
        if self._given_up:
            # To say so.
            self._watch.step()
        return not self._given_up

    def _give_up(self, reason: str) -> None:
        self._given_up = True
        self._say(f"giving up: {reason}")
        self._source.close()

    # ---- the control socket --------------------------------------------

    def _take_requests(self) -> None:
        for request in self._control.taken() if self._control is not None else ():
            state = self._source.state
            if state not in _RECOVERABLE:
                request.refuse(f"there is nothing to recover: the source is {state.value}")
            elif state is SourceState.IN_DOUBT and request.target is not None:
                request.refuse(
                    "it is in doubt which side runs the guest, and the destination is asked "
                    "where it was told to run it: leave the address out"
                )
            else:
                if state is not SourceState.INCOMPLETE:
                    self._join(request, state)
                self._requests.append(request)

    def _join(self, request: Request, state: SourceState) -> None:
        """An attempt is under way: it may look elsewhere from now on."""
        if request.target is not None:
            self._source.retarget(request.target)
        request.tell("note", text=f"the source is {state.value} already")

    def _answer(self, request: Request, report: Report) -> None:
        request.answer(report.to_dict(), int(report.exit_code))

    # ---- the audience --------------------------------------------------

    def _say(self, words: str) -> None:
        self._watch.tell(lambda: self._view.note(words))

    def _on_state(self, state: State) -> None:
        self._watch.tell(lambda: self._show_state(state.value))

    def _show_state(self, state: str) -> None:
        self._view.state(state)
        for request in self._requests:
            request.tell("state", state=state)

    def _on_round(self, done: RoundReport) -> None:
        """On the thread that migrates, so the next round is already tuned."""
        self._watch.tell(lambda: self._view.round(plain_round(done)))
        for after in self._tunings:
            if done.epoch == after.round and done.kind == "fuzzy":
                self.tune(after.changes)

    def _look(self) -> None:
        self._take_requests()
        progress = self._source.progress()
        if progress.state in (SourceState.POSTCOPY, SourceState.RECOVERING):
            self._show_late(progress.owed_pages)
        elif progress.live is not None:
            self._view.live(_live(progress))
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._deadline = None
            # Whoever waits for pages elsewhere is not given up for that.
            if progress.state not in (SourceState.POSTCOPY, *_RECOVERABLE):
                self.cancel("the time limit is over")

    def _show_late(self, owed_pages: int | None) -> None:
        if owed_pages is None:
            return
        self._most_pages = max(self._most_pages, owed_pages)
        late = LateLive(left_pages=owed_pages, of_pages=self._most_pages)
        self._view.late(late)
        for request in self._requests:
            request.tell("late", late=asdict(late))


def _live(progress: SourceProgress) -> Live:
    live = progress.live
    assert live is not None
    return Live(
        round=int(live.epoch),
        blocks_done=live.blocks_done,
        blocks_total=live.blocks_total,
        sent_pages=live.sent_pages,
        wire_bytes=live.wire_bytes,
    )


def plain_round(done: RoundReport) -> dict[str, Any]:
    """A round as it is in the JSON report."""
    return {
        key: value.value if isinstance(value, Enum) else value
        for key, value in asdict(done).items()
    }
