# SPDX-License-Identifier: Apache-2.0
"""One guest received, watched from the main thread.

Until the guest runs here there is nothing to show. Once it runs ahead of its
pages, what is missing is shown, and whether the source can be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pymigrate.cli.views import LateLive, View
from pymigrate.cli.watch import Watch
from pymigrate.destination import Destination, MachineFactory
from pymigrate.options import Options
from pymigrate.report import Outcome, Report
from pymigrate.states import DestinationState, State

__all__ = ["RecvRun"]

_LATE = (DestinationState.POSTCOPY, DestinationState.RECOVERING, DestinationState.LOST)
_SHOWN = (*_LATE, DestinationState.RUNNING)


class RecvRun:
    """One guest to be received, with its audience.

    :ivar here: the destination; who made this closes it.
    """

    def __init__(self, listen: str, factory: MachineFactory, options: Options, view: View) -> None:
        self._watch, self._view = Watch(), view
        self._interrupted = False
        self._most_pages = 0
        self.here = Destination(listen, factory, replace(options, on_state=self._on_state))

    def run(self, timeout_ms: int | None, wait: bool) -> Report:
        """Receive. An interrupt ends it, unless the guest runs here already.

        :param timeout_ms: for a source to come; None: no limit.
        :param wait: for a source that stays out of reach, while the guest
            that runs here misses pages, until it comes or an interrupt does.
        """
        report = self._attempt(partial(self.here.serve_one, timeout_ms))
        while report.outcome is Outcome.INCOMPLETE and wait and not self._interrupted:
            self._view.note(report.error or "")
            self._view.note("the guest is kept and waits for the source: an interrupt gives it up")
            report = self._attempt(partial(self.here.recover, None))
        return report

    def _attempt(self, what: Callable[[], Report]) -> Report:
        return self._watch.run(what, "pmig-recv", self._look, self._interrupt)

    def _interrupt(self) -> None:
        self._interrupted = True
        if self.here.state is DestinationState.POSTCOPY:
            words = "too late to cancel: the guest runs here, and its pages follow"
            self._watch.tell(lambda: self._view.note(words))
        self.here.cancel()

    # ---- the audience --------------------------------------------------

    def _on_state(self, state: State) -> None:
        if state in _SHOWN:
            self._watch.tell(lambda: self._view.state(state.value))

    def _look(self) -> None:
        if self.here.state in (DestinationState.POSTCOPY, DestinationState.RECOVERING):
            left = self.here.missing_pages
            self._most_pages = max(self._most_pages, left)
            self._view.late(LateLive(left_pages=left, of_pages=self._most_pages))
