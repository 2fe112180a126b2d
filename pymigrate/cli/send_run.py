# SPDX-License-Identifier: Apache-2.0
"""Run one migration on a thread, and watch it from the main thread.

A signal handler of Python runs on the main thread and between two steps of
the interpreter only. So the main thread never enters the engine: it waits in
short steps, shows what is new, and turns an interrupt into a cancellation.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from enum import Enum
from typing import Any

from pymigrate.cli.tuning_values import TuneAfter, parse_tuning
from pymigrate.cli.views import Live, View
from pymigrate.errors import MigrateError
from pymigrate.machine import Machine
from pymigrate.options import Options
from pymigrate.report import Report, RoundReport
from pymigrate.source import Source

__all__ = ["SendRun", "plain_round"]

_STEP_S = 0.1


class SendRun:
    """One attempt to send a machine, with its audience.

    :param timeout_ms: cancel after this; None: never.
    :param tunings: changes of the tuning that follow a round.
    """

    def __init__(
        self,
        machine: Machine,
        target: str,
        options: Options,
        view: View,
        timeout_ms: int | None,
        tunings: Sequence[TuneAfter] = (),
    ) -> None:
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._view = view
        self._timeout_ms = timeout_ms
        self._result: Report | None = None
        self._error: BaseException | None = None
        self._cancelled = False
        self._tunings = tunings
        options = replace(
            options,
            on_state=lambda state: self._news.put(lambda: view.state(state.value)),
            on_round=self._on_round,
        )
        self._source = Source(machine, target, options)
        self._thread = threading.Thread(target=self._migrate, name="pmig-send")

    def run(self) -> Report:
        """Migrate. An interrupt cancels, and is then seen in the report."""
        deadline = None if self._timeout_ms is None else time.monotonic() + self._timeout_ms / 1e3
        with self._source:
            self._thread.start()
            while self._thread.is_alive():
                try:
                    self._watch()
                    if deadline is not None and time.monotonic() > deadline:
                        deadline = None
                        self.cancel("the time limit is over")
                except KeyboardInterrupt:
                    self.cancel("interrupted")
            self._thread.join()
            self._show_news(0)
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel(self, reason: str) -> None:
        """Ask it to end; it may be too late. Any thread."""
        if self._cancelled:
            return
        self._cancelled = True
        self._news.put(lambda: self._view.note(f"cancelling: {reason}"))
        try:
            self._source.cancel()
        except MigrateError as error:
            words = str(error)
            self._news.put(lambda: self._view.note(words))

    def tune(self, changes: Sequence[str]) -> None:
        """Change the tuning, and say what came of it. Any thread.

        :param changes: like ``compress=zstd:3``.
        """
        try:
            tuning = parse_tuning(self._source.tuning, changes)
            self._source.tune(tuning)
        except (argparse.ArgumentTypeError, ValueError, MigrateError) as error:
            words = f"not tuned: {error}"
        else:
            words = f"tuned: {' '.join(changes)}"
        self._news.put(lambda: self._view.note(words))

    def _on_round(self, done: RoundReport) -> None:
        """On the thread that migrates, so the next round is already tuned."""
        self._news.put(lambda: self._view.round(plain_round(done)))
        for after in self._tunings:
            if done.epoch == after.round and done.kind == "fuzzy":
                self.tune(after.changes)

    def _migrate(self) -> None:
        try:
            self._result = self._source.migrate()
        except BaseException as error:
            self._error = error

    def _watch(self) -> None:
        self._show_news(_STEP_S)
        progress = self._source.progress()
        if progress.live is not None:
            self._view.live(
                Live(
                    round=int(progress.live.epoch),
                    blocks_done=progress.live.blocks_done,
                    blocks_total=progress.live.blocks_total,
                    sent_pages=progress.live.sent_pages,
                    wire_bytes=progress.live.wire_bytes,
                )
            )

    def _show_news(self, timeout_s: float) -> None:
        """Everything new; waits for the first piece of news only."""
        try:
            self._news.get(timeout_s > 0, timeout_s)()
            while True:
                self._news.get_nowait()()
        except queue.Empty:
            pass


def plain_round(done: RoundReport) -> dict[str, Any]:
    """A round as it is in the JSON report."""
    return {
        key: value.value if isinstance(value, Enum) else value
        for key, value in asdict(done).items()
    }
